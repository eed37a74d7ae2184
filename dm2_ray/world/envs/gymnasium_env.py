"""Battles as gymnasium environments: one player commands the whole team.

Shapes: N agents, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.envs import spaces
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.screen import RENDER_MODES, Screen, render_metadata

Observation = dict[str, NDArray[Any]]


class TeamEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """One battle at a time; `gymnasium.make("dm2_ray/3m-v0")` and so on for every map.

    An action is one number per agent [N]. Observations are ``{"observation": [N, O] float32, "action_mask": [N, A]
    int8, "state": [S] float32}``, the dead observe zeros. The reward is the team's. Infos tell battle_won, dead_allies,
    dead_enemies, and how many agents were given an action that was not available (`unavailable_actions`): these stand
    still instead, the dead do nothing, so that samplers may ignore the mask. (With heuristic_ai SMAC's heuristic plays,
    and the actions only show as last actions.)

    A battle cut by the time limit counts as terminated, as in SMAC; as truncated with continuing_episode.

    Args:
        map_name: name of a packaged map, or a MapSpec.
        render_mode: "rgb_array": render() gives a picture; "human": a window shows every step.
        seed: of the first battles unless reset() gets one; None draws one when it is needed.
        **smac_arguments: SMAC's constructor arguments; `engine` for the engine's free parameters.

    Raises:
        UnknownMapError, TypeError, ValueError: an unknown map, an unknown argument, a value out of range.
    """

    metadata: dict[str, Any] = render_metadata()

    def __init__(
        self,
        map_name: str | MapSpec,
        render_mode: str | None = None,
        seed: int | None = None,
        **smac_arguments: Any,
    ) -> None:
        self._battles = BattleVector(map_name, 1, **smac_arguments)
        self._seed = seed
        self.render_mode = render_mode
        step_loops = self._battles.options.step_mul
        self._screen = Screen(self._battles.map_spec, render_mode, step_loops=step_loops) if render_mode else None
        self._begun = self._under_way = False
        self.observation_space = spaces.team_observation(self._battles)
        self.action_space = spaces.team_action(self._battles)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the next battle, or the first one of another seed. `options` are ignored, as gymnasium allows."""
        super().reset(seed=seed)
        if seed is not None:
            self._battles.reset(seed=seed)
        elif not self._begun:
            self._battles.reset(seed=spaces.sample_seed(self.np_random) if self._seed is None else self._seed)
        elif self._under_way:
            self._battles.reset(first_battle=int(self._battles.battle_number[0]) + 1)
        # Otherwise the battle's end has begun the next one already.
        self._begun = self._under_way = True
        if self.render_mode == "human":
            self.render()
        return self._observe(), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one joint action [N].

        Raises:
            RuntimeError: no battle is under way.
            TypeError, ValueError: no integers, not one per agent, or outside of the action space.
        """
        if not self._under_way:
            raise RuntimeError("no battle is under way: call reset() first")
        battles = self._battles
        joint_action, unavailable = spaces.ensure_available(battles, np.asarray(action)[np.newaxis])
        battles.step(joint_action)
        terminated, truncated = bool(battles.terminated[0]), bool(battles.truncated[0])
        self._under_way = not (terminated or truncated)
        info = {name: values[0].item() for name, values in spaces.outcome(battles, unavailable).items()}
        if self.render_mode == "human":
            self.render()
        return self._observe(), float(battles.rewards[0]), terminated, truncated, info

    def _observe(self) -> Observation:
        batch = spaces.seen(self._battles, is_final=not self._under_way)
        return {name: values[0] for name, values in batch.items()}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The battle as a picture [H, W, 3], or None after showing it in a window.

        Raises:
            RuntimeError: no battle has begun; there is no screen.
        """
        if self._screen is None:
            gymnasium.logger.warn(f"render() without a render_mode: give the environment one of {RENDER_MODES}")
            return None
        if not self._begun:
            raise RuntimeError("no battle has begun: call reset() first")
        return self._screen.show(self._battles.units() if self._under_way else self._battles.final_units())

    def close(self) -> None:
        """Close the window; nothing else is held open."""
        if self._screen is not None:
            self._screen.close()
