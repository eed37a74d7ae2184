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
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules import NO_OP, STOP
from dm2_ray.world.viewing.screen import RENDER_MODES, Screen, render_metadata

Observation = dict[str, NDArray[Any]]


def parallel_env(map_name: str | MapSpec, render_mode: str | None = None, **smac_arguments: Any) -> BattleParallelEnv:
    """A PettingZoo environment of one packaged map; see `BattleParallelEnv`."""
    return BattleParallelEnv(map_name, render_mode, **smac_arguments)


class BattleParallelEnv(ParallelEnv[str, Observation, int]):
    """One battle at a time; agents are called agent_0, agent_1, ...

    An observation is ``{"observation": [O] float32, "action_mask": [A] int8}``. All agents alive at the start of a step
    get the team's reward for it. An agent that dies is terminated in that step, with a last observation of zeros, and
    is no longer among `agents`; the battle's end terminates everybody (or truncates them, at the time limit with
    continuing_episode). Infos tell battle_won, dead_allies, dead_enemies, and whether the agent's action was not
    available (`unavailable_action`), in which case it has stood still instead: samplers may ignore the mask. (With
    heuristic_ai SMAC's heuristic plays, and the actions only show as last actions.)

    Args:
        map_name: name of a packaged map, or a MapSpec.
        render_mode: "rgb_array": render() gives a picture; "human": a window shows every step.
        **smac_arguments: SMAC's constructor arguments; `seed` is the seed of the first battles unless reset() gets one.

    Raises:
        UnknownMapError, TypeError, ValueError: an unknown map, an unknown argument, a value out of range, a
            render_mode other than those in metadata.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "dm2_ray_battle_v0", "is_parallelizable": True, **render_metadata()}

    def __init__(self, map_name: str | MapSpec, render_mode: str | None = None, **smac_arguments: Any) -> None:
        self._battles = BattleVector(map_name, 1, **smac_arguments)
        self.render_mode = render_mode
        step_loops = self._battles.options.step_mul
        self._screen = Screen(self._battles.map_spec, render_mode, step_loops=step_loops) if render_mode else None
        self.map_name = self._battles.map_name
        self._begun = False
        self._under_way = False
        battles = self._battles
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
        """Begin the next battle, or the first one of another seed. `options` are ignored, as PettingZoo allows."""
        if seed is not None:
            self._battles.reset(seed=seed)
        elif not self._begun:
            self._battles.reset()
        elif self._under_way:
            self._battles.reset(first_battle=int(self._battles.battle_number[0]) + 1)
        # Otherwise the battle's end has begun the next one already.
        self._begun = self._under_way = True
        self.agents = list(self.possible_agents)
        if self.render_mode == "human":
            self.render()
        return self._observe(self.agents), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Play one action of every agent in `agents`.

        Raises:
            RuntimeError: no battle is under way.
            ValueError: an agent's action is missing or outside of its action space.
        """
        if not self._under_way:
            raise RuntimeError("no battle is under way: call reset() first")
        battles, acting = self._battles, self.agents
        joint_action = np.full((1, battles.num_agents), NO_OP, dtype=np.int64)
        unavailable = {}
        for agent in acting:
            if agent not in actions:
                raise ValueError(f"no action for {agent}; expected one for each of {acting}")
            action, i = actions[agent], self._index[agent]
            if not 0 <= action < battles.num_actions:
                raise ValueError(f"{agent}: action {action} is outside of 0..{battles.num_actions - 1}")
            unavailable[agent] = not (battles.options.heuristic_ai or battles.action_mask[0, i, action])
            joint_action[0, i] = STOP if unavailable[agent] else action
        battles.step(joint_action)

        terminated, truncated = bool(battles.terminated[0]), bool(battles.truncated[0])
        self._under_way = not (terminated or truncated)
        alive = {agent: self._under_way and bool(battles.alive[0, self._index[agent]]) for agent in acting}
        if truncated:
            # The dead are not cut by the time limit. Their no-op says who they are once the next battle has begun.
            alive = {agent: not battles.final_action_mask[0, self._index[agent], NO_OP] for agent in acting}
        outcome = {
            "battle_won": bool(battles.battle_won[0]),
            "dead_allies": int(battles.dead_allies[0]),
            "dead_enemies": int(battles.dead_enemies[0]),
        }
        self.agents = [agent for agent in acting if self._under_way and alive[agent]]
        if self.render_mode == "human":
            self.render()
        return (
            self._observe(acting),
            {agent: float(battles.rewards[0]) for agent in acting},
            {agent: not alive[agent] for agent in acting},
            {agent: truncated and alive[agent] for agent in acting},
            {agent: {**outcome, "unavailable_action": bool(unavailable[agent])} for agent in acting},
        )

    def _observe(self, agents: list[str]) -> dict[str, Observation]:
        battles = self._battles
        obs, mask = (
            (battles.observations, battles.action_mask)
            if self._under_way
            else (battles.final_observations, battles.final_action_mask)
        )
        return {
            agent: {
                "observation": obs[0, self._index[agent]].copy(),
                "action_mask": mask[0, self._index[agent]].astype(np.int8),
            }
            for agent in agents
        }

    def state(self) -> NDArray[np.float32]:
        """[S] global state.

        Raises:
            RuntimeError: no battle has begun.
        """
        if not self._begun:
            raise RuntimeError("no battle has begun: call reset() first")
        return (self._battles.state if self._under_way else self._battles.final_state)[0].copy()

    def render(self) -> NDArray[np.uint8] | None:
        """The battle as a picture [H, W, 3], or None after showing it in a window.

        Raises:
            RuntimeError: no battle has begun; there is no screen.
        """
        if self._screen is None:
            gymnasium.logger.warn("render() without a render_mode: give parallel_env one of " + str(RENDER_MODES))
            return None
        if not self._begun:
            raise RuntimeError("no battle has begun: call reset() first")
        return self._screen.show(self._battles.units() if self._under_way else self._battles.final_units())

    def close(self) -> None:
        """Close the window; nothing else is held open."""
        if self._screen is not None:
            self._screen.close()
