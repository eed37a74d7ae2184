"""The embedded world as an ordinary RLlib MultiAgentEnv, as one would write it without this package's env runners."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from dm2_ray.distributed.run_spec import observation_and_action_spaces
from dm2_ray.world import BattleVector


class StockBattleEnv(MultiAgentEnv):
    """One battle. RLlib's default modules do not mask actions, so an unavailable action becomes the first available."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        seed = config.get("seed", 0) + 1000 * getattr(config, "worker_index", 0) + getattr(config, "vector_index", 0)
        self._battle = BattleVector(config["map"], 1, seed=seed)
        self.possible_agents = [f"agent_{index}" for index in range(self._battle.num_agents)]
        self.agents = list(self.possible_agents)
        spaces = observation_and_action_spaces(self._battle.obs_size, self._battle.num_actions)
        self.observation_spaces = {agent: spaces[0] for agent in self.agents}
        self.action_spaces = {agent: spaces[1] for agent in self.agents}
        self._battle.reset()
        self._fresh = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        # When a battle ends, the vector starts the next one by itself.
        if seed is not None or not self._fresh:
            self._battle.reset(seed=seed)
        return self._observations(self._battle.observations), {}

    def step(self, action_dict: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        chosen = np.array([action_dict[agent] for agent in self.possible_agents])
        mask = self._battle.action_mask[0]
        available = mask[np.arange(len(chosen)), chosen]
        actions = np.where(available, chosen, mask.argmax(1))
        self._battle.step(actions[None])
        ended = bool(self._battle.terminated[0])
        self._fresh = ended
        observations = self._battle.final_observations if ended else self._battle.observations
        reward = float(self._battle.rewards[0])
        return (
            self._observations(observations),
            dict.fromkeys(self.possible_agents, reward),
            {"__all__": ended},
            {"__all__": bool(self._battle.truncated[0])},
            {},
        )

    def _observations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        return {agent: observations[0, index].copy() for index, agent in enumerate(self.possible_agents)}
