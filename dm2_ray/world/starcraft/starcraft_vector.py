"""StarCraftVector: battles of real StarCraft II, stepped together, with BattleVector's interface.

    StarCraftVector ──one thread each──► B × GameSlot ──websocket──► B × StarCraft II process (under a watchdog)
          │                                     ▲ units of the observation
          └── the rules' kernels: observations, masks, state, rewards, ends; the same code as for the embedded engine

The driver uses the game's own protocol and sends the requests of oxwhirl/smac's StarCraft2Env in the same order; of
SMAC only the map files are needed. Differences from the embedded battles:

* A battle is not a function of seed and number: the game's own randomness continues from battle to battle. The seed
  only determines the seeds with which games are launched.
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
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.joint_actions import check_actions
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.heuristic import SmacHeuristic
from dm2_ray.world.starcraft.game_slot import GameSetup, GameSlot
from dm2_ray.world.starcraft.install import find_installation, find_map
from dm2_ray.world.starcraft.observed_outcomes import clear_outcomes, write_initial_views, write_step_views
from dm2_ray.world.starcraft.protocol import StarCraftError, load_protocol
from dm2_ray.world.units.state import HEALTH, SHIELD


class StarCraftVector(BattleBackend):
    """B battles of StarCraft II on one map; attributes and methods are BattleVector's.

    The first reset() starts all games in parallel, one process each (about 1 GB of memory).

    Args:
        map_name: Name of a packaged map, or a MapSpec; SMAC's map file of that name must be installed.
        num_battles: B, at least 1.
        seed: Games get seeds derived from (seed, column, number of games launched in this column).
        settings: The section `world.starcraft` of the configuration.
        first_battle: Number of column 0's first battle, at least 0.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError: No such map.
        TypeError, ValueError: An unknown SMAC argument, a value out of range.
    """

    backend: Literal["starcraft"] = "starcraft"

    def __init__(
        self,
        map_name: str | MapSpec,
        num_battles: int,
        seed: int = 0,
        *,
        settings: StarCraftSettings | None = None,
        first_battle: int = 0,
        **smac_arguments: Any,
    ) -> None:
        super().__init__(map_name, num_battles, EngineSettings(), smac_arguments, seed=seed, first_battle=first_battle)
        self.settings = settings or StarCraftSettings()
        self._slots: list[GameSlot] = []
        self._threads: ThreadPoolExecutor | None = None
        self._finalizer = weakref.finalize(self, _close_all, self._slots)
        self._heuristics = {b: SmacHeuristic(self._rules, 1, self.options.heuristic_rest) for b in range(num_battles)}

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Start battles first_battle + b, by default the constructor's number. A battle that has not been stepped yet
        is kept; only its number changes.

        Args:
            seed: Of games launched from now on; games that run already continue with their own randomness.
            first_battle: Number of column 0's battle.

        Raises:
            StarCraftNotInstalled: The game, its protocol or the map is missing.
            StarCraftError: A game could not be started.
        """
        number = self._first_number(first_battle)
        if seed is not None:
            self.seed = seed
        if not self._slots:
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
            running: [B] bool; battles where it is False stay as they are. None plays all.

        Raises:
            RuntimeError: Before the first reset(), or after an error of the game.
            TypeError: Actions are not integers.
            ValueError: Wrong shapes, or an action that is not available; then nothing has been played.
            StarCraftError: A game was lost and no other could be started.
        """
        if not self._started:
            raise RuntimeError("step() before reset(): call reset() to start the battles")
        battles, is_free = self._battles, self.options.heuristic_ai
        joint_actions, mask = check_actions(battles, actions, running, any_in_range=is_free)
        self._played[...] = self._choose_actions(joint_actions, mask)
        columns = np.flatnonzero(mask).tolist()
        health, shield = battles.units[:, HEALTH].copy(), battles.units[:, SHIELD].copy()
        self._clear_outcomes()
        kept = self._in_parallel([partial(self._slots[b].play, self._played[b], self.seed) for b in columns])
        ended = []
        for b, is_kept in zip(columns, kept, strict=True):
            if is_kept:
                # Quirk: SMAC stores the actions it was given before its heuristic replaces them.
                battles.last_actions[b] = joint_actions[b]
                if write_step_views(battles, b, self._slots[b].rules, health[b], shield[b]):
                    self._slots[b].battle_ended()
                    ended.append(b)
            else:
                self._dropped[b] = True
                self._write_initial_views(b)
        self._begin(ended)
        battles.battle_number[ended] += self.num_battles

    def save_replay(self, column: int = 0) -> Path:
        """Write the replay of all that a column's game has played so far, in StarCraft II's format. The options
        replay_dir (below the game's Replays/) and replay_prefix (by default the map's name) say where.

        Raises:
            StarCraftError: There is no game, or it returns no replay.
        """
        if not self._slots:
            raise StarCraftError("there is no game whose replay could be saved: call reset() first")
        return self._slots[column].save_replay()

    @property
    def engine_version(self) -> str:
        """The game's version, as exactly as it is known so far."""
        return self._slots[0].version if self._slots else "not started yet"

    @property
    def game_pids(self) -> list[int | None]:
        """[B] process ids of the games; None where no game runs."""
        if not self._slots:
            return [None] * self.num_battles
        return [None if column.game is None else column.game.pid for column in self._slots]

    @property
    def crash_restarts(self) -> int:
        """Games that crashed, hung or would not start, and were replaced."""
        return sum(column.crash_restarts for column in self._slots)

    @property
    def scheduled_restarts(self) -> int:
        """Games that were replaced because of their age or memory."""
        return sum(column.scheduled_restarts for column in self._slots)

    def close(self) -> None:
        """End all games. The next reset() starts new ones."""
        self._started = False
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        _close_all(self._slots)

    def _prepare(self) -> None:
        # Called by the first reset(), because a driver process that never plays need not have the game installed.
        load_protocol()
        installation = find_installation(self.settings.path, self.options.game_version)
        setup = GameSetup(
            installation=installation,
            map_file=find_map(installation, self.map_name),
            map_spec=self.map_spec,
            options=self.options,
            settings=self.settings,
            rules=self._rules,
        )
        battles = self._battles
        self._slots.extend(GameSlot(setup, b, battles.units[b], battles.flags[b]) for b in range(self.num_battles))

    def _choose_actions(self, given: NDArray[np.int64], running: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[B, N] the actions to play: with heuristic_ai the heuristic's, otherwise the given ones."""
        if not self.options.heuristic_ai:
            return given
        chosen = given.copy()
        battles = self._battles
        for b in np.flatnonzero(running).tolist():
            one = slice(b, b + 1)
            chosen[b] = self._heuristics[b].act(battles.units[one], battles.action_mask[one], running[one])[0]
        return chosen

    def _write_initial_views(self, b: int) -> None:
        rules = self._slots[b].rules
        write_initial_views(self._battles, b, rules)
        self._heuristics[b] = SmacHeuristic(rules, 1, self.options.heuristic_rest)

    def _begin(self, columns: Sequence[int]) -> None:
        self._in_parallel([partial(self._slots[b].begin, self.seed) for b in columns])
        for b in columns:
            self._write_initial_views(b)

    def _clear_outcomes(self) -> None:
        clear_outcomes(self._battles)
        self._dropped[:] = False

    def _in_parallel(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        """The tasks' results, after all have ended; raises the first error."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_battles, thread_name_prefix="starcraft")
        futures = [self._threads.submit(task) for task in tasks]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                self._started = False
                raise error
        return [future.result() for future in futures]


def _close_all(columns: Sequence[GameSlot]) -> None:
    # All games are asked to quit before the first is waited for. (No threads: this also runs at interpreter exit.)
    for column in columns:
        if column.game is not None:
            column.game.ask_to_quit()
    for column in columns:
        column.close()
