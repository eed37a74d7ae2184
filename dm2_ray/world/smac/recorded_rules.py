"""SMAC's rules applied to given unit states, without physics: what SMAC would have returned for them.

Used to compare the rules with recordings of the real game, and to recompute observations of recorded battles.

Shapes: N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules import NO_ACTION, update_views
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.smac.step_outcome import compute_outcome
from dm2_ray.world.unit_kinds import Balance
from dm2_ray.world.units.state import HEALTH, SHIELD, UNIT_COLUMNS

Views = tuple[NDArray[np.floating], NDArray[np.float32], NDArray[np.int8]]


class RulesReplay:
    """SMAC's rules, applied to given unit states.

    Unit states are [N, 6] and [M, 6] rows of `UNIT_COLUMNS`, agents and enemies in the map's order; lengths in cells,
    the cooldown in game loops. Health 0 means dead, and the rest of a dead unit's row is ignored. One object may replay
    any number of battles one after another.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        terrain_height: [32, 32] height image indexed [x, y], 0..255 (only shown with obs_terrain_height); None takes
            the map's own.
        balance: Game data behind health and shield maxima.
        smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError, TypeError, ValueError: An unknown map, an unknown argument, a value out of range.
    """

    def __init__(
        self,
        map_name: str | MapSpec,
        terrain_height: NDArray[np.uint8] | None = None,
        balance: Balance = "liberty",
        **smac_arguments: Any,
    ) -> None:
        self.map_spec = map_name if isinstance(map_name, MapSpec) else load_map(map_name)
        self.options = SmacOptions.from_arguments(smac_arguments)
        self.tables = build_tables(self.map_spec, self.options, terrain_height, balance)
        tables = self.tables
        num_units = tables.num_agents + tables.num_enemies
        self._units = np.zeros((len(UNIT_COLUMNS), num_units))
        self._dead = np.zeros(num_units, dtype=np.bool_)
        self._last_actions = np.full(tables.num_agents, NO_ACTION, dtype=np.int64)
        self._mask = np.zeros((1, tables.num_agents, tables.num_actions), dtype=np.bool_)
        self._obs = np.zeros((1, tables.num_agents, tables.obs_size), dtype=np.float32)
        self._state = np.zeros((1, tables.state_size), dtype=np.float32)
        self._t = 0
        self._in_battle = False

    def reset(self, allies: ArrayLike, enemies: ArrayLike) -> Views:
        """Start a battle.

        Returns:
            Obs [N, O] float32 (float64 with obs_timestep_number, as SMAC's), state [S] float32, avail [N, A] int8.
        """
        self._units = self._unit_columns(allies, enemies)
        self._dead[:] = False
        self._last_actions[:] = NO_ACTION
        self._t = 0
        self._in_battle = True
        return self._views()

    def step(
        self, actions: ArrayLike, allies: ArrayLike, enemies: ArrayLike
    ) -> tuple[NDArray[np.floating], NDArray[np.float32], NDArray[np.int8], float, bool, dict[str, Any]]:
        """Outcome of the joint action [N] that led to these units; with heuristic_ai it need not have been available.

        Returns:
            Obs, state, avail as in `reset`; reward; terminated (as in SMAC, also at the time limit); info with
            battle_won, dead_allies, dead_enemies and, at the time limit with continuing_episode, episode_limit.

        Raises:
            RuntimeError: No battle is running.
            ValueError: An unavailable action; arrays of the wrong shape.
        """
        if not self._in_battle:
            raise RuntimeError("no battle is running: call reset() first")
        tables = self.tables
        chosen = np.asarray(actions, dtype=np.int64)
        if chosen.shape != (tables.num_agents,):
            raise ValueError(f"actions have shape {chosen.shape}, expected {(tables.num_agents,)}")
        for agent, action in enumerate(chosen):
            is_known = 0 <= action < tables.num_actions
            if not is_known or not (self.options.heuristic_ai or self._mask[0, agent, action]):
                available = np.flatnonzero(self._mask[0, agent]).tolist()
                raise ValueError(f"agent {agent} cannot take action {action}; available: {available}")
        units = self._unit_columns(allies, enemies)
        self._t += 1
        outcome = compute_outcome(
            tables, self._units[HEALTH], self._units[SHIELD], units[HEALTH], units[SHIELD], self._dead, self._t
        )
        self._units = units
        self._last_actions[:] = chosen
        ended = outcome.terminated or outcome.truncated
        self._in_battle = not ended
        info: dict[str, Any] = {
            "battle_won": outcome.won,
            "dead_allies": outcome.dead_allies,
            "dead_enemies": outcome.dead_enemies,
        }
        if outcome.truncated:
            info["episode_limit"] = True
        return *self._views(), outcome.reward, ended, info

    def _unit_columns(self, allies: ArrayLike, enemies: ArrayLike) -> NDArray[np.float64]:
        sides = {"allies": (allies, self.tables.num_agents), "enemies": (enemies, self.tables.num_enemies)}
        rows = []
        for side, (units, count) in sides.items():
            array = np.asarray(units, dtype=np.float64)
            if array.shape != (count, len(UNIT_COLUMNS)):
                raise ValueError(f"{side} have shape {array.shape}, expected {(count, len(UNIT_COLUMNS))}")
            rows.append(array)
        return np.ascontiguousarray(np.concatenate(rows).T)

    def _views(self) -> Views:
        tables, t = self.tables, self._t
        units, last_actions = self._units[np.newaxis], self._last_actions[np.newaxis]
        everything = np.ones(1, np.bool_)
        update_views(tables, units, last_actions, np.array([t]), everything, self._mask, self._obs, self._state)
        obs: NDArray[np.floating] = self._obs[0].copy()
        if tables.obs_timestep_number:
            # Quirk: SMAC appends the time as a Python float, which makes its observations float64 and leaves the time
            # itself unrounded.
            obs = obs.astype(np.float64)
            obs[:, -1] = t / tables.episode_limit
        return obs, self._state[0].copy(), self._mask[0].astype(np.int8)
