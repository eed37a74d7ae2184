"""From joint battles to the batch that the shared PPO learns from; once per iteration, without gradients.

Shapes: E episodes, S steps of all episodes laid end to end, N agents, R = N S rows: all steps of agent 0, then all of
agent 1, ...; O observation size, A actions, Z size of the global state, Q sequences, H hidden size.

Every agent's view of a battle is a separate sequence with the same rewards: N E sequences in all.
"""

from __future__ import annotations

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from dm2_ray.algorithms.mappo.central_policy import CentralPolicy
from dm2_ray.algorithms.mappo.joint_battles import JointBattles
from dm2_ray.config.schema import PPOSettings
from dm2_ray.learning.ppo_batch import PreparedBatch, flat_columns, prepare_batch


@torch.no_grad()
def prepare_joint_batch(module: CentralPolicy, battles: JointBattles, settings: PPOSettings) -> PreparedBatch:
    """Values, advantages, targets, and the columns of `CentralPolicy.forward` and `PPOBatch`, in packed order.

    Battles cut by the time limit are bootstrapped with the value of their final state; advantages are normalized over
    the living steps of all agents. See `prepare_batch` for the rest.
    """
    flat = _columns(module, battles)
    first, agents = battles.agents[0], battles.num_agents
    return prepare_batch(
        module,
        flat,
        actor_inputs=flat["actor_inputs"],
        critic_inputs=flat["critic_inputs"],
        episode_lengths=np.tile(first.episode_lengths, agents),
        terminated=np.tile(first.terminated, agents),
        rewards=torch.from_numpy(np.tile(first.rewards, agents)),
        bootstrap_values=lambda critic_features: _bootstrap_values(module, battles, critic_features),
        settings=settings,
    )


def _columns(module: CentralPolicy, battles: JointBattles) -> dict[str, Tensor]:
    """[R, ...] in flat order: what the networks see, and what the agents did."""
    states = torch.from_numpy(battles.states)
    views = []
    for agent, trajectory in enumerate(battles.agents):
        inputs = flat_columns(trajectory, "observations", "last_actions")
        views.append(
            {
                "actor_inputs": module.actor_inputs(inputs[Columns.OBS], inputs["last_actions"], agent),
                "critic_inputs": module.critic_inputs(states, agent),
                **flat_columns(trajectory, "action_mask", "actions", "behavior_logp", "alive"),
            }
        )
    return {name: torch.cat([view[name] for view in views]) for name in views[0]}


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
