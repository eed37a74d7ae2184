"""From one agent's battles to the batches that its PPO learns from; once per iteration, without gradients.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, A actions, Q sequences, H hidden size.

    trajectory ── visited rows ── logits ──► r from r_team and c * r_match     learning_rewards
        │                                        │
        └── critic over whole battles ── values ─┴──► advantages, returns      prepare_policy_batch
                     │                                     │
                     └── states at chunk starts ───────────┴──► columns in packed order ──► minibatches
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from dm2_ray.config.schema import MatchingSettings, PolicySettings, PPOSettings
from dm2_ray.learning.advantages import generalized_advantages
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.episodes import AgentEpisodes, AgentTrajectory
from dm2_ray.learning.policy import AgentNetwork, AgentPolicy
from dm2_ray.learning.ppo import ValueNormalizer, normalize_advantages
from dm2_ray.learning.reward_scale import RewardScale
from dm2_ray.learning.rewards import (
    absorbing_state_weight,
    add_at_last_step,
    matching_reward,
    matching_shares,
    mix_rewards,
)
from dm2_ray.learning.sequences import PackedLayout
from dm2_ray.learning.visitation import VisitedRows


class ActorCritic(Protocol):
    """What PPO updates: AgentPolicy, or the policy that a team shares."""

    settings: PolicySettings
    actor: AgentNetwork
    critic: AgentNetwork
    value_normaliser: ValueNormalizer


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedBatch:
    """Everything the epochs of one iteration need."""

    columns: dict[str, Any]
    """Columns in packed order, for `AgentPolicy.forward_train` and `PPOBatch.from_columns` alike: Columns.OBS [S, O],
    "last_actions" [S], "action_mask" [S, A], "batch_sizes" (int64, CPU), "actions", "behavior_logp", "advantages"
    (normalized over alive steps), "alive", "old_values", "value_targets" [S]; with chunks of a recurrent policy also
    Columns.STATE_IN {"actor": [Q, H], "critic": [Q, H]}."""
    layout: PackedLayout
    statistics: dict[str, float]
    """Of the whole batch, before any gradient step: `return_mean`, `return_std`, `value_mean`, `advantage_std` (reward
    units), `explained_variance_before`."""

    @classmethod
    def pack(
        cls,
        flat: Mapping[str, Tensor],
        layout: PackedLayout,
        bptt_steps: int,
        features: Mapping[str, Tensor],
        statistics: dict[str, float],
    ) -> PreparedBatch:
        """Brings columns into packed order, as whole episodes or as chunks of them.

        Args:
            flat: Columns [S, ...] in flat order.
            layout: The layout of whole episodes.
            bptt_steps: Steps of a chunk; 0 leaves the episodes whole.
            features: Recurrent outputs [S, H] in flat order of one pass over whole episodes, by network; chunks start
                in these states. Empty: the networks are not recurrent, and the episodes stay whole.
            statistics: Statistics of the batch.
        """
        state_in = {}
        if bptt_steps > 0 and features:
            layout = layout.chunks(bptt_steps)
            state_in[Columns.STATE_IN] = {name: layout.start_states(states) for name, states in features.items()}
        packed = {name: layout.pack(column) for name, column in flat.items()}
        columns = {**packed, "batch_sizes": layout.batch_sizes, **state_in}
        return cls(columns=columns, layout=layout, statistics=statistics)


def flat_columns(episodes: AgentEpisodes, *names: str, device: torch.device | None = None) -> dict[str, Tensor]:
    """The named arrays as columns [S, ...] in flat order; "observations" becomes Columns.OBS.

    They are copies: arrays that come out of Ray's object store are read-only, which a tensor cannot be.
    """
    return {
        Columns.OBS if name == "observations" else name: torch.from_numpy(np.array(getattr(episodes, name))).to(device)
        for name in names
    }


@torch.no_grad()
def learning_rewards(
    trajectory: AgentTrajectory,
    discriminator: Discriminator,
    visited: VisitedRows,
    settings: MatchingSettings,
    horizon: int,
    gamma: float,
    scale: RewardScale | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Rewards [S] in flat order that the agent learns from, and what the matching reward contributes to them.

    Args:
        visited: The rows of this trajectory.
        settings: `form`, `reward` and `coefficient` are used.
        horizon: The same as for `discriminator_inputs`.
        scale: Is updated with the matching reward, which is then divided by it; None leaves the reward unscaled.

    Returns:
        The rewards, and `matching_shares` over real steps, where the reward for padding is added to each battle's last
        step; with a padding state also `padding_reward`, its matching reward; with a `scale` also
        `matching_reward_scale`, by which both were divided.
    """
    logits = discriminator.forward_train({Columns.OBS: visited.rows})["logits"]
    rewards = matching_reward(logits, settings.form)
    matching = rewards[: visited.num_real]
    team = torch.from_numpy(np.array(trajectory.rewards)).to(matching)
    extra = {}
    if scale is not None:
        scale.update(matching)
        rewards, matching = rewards / scale.std, matching / scale.std
        extra["matching_reward_scale"] = float(scale.std)
    if visited.has_padding_row:
        padding_reward = rewards[-1]
        weights = absorbing_state_weight(trajectory.episode_lengths, trajectory.terminated, horizon, gamma)
        amounts = padding_reward * torch.from_numpy(weights).to(matching)
        matching = add_at_last_step(matching, amounts, trajectory.episode_lengths)
        extra["padding_reward"] = float(padding_reward)
    statistics = matching_shares(team, matching, settings.coefficient, settings.reward)
    return mix_rewards(team, matching, settings.coefficient, settings.reward), {**statistics, **extra}


