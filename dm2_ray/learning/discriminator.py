"""The discriminator of one agent: does this step come from my expert, or from me?

Shapes: R rows, K interpolated rows, F features of a row (see visitation.py), H hidden size.

Convention: `logits_expert_is_high`. With D = sigmoid(logit), D -> 1 says "expert". The optimum of the cross-entropy
below is logit(x) = log p_expert(x) - log p_agent(x), which is why the logit is a reward (see rewards.py).
"""

from __future__ import annotations

import math
from typing import Any, cast

import gymnasium
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from dm2_ray.config.schema import DiscriminatorSettings
from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import discriminator_features


class Discriminator(TorchRLModule):
    """A tanh network on what one agent itself saw and did; build it with `learner_only=True`.

    model_config: `discriminator` (a dumped DiscriminatorSettings), `padding` ("absorbing" adds indicator features to
    the input) and, optionally, `seed`: the initial weights are then a function of it alone.
    observation_space: Box of shape (O,). action_space: Discrete(A), needed by inputs with actions only. Anything else
    raises ValueError.

    With `spectral_norm` every layer's weight is divided by an estimate of its largest singular value (Miyato et al.
    2018, arXiv 1802.05957), so that |logit(x) - logit(y)| <= ||x - y|| as far as the estimate is right. Its singular
    vectors are buffers, saved with the module. They take one step of the power method with every gradient step and
    none otherwise, so that asking for logits changes nothing.

    Columns read: Columns.OBS [R, F] and, optionally, "interpolates" [K, F].
    """

    def setup(self) -> None:
        space = self.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"observation_space must be a Box of one dimension, found {space}")
        if not isinstance(self.model_config, dict):
            raise ValueError(f"model_config must be a dict, found {type(self.model_config).__name__}")
        self.settings = DiscriminatorSettings.model_validate(self.model_config["discriminator"])
        size = self.settings.hidden_size
        inputs = discriminator_features(
            space.shape[0], self.model_config["padding"], self.settings.input, self._num_actions()
        )
        layers = [nn.Linear(inputs if layer == 0 else size, size) for layer in range(self.settings.hidden_layers)]
        self.hidden = nn.ModuleList(layers)
        self.head = nn.Linear(size, 1)
        seed = self.model_config.get("seed")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for linear in (*layers, self.head):
            _initialize(linear, generator)
        if self.settings.spectral_norm:
            self._normalize_spectrally(seed)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"logits": [R]}, expert is high."""
        return {"logits": self._logits(batch[Columns.OBS], self._weights())}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"logits": [R]} and, with "interpolates", {"gradient_norms": [K]}: the logit's gradient norm at these rows.

        Interpolates belong to gradient steps: with them spectral norms are estimated anew. The gradient with respect
        to the input is written out, layer by layer, so that its own gradient takes one ordinary backward pass:
          d logit/dx = W_1' diag(1 - h_1^2) ... W_n' diag(1 - h_n^2) w_head,  h = tanh(...).
        """
        interpolates = batch.get("interpolates")
        weights = self._weights(is_gradient_step=interpolates is not None)
        output = {"logits": self._logits(batch[Columns.OBS], weights)}
        if interpolates is not None:
            *hidden, gradient = weights
            for weight, activation in zip(hidden[::-1], self._activations(interpolates, hidden)[::-1], strict=True):
                gradient = (gradient * (1.0 - activation.square())) @ weight
            output["gradient_norms"] = torch.linalg.vector_norm(gradient, dim=-1)
        return output

    def _weights(self, *, is_gradient_step: bool = False) -> list[Tensor]:
        """The weights in force, input to head. Each is read once per pass: with spectral normalization they are
        computed when they are read."""
        layers = [cast(nn.Linear, layer) for layer in (*self.hidden, self.head)]
        if self.settings.spectral_norm:
            for layer in layers:
                layer.train(is_gradient_step)  # torch's parametrization takes its power step in training mode only
        return [layer.weight for layer in layers]

    def _logits(self, rows: Tensor, weights: list[Tensor]) -> Tensor:
        """[R]."""
        activations = self._activations(rows, weights[:-1])
        return functional.linear(activations[-1], weights[-1], self.head.bias).squeeze(-1)

    def _activations(self, rows: Tensor, weights: list[Tensor]) -> list[Tensor]:
        """[R, H] after each hidden layer."""
        activations = []
        x = rows
        for weight, linear in zip(weights, self.hidden, strict=True):
            # tanh(x) = 2 sigmoid(2 x) - 1: torch's CPU sigmoid is vectorized ten times better than its tanh.
            bias = cast(nn.Linear, linear).bias
            x = torch.sigmoid(2.0 * functional.linear(x, weight, bias)) * 2.0 - 1.0
            activations.append(x)
        return activations

    def _num_actions(self) -> int:
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            return int(self.action_space.n)
        if self.settings.input == "state_action":
            raise ValueError(f"action_space must be Discrete for input state_action, found {self.action_space}")
        return 0

    def _normalize_spectrally(self, seed: int | None) -> None:
        # torch draws the first singular vectors from its global stream.
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            for layer in (*self.hidden, self.head):
                spectral_norm(layer)


def interpolate(expert_rows: Tensor, agent_rows: Tensor, generator: torch.Generator) -> Tensor:
    """[K, F] random points on the lines between paired rows [K, F].

    `generator` must be a CPU generator.
    """
    share = torch.rand(len(expert_rows), 1, generator=generator).to(expert_rows)
    return torch.lerp(agent_rows, expert_rows, share)


