"""BattleVector: B independent battles on one map, stepped together.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.joint_actions import check_actions
from dm2_ray.world.battles.recompute import observe_again, observe_final
from dm2_ray.world.battles.set_units import clear_flags, placed
from dm2_ray.world.battles.unit_records import SideChange, Sides, parse_sides
from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.engine.battle_step import allocate_battles, step_battles
from dm2_ray.world.engine.game_loop import ENGINE_VERSION
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.maps.terrain import build_terrain
from dm2_ray.world.smac.heuristic import SmacHeuristic
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.units.state import HEALTH, NONE, TARGET, allocate_workspace
from dm2_ray.world.units.tables import build_initial_units, build_unit_tables

__all__ = ["BattleVector", "UnitsView"]

_SEED_RANGE = 2**64


class BattleVector:
    """B battles on one map. Column b plays battles number first_battle + b, first_battle + b + B, and so on.

    A battle is a pure function of (seed, battle number, the joint actions taken in it): neither B, nor the column, nor
    other battles, nor pauses influence it. All arrays returned are read-only views that the next call overwrites.

    Args:
        map_name: name of a packaged map, or a MapSpec.
        num_battles: B, at least 1.
        seed: any integer; equal seeds give equal battles.
        first_battle: number of column 0's first battle, at least 0.
        engine: free parameters of the engine.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError: no such map.
        TerrainError: the engine cannot find ways on the map's terrain.
        TypeError, ValueError: an unknown SMAC argument, a value out of range.
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
        if num_battles < 1:
            raise ValueError(f"num_battles is {num_battles}; it must be at least 1")
        if first_battle < 0:
            raise ValueError(f"first_battle is {first_battle}; it must be at least 0")
        self.map_spec = map_name if isinstance(map_name, MapSpec) else load_map(map_name)
        self.map_name = self.map_spec.name
        self.seed = seed
        self.first_battle = first_battle
        self.engine_settings = engine or EngineSettings()
        self.switches = SmacOptions.from_arguments(smac_arguments)
        self._tables = build_unit_tables(self.map_spec, self.engine_settings)
        self._terrain = build_terrain(self.map_spec.walkable)
        self._opening = build_initial_units(self.map_spec, self.engine_settings)
        self._rules = build_tables(self.map_spec, self.switches, balance=self.engine_settings.balance)
        self._battles = allocate_battles(num_battles, self._rules)
        num_units = self._rules.num_agents + self._rules.num_enemies
        self._work = allocate_workspace(num_units)
        self._hit_points_before = np.zeros((2, num_units))
        self._seed_word = np.uint64(seed % _SEED_RANGE)
        self._all_running = np.ones(num_battles, np.bool_)
        self._played = np.zeros((num_battles, self._rules.num_agents), np.int64)
        self._no_actions = np.zeros((num_battles, self._rules.num_agents), np.int64)
        self._heuristic = (
            SmacHeuristic(self._rules, num_battles, self.switches.heuristic_rest)
            if self.switches.heuristic_ai
            else None
        )
        self._started = False

        self.num_battles = num_battles
        self.num_agents = self._rules.num_agents
        self.num_enemies = self._rules.num_enemies
        self.num_actions = self._rules.num_actions
        self.obs_size = self._rules.obs_size
        self.state_size = self._rules.state_size
        self.episode_limit = self._rules.episode_limit

        show = _read_only
        self.observations: NDArray[np.float32] = show(self._battles.observations)
        """[B, N, O]; zeros for the dead."""
        self.action_mask: NDArray[np.bool_] = show(self._battles.action_mask)
        """[B, N, A] available actions; the dead have only action 0."""
        self.state: NDArray[np.float32] = show(self._battles.state)
        """[B, S]"""
        self.alive: NDArray[np.bool_] = show(self._battles.alive)
        """[B, N]"""
        self.battle_number: NDArray[np.int64] = show(self._battles.battle_number)
        """[B] number of the battle being fought in each column."""
        self.battle_step: NDArray[np.int64] = show(self._battles.steps)
        """[B] env steps since it began."""
        self.last_actions: NDArray[np.int64] = show(self._battles.last_actions)
        """[B, N] joint action given in the last step, -1 before a battle's first."""
        self.played_actions: NDArray[np.int64] = show(self._played)
        """[B, N] what was played in the last step by the battles that were running: with heuristic_ai the heuristic's
        actions, 0 for the dead and for medivacs that had nobody to heal; else what was given."""
        self.rewards: NDArray[np.float64] = show(self._battles.rewards)
        """[B] team reward of the last step; like all below 0 or False where the battle was not running."""
        self.terminated: NDArray[np.bool_] = show(self._battles.terminated)
        """[B] decided, or cut by the time limit without continuing_episode."""
        self.truncated: NDArray[np.bool_] = show(self._battles.truncated)
        """[B] cut by the time limit with continuing_episode."""
        self.timed_out: NDArray[np.bool_] = show(self._battles.timed_out)
        """[B] cut by the time limit, either way."""
        self.battle_won: NDArray[np.bool_] = show(self._battles.battle_won)
        """[B]"""
        self.dropped: NDArray[np.bool_] = show(np.zeros(num_battles, np.bool_))
        """[B] always False: no battle of this engine gets lost (those of a game that crashes do)."""
        self.dead_allies: NDArray[np.int64] = show(self._battles.dead_allies)
        """[B] agents dead after the last step, before the auto-reset."""
        self.dead_enemies: NDArray[np.int64] = show(self._battles.dead_enemies)
        """[B]"""
        self.final_observations: NDArray[np.float32] = show(self._battles.final_observations)
        """[B, N, O] last observations of battles that ended in the last step; as all below, valid only there."""
        self.final_action_mask: NDArray[np.bool_] = show(self._battles.final_action_mask)
        """[B, N, A]"""
        self.final_state: NDArray[np.float32] = show(self._battles.final_state)
        """[B, S]"""

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Begin battles first_battle + b, by default those of the constructor: the same battles once more.

        Args:
            seed: replaces the vector's seed from here on.
            first_battle: number of column 0's battle.
        """
        if seed is not None:
            self.seed = seed
            self._seed_word = np.uint64(seed % _SEED_RANGE)
        number = self.first_battle if first_battle is None else first_battle
        if number < 0:
            raise ValueError(f"first_battle is {number}; it must be at least 0")
        self._advance(self._no_actions, self._all_running, number)
        if self._heuristic is not None:
            self._heuristic.forget(self._all_running)
        self._started = True

    def step(self, actions: ArrayLike, running: ArrayLike | None = None) -> None:
        """Play one env step of every running battle; those that end are followed by the next of their column.

        After a battle's end `observations`, `action_mask`, `state` and `alive` are the next battle's first ones, the
        `final_*` arrays the last ones of the battle that ended.

        Args:
            actions: [B, N] integers. Those of battles that are not running are ignored. With heuristic_ai they need
                not be available and are not played: SMAC's heuristic chooses (see `played_actions`), yet last-action
                features show the ones given.
            running: [B] bool; battles where it is False are left as they are. None plays all.

        Raises:
            RuntimeError: before the first reset().
            TypeError: actions are not integers.
            ValueError: wrong shapes, or an action that is not available; nothing has been played then.
        """
        if not self._started:
            raise RuntimeError("step() before reset(): call reset() once to begin the battles")
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
        self._played[...] = heuristic.choose(battles.units, battles.action_mask, running)
        self._advance(self._played, running, -1)
        ended = battles.terminated | battles.truncated
        goes_on = running & ~ended
        heuristic.forget(ended)
        battles.last_actions[goes_on] = given[goes_on]
        if self.switches.obs_last_action or self.switches.state_last_action:
            # Quirk: SMAC notes the actions it was given before its heuristic replaces them.
            observe_again(self._rules, battles, goes_on)
            observe_final(self._rules, battles, ended, given, steps)

    def _advance(self, actions: NDArray[np.int64], running: NDArray[np.bool_], first_battle: int) -> None:
        step_battles(
            self._tables,
            self._terrain,
            self._opening,
            self._rules,
            self._work,
            self._hit_points_before,
            self._battles,
            self._seed_word,
            self.switches.step_mul,
            float(self.switches.move_amount),
            actions,
            running,
            first_battle,
        )

    def units(self) -> UnitsView:
        """What the engine knows of the units now."""
        return UnitsView.of(self.num_agents, self._battles.units, self._battles.marks[:, TARGET])

    def final_units(self) -> UnitsView:
        """The units at the end of battles that ended in the last step; valid only there."""
        nobody = np.full((self.num_battles, self.num_agents + self.num_enemies), NONE, np.int64)
        return UnitsView.of(self.num_agents, self._battles.final_units, nobody)

    def close(self) -> None:
        """Nothing has to be released; there is more behind the doors of games."""

    def unit_records(self, column: int) -> Sides:
        """The units of one column's battle as records."""
        return parse_sides(self.map_spec, self.units(), column)

    def place_units(self, column: int, allies: SideChange | None = None, enemies: SideChange | None = None) -> None:
        """Put the battle in one column into a given state, from which it goes on.

        Only what is given changes; see `placing.placed` for what is cleared. Observations, masks and the state show it
        at once. Nothing is earned for it: whoever is dead now counts as settled, whoever is alive may be killed again.
        Time and last actions stay.

        Raises:
            RuntimeError: before the first reset().
            IndexError, TypeError, ValueError: something is wrong with the arguments; nothing has changed then.
        """
        if not self._started:
            raise RuntimeError("place_units() before reset(): call reset() once to begin the battles")
        if not 0 <= column < self.num_battles:
            raise IndexError(f"column is {column}; expected 0 to {self.num_battles - 1}")
        battles = self._battles
        battles.units[column] = placed(
            self.map_spec, self._tables.stats, self._terrain, self._rules, battles.units[column], allies, enemies
        )
        clear_flags(battles.marks[column])
        battles.dead[column] = battles.units[column, HEALTH] == 0.0
        which = np.arange(self.num_battles) == column
        if self._heuristic is not None:
            self._heuristic.forget(which)
        observe_again(self._rules, battles, which)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that make up the battles; `restore` goes on from there, bit for bit."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> None:
        """Take over a `snapshot` of a vector with the same map, size, seed and settings.

        Raises:
            ValueError: arrays are missing, superfluous or of other shapes or types; nothing has been changed then.
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
        """Everything that changes."""
        arrays: dict[str, NDArray[Any]] = self._battles._asdict()
        if self._heuristic is not None:
            arrays["heuristic_targets"] = self._heuristic.targets
        return arrays


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