@torch.no_grad()
def prepare_policy_batch(
    module: AgentPolicy,
    trajectory: AgentTrajectory,
    rewards: Tensor | npt.NDArray[np.float32],
    settings: PPOSettings,
) -> PreparedBatch:
    """Values, advantages, targets, and the columns of the losses, in packed order, on the module's device.

    Battles cut by the time limit are bootstrapped with the value of their final observation, one recurrent step
    after the last real one. See `prepare_batch` for the rest.

    Args:
        rewards: [S] float32 in flat order: the rewards that the agent learns from.
    """
    names = ("observations", "last_actions", "action_mask", "actions", "behavior_logp", "alive")
    flat = flat_columns(trajectory, *names, device=module.actor.head.weight.device)
    inputs = module.network_inputs(flat)
    return prepare_batch(
        module,
        flat,
        actor_inputs=inputs,
        critic_inputs=inputs,
        episode_lengths=trajectory.episode_lengths,
        terminated=trajectory.terminated,
        rewards=rewards if isinstance(rewards, Tensor) else torch.from_numpy(np.array(rewards)),
        bootstrap_values=lambda critic_features: _bootstrap_values(module, trajectory, critic_features),
        settings=settings,
    )


@torch.no_grad()
def prepare_batch(
    module: ActorCritic,
    flat: dict[str, Tensor],
    *,
    actor_inputs: Tensor,
    critic_inputs: Tensor,
    episode_lengths: npt.NDArray[np.int64],
    terminated: npt.NDArray[np.bool_],
    rewards: Tensor,
    bootstrap_values: Callable[[Tensor | None], Tensor],
    settings: PPOSettings,
) -> PreparedBatch:
    """Adds values, advantages and targets to the columns and brings them into packed order.

    The critic reads whole battles once. The value normalizer is updated with the returns (when
    `settings.value_normalisation`) and the targets are expressed in its new units; `old_values` stay the outputs of
    the network (see `ppo_losses`). With `bptt_steps` > 0 in the module's settings the battles are then cut into chunks
    that start in the states of this pass.

    Args:
        module: The networks, and the normalizer that is updated.
        flat: Columns [S, ...] in flat order, "alive" among them; "advantages", "old_values" and "value_targets" are
            added.
        actor_inputs, critic_inputs: [S, I] what the networks see, in flat order.
        episode_lengths: [E].
        terminated: [E] False where the time limit cut the battle.
        rewards: [S] in flat order.
        bootstrap_values: Returns the values [E] of the cut battles' last observations in reward units, 0 for ended
            ones, from the critic's recurrent outputs [S, H] in flat order (None: it is not recurrent).
        settings: Discounting and normalization.
    """
    layout = PackedLayout.from_lengths(episode_lengths, device=critic_inputs.device)
    outputs, critic_features = module.critic(layout.pack(critic_inputs), layout.batch_sizes)
    outputs = layout.unpack(outputs.squeeze(-1))
    values = module.value_normaliser.denormalize(outputs)
    if critic_features is not None:
        critic_features = layout.unpack(critic_features)

    advantages, returns = generalized_advantages(
        rewards.to(values),
        values,
        episode_lengths,
        torch.from_numpy(np.array(terminated)).to(values.device),
        bootstrap_values(critic_features),
        settings.gamma,
        settings.gae_lambda,
    )
    if settings.value_normalisation:
        module.value_normaliser.update(returns)
    flat["advantages"] = normalize_advantages(advantages, flat["alive"])
    flat["old_values"] = outputs
    flat["value_targets"] = module.value_normaliser.normalize(returns)

    bptt_steps = module.settings.bptt_steps
    features = {}
    if bptt_steps > 0 and critic_features is not None:
        _, actor_features = module.actor(layout.pack(actor_inputs), layout.batch_sizes)
        assert actor_features is not None
        features = {"actor": layout.unpack(actor_features), "critic": critic_features}
    return PreparedBatch.pack(flat, layout, bptt_steps, features, _batch_statistics(returns, values, advantages))


