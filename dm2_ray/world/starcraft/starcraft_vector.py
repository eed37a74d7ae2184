"""StarCraftVector: battles of real StarCraft II, side by side, behind BattleVector's door.

    StarCraftVector ──a thread each──► B × GameSlot ──websocket──► B × StarCraft II process (under a guard)
          │                                   ▲ units of the observation
          └── the rules' kernels: observations, masks, state, rewards, ends: the same code as over the embedded engine

The game is spoken to in its own protocol, with the requests of oxwhirl/smac's StarCraft2Env in the same order; of SMAC
only the map files are needed. What differs from the embedded battles:

* A battle is not a function of seed and number: the game's own randomness goes on from battle to battle. Seeds only
  decide what a game is launched with.
* A game may crash or hang. Its battle is `dropped`: neither won nor lost, to be discarded; another is played under its
  number.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.world.battles.joint_actions import check_actions
from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.engine.battle_step import allocate_battles
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.smac.heuristic import SmacHeuristic
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.starcraft.game_slot import BattleOrder, GameSlot
from dm2_ray.world.starcraft.install import find_installation, find_map
from dm2_ray.world.starcraft.observed_outcomes import clear_outcomes, show_step, write_initial_views
from dm2_ray.world.starcraft.protocol import StarCraftError, StarCraftNotInstalled, load_protocol, load_websocket
from dm2_ray.world.units.state import HEALTH, NONE, SHIELD, TARGET

__all__ = ["StarCraftError", "StarCraftNotInstalled", "StarCraftVector", "check_starcraft"]


class StarCraftVector:
    """B battles of StarCraft II on one map; attributes and methods as BattleVector's.

    The games are started by the first reset(), side by side, one process each (about 1 GB of memory).

    Args:
        map_name: name of a packaged map, or a MapSpec; SMAC's map file of that name must be installed.
        num_battles: B, at least 1.
        seed: games launched from now on get seeds derived from (seed, column, how many this column has launched).
        first_battle: number of column 0's first battle, at least 0.
        settings: the section `world.starcraft` of the configuration.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError: no such map.
        TypeError, ValueError: an unknown SMAC argument, a value out of range.
    """

    backend: Literal["starcraft"] = "starcraft"

    def __init__(
        self,
        map_name: str | MapSpec,
        num_battles: int,
        seed: int = 0,
        *,
        first_battle: int = 0,
        settings: StarCraftSettings | None = None,
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
        self.switches = SmacOptions.from_arguments(smac_arguments)
        self.engine_settings = EngineSettings()
        """The embedded engine's; here they only tell scripted teams which balance of units to expect."""
        self.settings = settings or StarCraftSettings()
        self._rules = rules = build_tables(self.map_spec, self.switches)
        self._battles = battles = allocate_battles(num_battles, rules)
        self._columns: list[GameSlot] = []
        self._threads: ThreadPoolExecutor | None = None
        self._closes = weakref.finalize(self, _close_all, self._columns)
        self._started = False
        self._heuristics = {b: SmacHeuristic(rules, 1, self.switches.heuristic_rest) for b in range(num_battles)}
        self._played = np.zeros((num_battles, rules.num_agents), np.int64)
        self._dropped = np.zeros(num_battles, np.bool_)

        self.num_battles = num_battles
        self.num_agents = rules.num_agents
        self.num_enemies = rules.num_enemies
        self.num_actions = rules.num_actions
        self.obs_size = rules.obs_size
        self.state_size = rules.state_size
        self.episode_limit = rules.episode_limit

        show = _read_only
        # What they mean is said at BattleVector and BattleBackend.
        self.observations: NDArray[np.float32] = show(battles.observations)
        self.action_mask: NDArray[np.bool_] = show(battles.action_mask)
        self.state: NDArray[np.float32] = show(battles.state)
        self.alive: NDArray[np.bool_] = show(battles.alive)
        self.battle_number: NDArray[np.int64] = show(battles.battle_number)
        self.battle_step: NDArray[np.int64] = show(battles.steps)
        self.last_actions: NDArray[np.int64] = show(battles.last_actions)
        self.played_actions: NDArray[np.int64] = show(self._played)
        self.rewards: NDArray[np.float64] = show(battles.rewards)
        self.terminated: NDArray[np.bool_] = show(battles.terminated)
        self.truncated: NDArray[np.bool_] = show(battles.truncated)
        self.timed_out: NDArray[np.bool_] = show(battles.timed_out)
        self.battle_won: NDArray[np.bool_] = show(battles.battle_won)
        self.dead_allies: NDArray[np.int64] = show(battles.dead_allies)
        self.dead_enemies: NDArray[np.int64] = show(battles.dead_enemies)
        self.final_observations: NDArray[np.float32] = show(battles.final_observations)
        self.final_action_mask: NDArray[np.bool_] = show(battles.final_action_mask)
        self.final_state: NDArray[np.float32] = show(battles.final_state)
        self.dropped: NDArray[np.bool_] = show(self._dropped)
        """[B] the battle was lost with its game in the last step: no reward, no end; what has been seen of it does not
        count. Another has begun in its place, under its number."""

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Begin battles first_battle + b, by default the constructor's number. A battle that has not been stepped yet
        is kept, only its number changes.

        Args:
            seed: of games launched from here on; those that run go on with their own randomness.
            first_battle: number of column 0's battle.

        Raises:
            StarCraftNotInstalled: the game, its protocol or the map is missing.
            StarCraftError: a game could not be started.
        """
        number = self.first_battle if first_battle is None else first_battle
        if number < 0:
            raise ValueError(f"first_battle is {number}; it must be at least 0")
        if seed is not None:
            self.seed = seed
        if not self._columns:
            self._prepare()
        self._clear_outcomes()
        self._begin(range(self.num_battles))
        self._battles.battle_number[:] = number + np.arange(self.num_battles)
        self._started = True

    def step(self, actions: ArrayLike, running: ArrayLike | None = None) -> None:
        """Play one env step of every running battle; those that end are followed by the next of their column.

        After a battle's end `observations`, `action_mask`, `state` and `alive` are the next battle's first ones, the
        `final_*` arrays the last ones of the battle that ended.

        Args:
            actions: [B, N] integers. Those of battles that are not running are ignored. With heuristic_ai they are not
                played (see BattleVector).
            running: [B] bool; battles where it is False are left as they are. None plays all.

        Raises:
            RuntimeError: before the first reset(), or after an error of the game.
            TypeError: actions are not integers.
            ValueError: wrong shapes, or an action that is not available; nothing has been played then.
            StarCraftError: a game was lost and no other can be had.
        """
        if not self._started:
            raise RuntimeError("step() before reset(): call reset() to begin the battles")
        battles, is_free = self._battles, self.switches.heuristic_ai
        joint_actions, mask = check_actions(battles, actions, running, any_in_range=is_free)
        self._played[...] = self._chosen(joint_actions, mask)
        columns = np.flatnonzero(mask).tolist()
        before = battles.units[:, [HEALTH, SHIELD]]
        self._clear_outcomes()
        kept = self._in_parallel([partial(self._columns[b].play, self._played[b], self.seed) for b in columns])
        ended = []
        for b, is_kept in zip(columns, kept, strict=True):
            if is_kept:
                # Quirk: SMAC notes the actions it was given before its heuristic replaces them.
                battles.last_actions[b] = joint_actions[b]
                if show_step(battles, b, self._columns[b].rules, before[b]):
                    self._columns[b].battle_ended()
                    ended.append(b)
            else:
                self._dropped[b] = True
                self._show_beginning(b)
        self._begin(ended)
        battles.battle_number[ended] += self.num_battles

    def units(self) -> UnitsView:
        """What the game shows of the units now."""
        return UnitsView.of(self.num_agents, self._battles.units, self._battles.marks[:, TARGET])

    def final_units(self) -> UnitsView:
        """The units at the end of battles that ended in the last step; valid only there."""
        nobody = np.full((self.num_battles, self.num_agents + self.num_enemies), NONE, np.int64)
        return UnitsView.of(self.num_agents, self._battles.final_units, nobody)

    def save_replay(self, column: int = 0) -> Path:
        """Write the replay of all that a column's game has played so far; StarCraft II shows it. The switches
        replay_dir (below the game's Replays/) and replay_prefix (else the map's name) say where.

        Raises:
            StarCraftError: there is no game, or it gives no replay.
        """
        if not self._columns:
            raise StarCraftError("there is no game to take a replay of: call reset() first")
        return self._columns[column].save_replay()

    @property
    def engine_version(self) -> str:
        """The game's version, as exact as is known so far."""
        return self._columns[0].version if self._columns else "not started yet"

    @property
    def game_pids(self) -> list[int | None]:
        """[B] process ids of the games; None where none runs."""
        if not self._columns:
            return [None] * self.num_battles
        return [None if column.game is None else column.game.pid for column in self._columns]

    @property
    def restarts(self) -> int:
        """Games that crashed, hung or would not start, and were replaced."""
        return sum(column.restarts for column in self._columns)

    @property
    def renewals(self) -> int:
        """Games that were replaced because of their age or size."""
        return sum(column.renewals for column in self._columns)

    def close(self) -> None:
        """End all games. The next reset() starts others."""
        self._started = False
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        _close_all(self._columns)

    def _prepare(self) -> None:
        # Not before the first reset(): a driver that never plays need not have the game.
        load_protocol()
        installation = find_installation(self.settings.path, self.switches.game_version)
        order = BattleOrder(
            installation=installation,
            map_file=find_map(installation, self.map_name),
            map_spec=self.map_spec,
            switches=self.switches,
            settings=self.settings,
            rules=self._rules,
        )
        battles = self._battles
        self._columns.extend(GameSlot(order, b, battles.units[b], battles.marks[b]) for b in range(self.num_battles))

    def _chosen(self, given: NDArray[np.int64], running: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[B, N] what is to be played: with heuristic_ai its choice, else what was given."""
        if not self.switches.heuristic_ai:
            return given
        chosen = given.copy()
        battles = self._battles
        for b in np.flatnonzero(running).tolist():
            one = slice(b, b + 1)
            chosen[b] = self._heuristics[b].choose(battles.units[one], battles.action_mask[one], running[one])[0]
        return chosen

    def _show_beginning(self, b: int) -> None:
        rules = self._columns[b].rules
        write_initial_views(self._battles, b, rules)
        self._heuristics[b] = SmacHeuristic(rules, 1, self.switches.heuristic_rest)

    def _begin(self, columns: Sequence[int]) -> None:
        self._in_parallel([partial(self._columns[b].begin, self.seed) for b in columns])
        for b in columns:
            self._show_beginning(b)

    def _clear_outcomes(self) -> None:
        clear_outcomes(self._battles)
        self._dropped[:] = False

    def _in_parallel(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        """What the tasks return; all have ended by then. The first error is raised."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_battles, thread_name_prefix="starcraft")
        futures = [self._threads.submit(task) for task in tasks]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                self._started = False
                raise error
        return [future.result() for future in futures]


def check_starcraft(map_name: str, settings: StarCraftSettings, game_version: str | None = None) -> None:
    """Sees whether battles could be launched here, without launching any.

    Raises:
        StarCraftNotInstalled: the game, its protocol or the map is missing.
    """
    load_protocol()
    load_websocket()
    find_map(find_installation(settings.path, game_version), map_name)


def _close_all(columns: Sequence[GameSlot]) -> None:
    # All are told before the first is waited for. (No threads: this also runs when the interpreter ends.)
    for column in columns:
        if column.game is not None:
            column.game.ask_to_quit()
    for column in columns:
        column.close()


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
