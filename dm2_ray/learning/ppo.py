"""The losses of one agent's PPO, and the normalization of its value targets.

Shapes: S steps (or the R steps of a minibatch: any fixed order), A actions.

Two masks, because a dead agent still earns the team's reward:
  * policy, entropy and their statistics are means over the steps at which the agent was alive;
  * the value loss is a mean over all steps of the battle.
A step outside a mask contributes exactly zero gradient, whatever its numbers are.

Sources: Schulman et al. 2017 (arXiv 1707.06347) for the clipped objective, Yu et al. 2021 (arXiv 2103.01955) for the
clipped Huber value loss on normalized targets and for the death mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from dm2_ray.config.schema import PPOSettings


class ValueNormalizer(nn.Module):
    """Running mean and standard deviation of the returns; the critic works in units of them.

    Statistics are exponential averages over updates, corrected for their start value: with weights
    w_j = (1 - beta) beta^(k-j) over the batches j = 1 ... k, mean and mean square are sum_j w_j m_j / sum_j w_j. They
    are kept as mean and variance (merged by Chan's formula), which single precision holds without cancellation.
    One update is meant to see the returns of one iteration, so beta = 0.99 remembers about a hundred iterations: the
    returns of a team that learns to win, and the rewards of a discriminator that learns, drift over a run, and an
    average over the whole run (Yu et al. use beta = 0.99999) would lag behind them.

    Before the first update normalizing is the identity. There are buffers only, so it is saved with the module and
    never trained.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, beta: float = 0.99, minimum_std: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"beta must lie in [0, 1), found {beta}")
        self.beta = beta
        self.minimum_std = minimum_std
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def update(self, targets: Tensor, mask: Tensor | None = None) -> None:
        """Take in one batch of returns [S]; `mask` [S] bool selects the ones that count. An empty batch is ignored."""
        selected = targets if mask is None else targets[mask]
        if selected.numel() == 0:
            return
        batch_mean = selected.mean()
        batch_variance = (selected - batch_mean).square().mean()
        new_weight = self.beta * self.weight + (1.0 - self.beta)
        share = (1.0 - self.beta) / new_weight
        difference = batch_mean - self.mean
        self.variance.copy_(
            (1.0 - share) * self.variance + share * batch_variance + share * (1.0 - share) * difference.square()
        )
        self.mean.add_(share * difference)
        self.weight.copy_(new_weight)

    @property
    def std(self) -> Tensor:
        """Scalar; bounded from below so that constant returns do not blow up the critic's error."""
        return self.variance.sqrt().clamp(min=self.minimum_std)

    def normalize(self, returns: Tensor) -> Tensor:
        """Reward units -> units of the critic's output."""
        return (returns - self.mean) / self.std

    def denormalize(self, outputs: Tensor) -> Tensor:
        """Units of the critic's output -> reward units."""
        return outputs * self.std + self.mean


@dataclass(frozen=True, kw_only=True)
class PPOBatch:
    """What the losses need besides the networks' outputs; the field names are the column names of a prepared batch."""

    actions: Tensor
    """[S] int64."""
    behavior_logp: Tensor
    """[S] log-probability of the action under the policy that acted."""
    advantages: Tensor
    """[S] normalized."""
    alive: Tensor
    """[S] bool."""
    old_values: Tensor
    """[S] the critic's normalized output before this iteration's first gradient step."""
    value_targets: Tensor
    """[S] returns in the normalizer's units after this iteration's update of its statistics."""

    @classmethod
    def from_columns(cls, columns: Mapping[str, Tensor]) -> PPOBatch:
        """Pick the fields out of a batch that holds other columns too."""
        return cls(**{field.name: columns[field.name] for field in fields(cls)})


def normalize_advantages(advantages: Tensor, mask: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Zero mean and unit (population) standard deviation over the steps in `mask` [S] bool; 0 at the others."""
    count = mask.sum().clamp(min=1)
    mean = torch.where(mask, advantages, 0.0).sum() / count
    centered = torch.where(mask, advantages - mean, 0.0)
    std = (centered.square().sum() / count).sqrt()
    return centered / (std + epsilon)


def ppo_losses(logits: Tensor, values: Tensor, batch: PPOBatch, settings: PPOSettings) -> dict[str, Tensor]:
    """Losses and statistics of one gradient step.

    With ratio r = pi(a|o) / pi_behavior(a|o), clip c and advantage A:
        policy_loss = -mean_alive min(r A, clip(r, 1-c, 1+c) A)
        value_loss  =  mean_all max(h(v - y), h(v_old + clip(v - v_old, -c, c) - y))        h: Huber with delta
        total_loss  =  policy_loss + value_coef * value_loss - entropy_coef * entropy
    Actor and critic share no parameter, so one backward pass of `total_loss` serves both.

    The value clip is taken in the units of the critic's output, around the network's output before its first step
    of the iteration. That stays the meaning of `old_values` when the normalizer's statistics are updated in between:
    re-expressing them in the new units would put the clip around a number that was never its output, and its gradient
    would vanish wherever the shift exceeds the clip.

    Args:
        logits: [S, A] masked logits (large and negative where unavailable).
        values: [S] the critic's normalized output.
        batch: See `PPOBatch`.
        settings: `clip`, `huber_delta`, `clip_value_loss`, `value_coef`, `entropy_coef` are used.

    Returns:
        Scalars `total_loss`, `policy_loss`, `value_loss`, `entropy` (mean, in nats, of the policy at alive steps) with
        gradient, and without gradient `approx_kl` (Schulman's r - 1 - log r), `clip_fraction`, `explained_variance`
        (1 - Var(y - v) / Var(y); 0 where the targets do not vary).
    """
    alive = batch.alive
    num_alive = alive.sum().clamp(min=1)

    def alive_mean(x: Tensor) -> Tensor:
        return torch.where(alive, x, 0.0).sum() / num_alive

    all_logp = torch.log_softmax(logits, dim=-1)
    logp = all_logp.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
    # Masked before the exponential: an infinite ratio at a masked step would turn a zero gradient into NaN.
    log_ratio = torch.where(alive, logp - batch.behavior_logp, 0.0)
    ratio = log_ratio.exp()
    clipped_ratio = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
    policy_loss = -alive_mean(torch.minimum(ratio * batch.advantages, clipped_ratio * batch.advantages))
    entropy = alive_mean(-(all_logp.exp() * all_logp).sum(-1))

    value_errors = _huber(values - batch.value_targets, settings.huber_delta)
    if settings.clip_value_loss:
        clipped_values = batch.old_values + (values - batch.old_values).clamp(-settings.clip, settings.clip)
        value_errors = torch.maximum(value_errors, _huber(clipped_values - batch.value_targets, settings.huber_delta))
    value_loss = value_errors.mean()

    with torch.no_grad():
        approx_kl = alive_mean(ratio - 1.0 - log_ratio)
        clip_fraction = alive_mean(((ratio - 1.0).abs() > settings.clip).to(ratio.dtype))
        explained_variance = _explained_variance(values, batch.value_targets)
    return {
        "total_loss": policy_loss + settings.value_coef * value_loss - settings.entropy_coef * entropy,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": approx_kl,
        "clip_fraction": clip_fraction,
        "explained_variance": explained_variance,
    }


def _huber(errors: Tensor, delta: float) -> Tensor:
    return functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta)


def _explained_variance(values: Tensor, targets: Tensor) -> Tensor:
    variance = targets.var(correction=0)
    unexplained = (targets - values).var(correction=0)
    return torch.where(variance > 1e-8, 1.0 - unexplained / variance.clamp(min=1e-8), 0.0)
