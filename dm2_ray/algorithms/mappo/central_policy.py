"""One policy for all agents, and a critic that sees the global state, which no agent sees.

Shapes: S rows in packed order (steps of all agents, see learning/sequences.py), N agents, O observation size,
A actions, Z size of the global state, Q sequences, H hidden size, I size of the actor's input.

    actor    own observation, own last action, own id  ->  AgentNetwork  ->  masked logits
    critic   global state, own id                      ->  AgentNetwork  ->  value

R-MAPPO of Yu et al. 2021, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games" (arXiv 2103.01955),
with the environment's global state as the critic's input. The networks are those of learning/policy.py, so that a
comparison with independent agents is one of what is shared and seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from dm2_ray.config.schema import PolicySettings
from dm2_ray.learning.policy import UNAVAILABLE_LOGIT, AgentNetwork, build_policy_inputs, input_size
from dm2_ray.learning.ppo import ValueNormalizer


class CentralPolicy(nn.Module):
    """Actor, critic and value normalizer that all agents share; the initial weights are a function of `seed`."""

    def __init__(
        self,
        num_agents: int,
        obs_size: int,
        num_actions: int,
        state_size: int,
        settings: PolicySettings,
        seed: int,
    ) -> None:
        super().__init__()
        self.num_agents = num_agents
        self.num_actions = num_actions
        self.settings = settings
        generator = torch.Generator().manual_seed(seed)
        actor_inputs = input_size(obs_size, num_actions, num_agents, settings)
        critic_inputs = state_size + (num_agents if settings.observe_agent_id else 0)
        self.actor = AgentNetwork(actor_inputs, num_actions, settings, settings.actor_gain, generator)
        self.critic = AgentNetwork(critic_inputs, 1, settings, 1.0, generator)
        self.value_normaliser = ValueNormalizer()

    def actor_inputs(self, observations: Tensor, last_actions: Tensor, agent: int) -> Tensor:
        """[..., I] what the actor sees as one agent, from observations [..., O] and last actions [...]."""
        return build_policy_inputs(observations, last_actions, self.num_actions, agent, self.num_agents, self.settings)

    def critic_inputs(self, states: Tensor, agent: int) -> Tensor:
        """[..., Z (+ N)] what the critic sees as one agent, from global states [..., Z]."""
        if not self.settings.observe_agent_id:
            return states
        identity = states.new_zeros(self.num_agents)
        identity[agent] = 1.0
        return torch.cat([states, identity.expand(*states.shape[:-1], self.num_agents)], dim=-1)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Masked logits [S, A], and values [S] in the normalizer's units.

        Columns read: "actor_inputs" [S, I], "critic_inputs" [S, Z (+ N)], "action_mask" [S, A] bool, "batch_sizes" [T]
        int64 on the CPU; optionally Columns.STATE_IN {"actor": [Q, H], "critic": [Q, H]}.
        """
        state = batch.get(Columns.STATE_IN, {})
        logits, _ = self.actor(batch["actor_inputs"], batch["batch_sizes"], state.get("actor"))
        values, _ = self.critic(batch["critic_inputs"], batch["batch_sizes"], state.get("critic"))
        return logits.masked_fill(~batch["action_mask"], UNAVAILABLE_LOGIT), values.squeeze(-1)