def minibatches(prepared: PreparedBatch, count: int, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """The batch itself (count 1), or `count` disjoint minibatches of whole sequences, drawn anew on each call.

    Each has the columns of `PreparedBatch.columns`, again in packed order.

    Raises:
        ValueError: There are fewer sequences than minibatches.
    """
    if count == 1:
        yield dict(prepared.columns)
        return
    for group in prepared.layout.split(count, generator):
        batch: dict[str, Any] = {"batch_sizes": group.batch_sizes}
        for name, column in prepared.columns.items():
            if name == Columns.STATE_IN:
                batch[name] = {part: states.index_select(0, group.sequences) for part, states in column.items()}
            elif name != "batch_sizes":
                batch[name] = column.index_select(0, group.rows)
        yield batch


def _bootstrap_values(module: AgentPolicy, trajectory: AgentTrajectory, critic_features: Tensor | None) -> Tensor:
    """[E] values of the final observations of cut battles, in reward units; 0 for ended ones."""
    device = module.actor.head.weight.device
    values = torch.zeros(trajectory.num_episodes, device=device)
    cut = np.flatnonzero(~trajectory.terminated)
    if len(cut) > 0:
        last_rows = torch.from_numpy(trajectory.last_rows[cut]).to(device)
        batch: dict[str, Any] = {
            Columns.OBS: torch.from_numpy(trajectory.final_observations[cut]).to(device),
            "last_actions": torch.from_numpy(trajectory.actions[trajectory.last_rows[cut]]).to(device),
            "batch_sizes": torch.tensor([len(cut)]),
        }
        if critic_features is not None:
            batch[Columns.STATE_IN] = {"critic": critic_features.index_select(0, last_rows)}
        values[torch.from_numpy(cut).to(device)] = module.compute_values(batch)
    return values


def _batch_statistics(returns: Tensor, values: Tensor, advantages: Tensor) -> dict[str, float]:
    """The values of `PreparedBatch.statistics`, from three [S] in reward units."""
    variance = float(returns.var(correction=0))
    unexplained = float((returns - values).var(correction=0))
    return {
        "return_mean": float(returns.mean()),
        "return_std": variance**0.5,
        "value_mean": float(values.mean()),
        "advantage_std": float(advantages.std(correction=0)),
        "explained_variance_before": 1.0 - unexplained / variance if variance > 1e-8 else 0.0,
    }
