"""From one agent's battles to the batches its PPO learns from; once per iteration, without gradients.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, A actions, Q sequences, H hidden size.

    trajectory ── visited rows ── logits ──► r from r_team and c * r_match     learning_rewards
        │                                        │
        └── critic over whole battles ── values ─┴──► advantages, returns      prepare_policy_batch
                     │                                     │
                     └── states at chunk starts ───────────┴──► columns in packed order ──► minibatches
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from dm2_ray.config.schema import MatchingSettings, PPOSettings
from dm2_ray.learning.advantages import generalized_advantages
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.learning.ppo import normalize_advantages
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
    """Rewards [S] in flat order the agent learns from, and what the matching reward contributes to them.

    Args:
        visited: the rows of this very trajectory.
        settings: `form`, `reward` and `coefficient` are used.
        horizon: as it was given to `discriminator_inputs`.
        scale: takes in the matching reward and divides it; None leaves it as it is.

    Returns:
        The rewards, and `matching_shares` over real steps, with what is paid for padding in the last ones, as well as
        `padding_reward`, the padding state's matching reward, where there is one, and `matching_reward_scale`, what
        both were divided by, with a `scale`.
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

    The critic reads whole battles once. Battles cut by the time limit are bootstrapped with the value of their final
    observation, one recurrent step on from the last real one. The value normalizer takes in the returns (when
    `settings.value_normalisation`) and the targets are expressed in its new units; `old_values` stay what the network
    said (see `ppo_losses`). With `bptt_steps` > 0 in the module's settings the battles are then cut into chunks that
    start in the states of this pass.

    Args:
        rewards: [S] float32 in flat order: what the agent learns from.
    """
    device = module.actor.head.weight.device
    flat = {
        name: torch.from_numpy(np.array(array)).to(device)
        for name, array in {
            Columns.OBS: trajectory.observations,
            "last_actions": trajectory.last_actions,
            "action_mask": trajectory.action_mask,
            "actions": trajectory.actions,
            "behavior_logp": trajectory.behavior_logp,
            "alive": trajectory.alive,
        }.items()
    }
    normalizer = module.value_normaliser
    layout = PackedLayout.from_lengths(trajectory.episode_lengths, device=device)
    inputs = layout.pack(module.network_inputs(flat))
    outputs, critic_features = module.critic(inputs, layout.batch_sizes)
    outputs = layout.unpack(outputs.squeeze(-1))
    values = normalizer.denormalize(outputs)
    if critic_features is not None:
        critic_features = layout.unpack(critic_features)

    advantages, returns = generalized_advantages(
        (rewards if isinstance(rewards, Tensor) else torch.from_numpy(np.array(rewards))).to(values),
        values,
        trajectory.episode_lengths,
        torch.from_numpy(np.array(trajectory.terminated)).to(device),
        _bootstrap_values(module, trajectory, critic_features),
        settings.gamma,
        settings.gae_lambda,
    )
    if settings.value_normalisation:
        normalizer.update(returns)
    flat["advantages"] = normalize_advantages(advantages, flat["alive"])
    flat["old_values"] = outputs
    flat["value_targets"] = normalizer.normalize(returns)

    state_in = {}
    if module.settings.bptt_steps > 0 and critic_features is not None:
        _, actor_features = module.actor(inputs, layout.batch_sizes)
        actor_features = layout.unpack(actor_features)
        layout = PackedLayout.from_lengths(trajectory.episode_lengths, module.settings.bptt_steps, device=device)
        state_in[Columns.STATE_IN] = {
            "actor": layout.start_states(actor_features),
            "critic": layout.start_states(critic_features),
        }
    columns = {name: layout.pack(column) for name, column in flat.items()}
    return PreparedBatch(
        columns={**columns, "batch_sizes": layout.batch_sizes, **state_in},
        layout=layout,
        statistics=batch_statistics(returns, values, advantages),
    )


def minibatches(prepared: PreparedBatch, count: int, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """The batch itself (count 1), or `count` disjoint minibatches of whole sequences, freshly dealt on each call.

    Each has the columns of `PreparedBatch.columns`, again in packed order. Raises ValueError when there are fewer
    sequences than minibatches.
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


def batch_statistics(returns: Tensor, values: Tensor, advantages: Tensor) -> dict[str, float]:
    """What `PreparedBatch.statistics` holds, from three [S] in reward units."""
    variance = float(returns.var(correction=0))
    unexplained = float((returns - values).var(correction=0))
    return {
        "return_mean": float(returns.mean()),
        "return_std": variance**0.5,
        "value_mean": float(values.mean()),
        "advantage_std": float(advantages.std(correction=0)),
        "explained_variance_before": 1.0 - unexplained / variance if variance > 1e-8 else 0.0,
    }
