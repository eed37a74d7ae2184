"""BattleVector: B independent battles on one map, stepped together.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.joint_actions import check_actions
from dm2_ray.world.battles.recompute import observe_again, observe_final
from dm2_ray.world.battles.set_units import clear_flags, with_units_placed
from dm2_ray.world.battles.unit_records import SideChange, Sides, parse_sides
from dm2_ray.world.engine.battle_step import BattleConstants, step_battles
from dm2_ray.world.engine_settings import ENGINE_VERSION, EngineSettings
from dm2_ray.world.kernel_calls import specialize
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.terrain import build_terrain
from dm2_ray.world.smac.heuristic import SmacHeuristic
from dm2_ray.world.units.state import HEALTH, allocate_workspace
from dm2_ray.world.units.tables import build_initial_units, build_unit_tables

_SEED_RANGE = 2**64


class BattleVector(BattleBackend):
    """B battles on one map, with the attributes of BattleBackend. Column b plays battles number first_battle + b,
    first_battle + b + B, and so on.

    A battle is a pure function of (seed, battle number, the joint actions taken in it): neither B, nor the column, nor
    other battles, nor pauses influence it.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        num_battles: B, at least 1.
        seed: Any integer; equal seeds give equal battles.
        first_battle: Number of column 0's first battle, at least 0.
        engine: Free parameters of the engine.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError: No such map.
        TerrainError: The engine cannot find paths on the map's terrain.
        TypeError, ValueError: An unknown SMAC argument, a value out of range.
    """

    backend: Literal["embedded"] = "embedded"
    engine_version = ENGINE_VERSION

    def __init__(
        self,
        map_name: str | MapSpec,
        num_battles: int,
        seed: int = 0,
        *,
        first_battle: int = 0,
        engine: EngineSettings | None = None,
        **smac_arguments: Any,
    ) -> None:
        settings = engine or EngineSettings()
        super().__init__(map_name, num_battles, settings, smac_arguments, seed=seed, first_battle=first_battle)
        rules = self._rules
        self._constants = BattleConstants(
            tables=build_unit_tables(self.map_spec, settings),
            terrain=build_terrain(self.map_spec.walkable),
            initial_units=build_initial_units(self.map_spec, settings),
            rules=rules,
            loops_per_step=self.options.step_mul,
            move_amount=float(self.options.move_amount),
        )
        self._work = allocate_workspace(rules.num_agents + rules.num_enemies)
        self._seed_word = np.uint64(int(seed) % _SEED_RANGE)
        self._step_battles: Callable[..., None] | None = None
        """`step_battles` for the types of this vector's arrays; None before the first call."""
        self._all_running = np.ones(num_battles, np.bool_)
        self._no_actions = np.zeros((num_battles, rules.num_agents), np.int64)
        self._heuristic = (
            SmacHeuristic(rules, num_battles, self.options.heuristic_rest) if self.options.heuristic_ai else None
        )

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Start battles first_battle + b, by default those of the constructor: the same battles once more.

        Args:
            seed: Replaces the vector's seed from now on.
            first_battle: Number of column 0's battle.
        """
        if seed is not None:
            self.seed = seed
            self._seed_word = np.uint64(int(seed) % _SEED_RANGE)
        self._advance(self._no_actions, self._all_running, self._first_number(first_battle))
        if self._heuristic is not None:
            self._heuristic.reset_targets(self._all_running)
        self._started = True

    def step(self, actions: ArrayLike, running: ArrayLike | None = None) -> None:
        """Play one env step of every running battle; those that end are followed by the next of their column.

        After a battle's end `observations`, `action_mask`, `state` and `alive` are the next battle's first ones, the
        `final_*` arrays the last ones of the battle that ended.

        Args:
            actions: [B, N] integers. Those of battles that are not running are ignored. With heuristic_ai they need
                not be available and are not played: SMAC's heuristic chooses (see `played_actions`), yet last-action
                features show the given ones.
            running: [B] bool; battles where it is False stay as they are. None plays all.

        Raises:
            RuntimeError: Before the first reset().
            TypeError: Actions are not integers.
            ValueError: Wrong shapes, or an action that is not available; then nothing has been played.
        """
        if not self._started:
            raise RuntimeError("step() before reset(): call reset() once to start the battles")
        joint_actions, mask = check_actions(self._battles, actions, running, any_in_range=self._heuristic is not None)
        if self._heuristic is not None:
            self._step_by_heuristic(self._heuristic, joint_actions, mask)
            return
        self._played[...] = joint_actions
        self._advance(joint_actions, mask, -1)

    def _step_by_heuristic(
        self, heuristic: SmacHeuristic, given: NDArray[np.int64], running: NDArray[np.bool_]
    ) -> None:
        battles = self._battles
        steps = battles.steps + 1
        self._played[...] = heuristic.act(battles.units, battles.action_mask, running)
        self._advance(self._played, running, -1)
        ended = battles.terminated | battles.truncated
        continuing = running & ~ended
        heuristic.reset_targets(ended)
        battles.last_actions[continuing] = given[continuing]
        if self.options.obs_last_action or self.options.state_last_action:
            # Quirk: SMAC stores the actions it was given before its heuristic replaces them.
            observe_again(self._rules, battles, continuing)
            observe_final(self._rules, battles, ended, given, steps)

    def _advance(self, actions: NDArray[np.int64], running: NDArray[np.bool_], first_battle: int) -> None:
        arguments = (self._constants, self._work, self._battles, self._seed_word, actions, running, first_battle)
        if self._step_battles is None:
            self._step_battles = specialize(step_battles, *arguments)
        self._step_battles(*arguments)

    def close(self) -> None:
        """Does nothing: the embedded engine holds no resources."""

    def unit_records(self, column: int) -> Sides:
        """The units of one column's battle as records."""
        return parse_sides(self.map_spec, self.units(), column)

    def place_units(self, column: int, allies: SideChange | None = None, enemies: SideChange | None = None) -> None:
        """Put the battle in one column into a given state, from which it continues.

        Only what is given changes; see `with_units_placed` for what is cleared. Observations, masks and the state show
        the change at once. It earns no reward: the deaths of units that are dead now have been counted, and units that
        are alive may be killed again. Time and last actions stay.

        Raises:
            RuntimeError: Before the first reset().
            IndexError, TypeError, ValueError: Something is wrong with the arguments; then nothing has changed.
        """
        if not self._started:
            raise RuntimeError("place_units() before reset(): call reset() once to start the battles")
        if not 0 <= column < self.num_battles:
            raise IndexError(f"column is {column}; expected 0 to {self.num_battles - 1}")
        battles = self._battles
        battles.units[column] = with_units_placed(
            self.map_spec, self._constants, battles.units[column], allies, enemies
        )
        clear_flags(battles.flags[column])
        battles.dead[column] = battles.units[column, HEALTH] == 0.0
        selected = np.arange(self.num_battles) == column
        if self._heuristic is not None:
            self._heuristic.reset_targets(selected)
        observe_again(self._rules, battles, selected)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that make up the battles; `restore` continues from there, bit for bit."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> None:
        """Load a `snapshot` of a vector with the same map, size, seed and settings.

        Raises:
            ValueError: Arrays are missing, unknown or of other shapes or types; then nothing has changed.
        """
        arrays = self._arrays()
        expected = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        found = {name: (array.shape, array.dtype) for name, array in snapshot.items()}
        if found != expected:
            names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise ValueError(
                f"snapshot does not fit {self.num_battles} battles on {self.map_name!r}: {', '.join(names)} differ"
            )
        for name, array in arrays.items():
            array[...] = snapshot[name]
        self._started = True

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays that change, by name."""
        arrays: dict[str, NDArray[Any]] = self._battles._asdict()
        if self._heuristic is not None:
            arrays["heuristic_targets"] = self._heuristic.targets
        return arrays
