"""From joint battles to the batch that the shared PPO learns from; once per iteration, without gradients.

Shapes: E episodes, S steps of all episodes laid end to end, N agents, R = N S rows: all steps of agent 0, then all of
agent 1, ...; O observation size, A actions, Z size of the global state, Q sequences, H hidden size.

Every agent's view of a battle is a sequence of its own, with the same rewards: N E sequences in all.
"""

from __future__ import annotations

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from dm2_ray.algorithms.mappo.central_policy import CentralPolicy
from dm2_ray.algorithms.mappo.joint_battles import JointBattles
from dm2_ray.config.schema import PPOSettings
from dm2_ray.learning.advantages import generalized_advantages
from dm2_ray.learning.ppo import normalize_advantages
from dm2_ray.learning.ppo_batch import PreparedBatch, batch_statistics
from dm2_ray.learning.sequences import PackedLayout


@torch.no_grad()
def prepare_joint_batch(module: CentralPolicy, battles: JointBattles, settings: PPOSettings) -> PreparedBatch:
    """Values, advantages, targets, and the columns of `CentralPolicy.forward` and `PPOBatch`, in packed order.

    As `prepare_policy_batch` does it for one agent: the critic reads whole battles once, battles cut by the time limit
    are bootstrapped with the value of their final state, the value normalizer takes in the returns, chunks of
    `bptt_steps` start in the states of this pass. Advantages are normalized over the living steps of all agents.
    """
    flat = _columns(module, battles)
    agents = battles.num_agents
    lengths = np.tile(battles.agents[0].episode_lengths, agents)
    layout = PackedLayout.from_lengths(lengths)
    outputs, critic_features = module.critic(layout.pack(flat["critic_inputs"]), layout.batch_sizes)
    outputs = layout.unpack(outputs.squeeze(-1))
    values = module.value_normaliser.denormalize(outputs)
    if critic_features is not None:
        critic_features = layout.unpack(critic_features)

    advantages, returns = generalized_advantages(
        torch.from_numpy(np.array(battles.agents[0].rewards)).repeat(agents),
        values,
        lengths,
        torch.from_numpy(np.array(battles.agents[0].terminated)).repeat(agents),
        _bootstrap_values(module, battles, critic_features),
        settings.gamma,
        settings.gae_lambda,
    )
    if settings.value_normalisation:
        module.value_normaliser.update(returns)
    flat["advantages"] = normalize_advantages(advantages, flat["alive"])
    flat["old_values"] = outputs
    flat["value_targets"] = module.value_normaliser.normalize(returns)

    state_in = {}
    if module.settings.bptt_steps > 0 and critic_features is not None:
        _, actor_features = module.actor(layout.pack(flat["actor_inputs"]), layout.batch_sizes)
        assert actor_features is not None
        actor_features = layout.unpack(actor_features)
        layout = PackedLayout.from_lengths(lengths, module.settings.bptt_steps)
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


def _columns(module: CentralPolicy, battles: JointBattles) -> dict[str, Tensor]:
    """[R, ...] in flat order: what the networks see, and what the agents did."""
    states = torch.from_numpy(battles.states)
    flat: dict[str, list[Tensor]] = {"actor_inputs": [], "critic_inputs": []}
    for agent, trajectory in enumerate(battles.agents):
        observations = torch.from_numpy(np.array(trajectory.observations))
        last_actions = torch.from_numpy(trajectory.last_actions)
        flat["actor_inputs"].append(module.actor_inputs(observations, last_actions, agent))
        flat["critic_inputs"].append(module.critic_inputs(states, agent))
        for name in ("action_mask", "actions", "behavior_logp", "alive"):
            flat.setdefault(name, []).append(torch.from_numpy(np.array(getattr(trajectory, name))))
    return {name: torch.cat(parts) for name, parts in flat.items()}


def _bootstrap_values(module: CentralPolicy, battles: JointBattles, critic_features: Tensor | None) -> Tensor:
    """[N E] values of the final states of cut battles, in reward units; 0 for ended ones."""
    first = battles.agents[0]
    cut = np.flatnonzero(~first.terminated)
    values = torch.zeros(battles.num_agents, first.num_episodes)
    if len(cut) > 0:
        final_states = torch.from_numpy(battles.final_states[cut])
        for agent in range(battles.num_agents):
            last_rows = torch.from_numpy(agent * first.num_steps + first.last_rows[cut])
            state = None if critic_features is None else critic_features.index_select(0, last_rows)
            inputs = module.critic_inputs(final_states, agent)
            outputs, _ = module.critic(inputs, torch.tensor([len(cut)]), state)
            values[agent, torch.from_numpy(cut)] = module.value_normaliser.denormalize(outputs.squeeze(-1))
    return values.flatten()
