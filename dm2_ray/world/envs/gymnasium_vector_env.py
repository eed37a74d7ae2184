"""Many battles as one gymnasium vector environment, stepped by one compiled call.

Shapes: B battles, N agents, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.envs import spaces
from dm2_ray.world.maps.map_spec import MapSpec

Observation = dict[str, NDArray[Any]]


class TeamVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """B battles at a time; `gymnasium.make_vec("dm2_ray/3m-v0", num_envs=64)`.

    Like `TeamEnv` with a leading axis B, except that the next battle begins in the step in which one ends (gymnasium's
    SAME_STEP): the last observations of battles that ended are in infos["final_obs"], their infos in
    infos["final_info"]. All B battles belong to one seed and differ in their numbers.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        num_envs: B.
        render_mode: Must be None; only single environments can be rendered.
        seed: Seed of the first battles unless reset() is given one; None draws one at the first reset().
        **smac_arguments: SMAC's constructor arguments; `engine` for the engine's free parameters.

    Raises:
        UnknownMapError, TypeError, ValueError: An unknown map, an unknown argument, a value out of range.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        map_name: str | MapSpec,
        num_envs: int = 1,
        render_mode: str | None = None,
        seed: int | None = None,
        **smac_arguments: Any,
    ) -> None:
        if render_mode is not None:
            raise ValueError(f"render_mode is {render_mode!r}; only environments made by gymnasium.make render")
        self._battles = BattleVector(map_name, num_envs, **smac_arguments)
        self._seed = seed
        self._begun = False
        self.num_envs = num_envs
        self.single_observation_space = spaces.team_observation(self._battles)
        self.single_action_space = spaces.team_action(self._battles)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the next battles in all columns, or the first ones of another seed. `options` are ignored."""
        super().reset(seed=seed)
        if seed is None and not self._begun:
            seed = spaces.sample_seed(self.np_random) if self._seed is None else self._seed
        if seed is not None:
            self._battles.reset(seed=seed)
        else:
            self._battles.reset(first_battle=int(self._battles.battle_number.max()) + 1)
        self._begun = True
        return spaces.team_arrays(self._battles), {}

    def step(
        self, actions: ArrayLike
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one joint action [B, N] in every battle.

        Raises:
            RuntimeError: Before the first reset().
            TypeError, ValueError: Not integers, of another shape, or outside the action space.
        """
        if not self._begun:
            raise RuntimeError("step() before reset(): call reset() once to start the battles")
        battles = self._battles
        joint_actions, unavailable = spaces.ensure_available(battles, np.asarray(actions))
        battles.step(joint_actions)
        terminated, truncated = battles.terminated.copy(), battles.truncated.copy()
        ended = terminated | truncated
        outcome = spaces.outcome(battles, unavailable)
        infos = _masked(outcome, ~ended)
        if ended.any():
            last = spaces.team_arrays(battles, is_final=True)
            final = np.full(self.num_envs, None, dtype=object)
            for b in np.flatnonzero(ended):
                final[b] = {name: values[b] for name, values in last.items()}
            infos |= {"final_obs": final, "_final_obs": ended}
            infos |= {"final_info": _masked(outcome, ended), "_final_info": ended}
        return spaces.team_arrays(battles), battles.rewards.copy(), terminated, truncated, infos


def _masked(values: dict[str, NDArray[Any]], which: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos in gymnasium's format: an array per key, 0 where `which` is False, and `which` itself under `_key`."""
    infos: dict[str, Any] = {}
    for name, column in values.items():
        infos[name] = np.where(which, column, np.zeros_like(column))
        infos[f"_{name}"] = which
    return infos
