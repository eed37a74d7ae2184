"""Battles as a PettingZoo ParallelEnv, with gymnasium spaces and action masks.

Shapes: N agents, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.envs import spaces
from dm2_ray.world.envs.single_battle import SingleBattle
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules import NO_OP, STOP
from dm2_ray.world.viewing.screen import RENDER_MODES, render_metadata

Observation = dict[str, NDArray[Any]]


def parallel_env(map_name: str | MapSpec, render_mode: str | None = None, **smac_arguments: Any) -> BattleParallelEnv:
    """A PettingZoo environment of one packaged map; see `BattleParallelEnv`."""
    return BattleParallelEnv(map_name, render_mode, **smac_arguments)


class BattleParallelEnv(ParallelEnv[str, Observation, int]):
    """One battle at a time; agents are called agent_0, agent_1, ...

    An observation is ``{"observation": [O] float32, "action_mask": [A] int8}``. All agents alive at the start of a step
    get the team's reward for it. An agent that dies is terminated in that step, with a last observation of zeros, and
    leaves `agents`; the battle's end terminates all agents (or truncates them, at the time limit with
    continuing_episode). Infos hold battle_won, dead_allies, dead_enemies, and whether the agent's action was not
    available (`unavailable_action`), in which case it stopped instead: a sampler may ignore the mask. (With
    heuristic_ai SMAC's heuristic plays, and the given actions appear only as last actions.)

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        render_mode: "rgb_array": render() returns a picture; "human": a window shows every step.
        **smac_arguments: SMAC's constructor arguments; `seed` is the seed of the first battles unless reset() is given
            one.

    Raises:
        UnknownMapError, TypeError, ValueError: An unknown map, an unknown argument, a value out of range, an unknown
            render_mode.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "dm2_ray_battle_v0", "is_parallelizable": True, **render_metadata()}

    def __init__(self, map_name: str | MapSpec, render_mode: str | None = None, **smac_arguments: Any) -> None:
        battles = BattleVector(map_name, 1, **smac_arguments)
        self._battle = SingleBattle(battles, render_mode)
        self.render_mode = render_mode
        self.map_name = battles.map_name
        self.possible_agents: list[str] = [f"agent_{i}" for i in range(battles.num_agents)]
        self.agents: list[str] = []
        self._index = {agent: i for i, agent in enumerate(self.possible_agents)}
        self._observation_spaces = {agent: spaces.agent_observation(battles) for agent in self.possible_agents}
        self._action_spaces: dict[str, gymnasium.spaces.Discrete] = {
            agent: gymnasium.spaces.Discrete(battles.num_actions) for agent in self.possible_agents
        }
        self.state_space = spaces.state(battles)

    def observation_space(self, agent: str) -> gymnasium.spaces.Dict:
        """The same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
        """The same object at each call."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start the next battle, or the first one of another seed. `options` are ignored, as PettingZoo allows."""
        self._battle.begin(seed)
        self.agents = list(self.possible_agents)
        if self.render_mode == "human":
            self.render()
        return self._observe(self.agents), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Play one action of every agent in `agents`.

        Raises:
            RuntimeError: No battle is running.
            ValueError: An agent's action is missing or outside its action space.
        """
        self._battle.check_running()
        battles, acting = self._battle.battles, self.agents
        joint_action = np.full(battles.num_agents, NO_OP, dtype=np.int64)
        unavailable = {}
        for agent in acting:
            if agent not in actions:
                raise ValueError(f"no action for {agent}; expected one for each of {acting}")
            action, i = actions[agent], self._index[agent]
            if not 0 <= action < battles.num_actions:
                raise ValueError(f"{agent}: action {action} is outside 0..{battles.num_actions - 1}")
            unavailable[agent] = not (battles.options.heuristic_ai or battles.action_mask[0, i, action])
            joint_action[i] = STOP if unavailable[agent] else action
        reward, terminated, truncated = self._battle.step(joint_action)

        is_running = self._battle.is_running
        alive = {agent: is_running and bool(battles.alive[0, self._index[agent]]) for agent in acting}
        if truncated:
            # The time limit does not truncate dead agents. `battles.alive` belongs to the next battle by now, but only
            # dead agents have no-op in their last mask.
            alive = {agent: not battles.final_action_mask[0, self._index[agent], NO_OP] for agent in acting}
        self.agents = [agent for agent in acting if is_running and alive[agent]]
        if self.render_mode == "human":
            self.render()
        return (
            self._observe(acting),
            {agent: reward for agent in acting},
            {agent: not alive[agent] for agent in acting},
            {agent: truncated and alive[agent] for agent in acting},
            {agent: {**self._battle.outcome, "unavailable_action": bool(unavailable[agent])} for agent in acting},
        )

    def _observe(self, agents: list[str]) -> dict[str, Observation]:
        observations, mask = self._battle.view("observations"), self._battle.view("action_mask")
        return {
            agent: {
                "observation": observations[self._index[agent]].copy(),
                "action_mask": mask[self._index[agent]].astype(np.int8),
            }
            for agent in agents
        }

    def state(self) -> NDArray[np.float32]:
        """[S] global state.

        Raises:
            RuntimeError: No battle has begun.
        """
        return self._battle.view("state").copy()

    def render(self) -> NDArray[np.uint8] | None:
        """The battle as a picture [H, W, 3], or None after showing it in a window (see `SingleBattle.show`)."""
        if self.render_mode is None:
            gymnasium.logger.warn(f"render() without a render_mode: call parallel_env with one of {RENDER_MODES}")
        return self._battle.show()

    def close(self) -> None:
        """Close the window, the only thing that is open."""
        self._battle.close()
