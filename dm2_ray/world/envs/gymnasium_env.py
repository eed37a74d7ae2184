"""Battles as gymnasium environments in which one player commands the whole team.

Shapes: N agents, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.envs import spaces
from dm2_ray.world.envs.single_battle import SingleBattle
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.screen import RENDER_MODES, render_metadata

Observation = dict[str, NDArray[Any]]


class TeamEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """One battle at a time; `gymnasium.make("dm2_ray/3m-v0")` and so on for every map.

    An action is one number per agent [N]. Observations are ``{"observation": [N, O] float32, "action_mask": [N, A]
    int8, "state": [S] float32}``; dead agents observe zeros. The reward is the team's. Infos hold battle_won,
    dead_allies, dead_enemies, and the number of agents whose action was not available (`unavailable_actions`): these
    agents stop instead and dead agents do nothing, so a sampler may ignore the mask. (With heuristic_ai SMAC's
    heuristic plays, and the given actions appear only as last actions.)

    A battle cut by the time limit counts as terminated, as in SMAC; with continuing_episode as truncated.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        render_mode: "rgb_array": render() returns a picture; "human": a window shows every step.
        seed: Seed of the first battles unless reset() is given one; None draws one at the first reset().
        **smac_arguments: SMAC's constructor arguments; `engine` for the engine's free parameters.

    Raises:
        UnknownMapError, TypeError, ValueError: An unknown map, an unknown argument, a value out of range.
    """

    metadata: dict[str, Any] = render_metadata()

    def __init__(
        self,
        map_name: str | MapSpec,
        render_mode: str | None = None,
        seed: int | None = None,
        **smac_arguments: Any,
    ) -> None:
        battles = BattleVector(map_name, 1, **smac_arguments)
        self._battle = SingleBattle(battles, render_mode)
        self._seed = seed
        self.render_mode = render_mode
        self.observation_space = spaces.team_observation(battles)
        self.action_space = spaces.team_action(battles)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the next battle, or the first one of another seed. `options` are ignored, as gymnasium allows."""
        super().reset(seed=seed)
        if seed is None and not self._battle.has_begun:
            seed = spaces.sample_seed(self.np_random) if self._seed is None else self._seed
        self._battle.begin(seed)
        if self.render_mode == "human":
            self.render()
        return self._observe(), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one joint action [N].

        Raises:
            RuntimeError: No battle is running.
            TypeError, ValueError: Not integers, not one per agent, or outside the action space.
        """
        self._battle.check_running()
        joint_action, unavailable = spaces.ensure_available(self._battle.battles, np.asarray(action)[np.newaxis])
        reward, terminated, truncated = self._battle.step(joint_action[0])
        info = {**self._battle.outcome, "unavailable_actions": int(unavailable[0])}
        if self.render_mode == "human":
            self.render()
        return self._observe(), reward, terminated, truncated, info

    def _observe(self) -> Observation:
        batch = spaces.team_arrays(self._battle.battles, is_final=not self._battle.is_running)
        return {name: values[0] for name, values in batch.items()}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The battle as a picture [H, W, 3], or None after showing it in a window (see `SingleBattle.show`)."""
        if self.render_mode is None:
            gymnasium.logger.warn(f"render() without a render_mode: call gymnasium.make with one of {RENDER_MODES}")
        return self._battle.show()

    def close(self) -> None:
        """Close the window, the only thing that is open."""
        self._battle.close()