def gradient_penalty(gradient_norms: Tensor) -> Tensor:
    """mean (||d logit/dx||_2 - 1)^2 (Gulrajani et al. 2017, arXiv 1704.00028, applied to the logit)."""
    return (gradient_norms - 1.0).square().mean()


def discriminator_batch(
    expert: UniqueRows,
    agent: UniqueRows,
    rows_per_side: int,
    settings: DiscriminatorSettings,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Columns of one gradient step, with all of its random draws.

    Args:
        rows_per_side: Rows that the minibatch stands for on each side.
        settings: `penalty_rows` is used.
        generator: Draws the interpolates; a CPU generator.

    Returns:
        Columns.OBS [R, F] (distinct rows, the expert's first), "is_expert" [R] bool, "weights" [R] (sum 1 on each
        side), "interpolates" [K, F].
    """
    expert_rows, expert_weights = expert.minibatch(rows_per_side)
    agent_rows, agent_weights = agent.minibatch(rows_per_side)
    pairs = settings.penalty_rows
    return {
        Columns.OBS: torch.cat([expert_rows, agent_rows]),
        "is_expert": torch.arange(len(expert_rows) + len(agent_rows), device=expert_rows.device) < len(expert_rows),
        "weights": torch.cat([expert_weights, agent_weights]),
        "interpolates": interpolate(expert.draw(pairs), agent.draw(pairs), generator),
    }


def discriminator_losses(
    logits_expert_is_high: Tensor,
    is_expert: Tensor,
    gradient_norms: Tensor,
    settings: DiscriminatorSettings,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Losses and statistics of one gradient step.

        total_loss = mean_expert -log D  +  mean_agent -log(1 - D)  +  gradient_penalty * mean (||grad|| - 1)^2

    Both sides weigh the same however many rows they have (Ho and Ermon 2016, arXiv 1606.03476). With label smoothing e
    the labels are 1 - e and e (Szegedy et al. 2016, arXiv 1512.00567): every -log D becomes
    -(1 - e) log D - e log(1 - D), and every -log(1 - D) likewise. The optimal logit is then
    log((1 - e) p_expert + e p_agent) - log(e p_expert + (1 - e) p_agent), within +-log((1 - e) / e).

    Args:
        logits_expert_is_high: [R].
        is_expert: [R] bool; both kinds must occur.
        gradient_norms: [K] at the interpolates.
        settings: `gradient_penalty` and `label_smoothing` are used.
        weights: [R] of the rows in their side's mean, sum 1 on each side; None weighs all rows of a side alike.

    Returns:
        Scalars, with gradient `total_loss`, `expert_loss`, `agent_loss`, `gradient_penalty`, and without gradient

        `expert_accuracy`, `agent_accuracy`: The share of the side's rows on its side of logit 0. Around 0.5 the sides
            cannot be told apart; near 1 the discriminator always can, and the reward says little of how near the agent
            came.
        `logit_gap`: Mean logit of the expert's rows minus that of the agent's: how much more an expert's step would be
            paid than the agent's own (form airl). It falls toward 0 as the visitations become alike.
        `entropy`: Mean entropy of D over both sides, in nats. log 2 = 0.69 says "cannot tell": the agent matches its
            expert, or the discriminator has not learned. Near 0 it is certain.
        `gradient_norm`: Mean norm of the logit's gradient at the interpolates. The penalty pulls it toward 1; far above
            that the reward changes abruptly between similar observations.
    """
    # With w = -l for the expert and w = l for the agent, the true side has probability sigmoid(-w), and
    # -(1 - e) log sigmoid(-w) - e log sigmoid(w) = (1 - e) softplus(w) + e softplus(-w) = softplus(w) - e w.
    wrong_side_logits = torch.where(is_expert, -logits_expert_is_high, logits_expert_is_high)
    cross_entropies = functional.softplus(wrong_side_logits) - settings.label_smoothing * wrong_side_logits
    sides = torch.stack([is_expert, ~is_expert]).to(cross_entropies.dtype)
    shares = sides / sides.sum(1, keepdim=True) if weights is None else sides * weights
    expert_share, agent_share = shares.unbind()
    expert_loss, agent_loss = (cross_entropies * expert_share).sum(), (cross_entropies * agent_share).sum()
    penalty = gradient_penalty(gradient_norms)
    with torch.no_grad():
        logits = logits_expert_is_high
        says_expert = (logits > 0).to(logits.dtype)
        # H(D) = softplus(l) - l D
        entropies = functional.softplus(logits) - logits * torch.sigmoid(logits)
        statistics = {
            "expert_accuracy": (says_expert * expert_share).sum(),
            "agent_accuracy": ((1.0 - says_expert) * agent_share).sum(),
            "logit_gap": (logits * (expert_share - agent_share)).sum(),
            "entropy": (entropies * (expert_share + agent_share)).sum() / 2.0,
            "gradient_norm": gradient_norms.mean(),
        }
    return {
        "total_loss": expert_loss + agent_loss + settings.gradient_penalty * penalty,
        "expert_loss": expert_loss,
        "agent_loss": agent_loss,
        "gradient_penalty": penalty,
        **statistics,
    }


def _initialize(linear: nn.Linear, generator: torch.Generator | None) -> None:
    """Weights and biases uniform in +-1/sqrt(inputs): torch's own initialization, but from the given generator."""
    bound = 1.0 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
