"""GameSlot: plays one column's battles, in one game after another.

    no game ──launch──► fresh battle ──play──► running battle ──(ended) begin──► fresh battle
                             ▲                        │
                             └──── new game ◄─────────┘ the game crashed, hangs, is too old or uses too much memory

A battle that is lost with its game does not count: it is neither won nor lost, and its column continues with a fresh
one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.files import write_atomically
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.starcraft import requests
from dm2_ray.world.starcraft.game import GameLost, StarCraftGame
from dm2_ray.world.starcraft.install import Installation, MapFile
from dm2_ray.world.starcraft.protocol import StarCraftError
from dm2_ray.world.starcraft.units import BattleUnits, with_game_map, with_unit_constants
from dm2_ray.world.units.state import UnitFlags, Units, X, Y

logger = logging.getLogger(__name__)

MAX_LAUNCHES = 3
"""Launches that may fail in a row before the column gives up."""
MAX_LOSSES = 3
"""Battles that may be lost in a row with their games before the column gives up."""
_MAX_CREATION_LOOPS = 200
"""Game loops within which the map's script must create all units; it takes one or two."""
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class GameSetup:
    """What all columns play.

    Attributes:
        rules: Tables from the packaged data; the game's own numbers replace them.
    """

    installation: Installation
    map_file: MapFile
    map_spec: MapSpec
    options: SmacOptions
    settings: StarCraftSettings
    rules: RulesTables


class GameSlot:
    """One column of a StarCraftVector. All methods wait for the game; other columns run in other threads.

    Args:
        setup: What is played.
        index: Number of the column.
        units: [F, U] of the running battle, updated by this object (see BattleUnits).
        flags: [G, U] likewise.

    Attributes:
        rules: Tables of the running battle.
        crash_restarts: Games that were lost, or did not start, and were replaced.
        scheduled_restarts: Games that were replaced because of their age or memory.
        version: The installation's build; the version that the game reports once it runs.
    """

    def __init__(self, setup: GameSetup, index: int, units: Units, flags: UnitFlags) -> None:
        self.game: StarCraftGame | None = None
        self.rules = setup.rules
        self.crash_restarts = 0
        self.scheduled_restarts = 0
        self.version = f"Base{setup.installation.build}"
        self._setup = setup
        self._index = index
        self._units = units
        self._flags = flags
        self._members: BattleUnits | None = None
        self._map_rules = setup.rules
        self._is_fresh = False
        self._launches = 0
        self._losses = 0
        self._battles = 0

    def begin(self, seed: int) -> None:
        """Provide a fresh battle. A battle that has not been stepped yet is fresh and is kept. (SMAC answers a second
        reset of its first battle with a second game and another scale of its rewards.)

        Args:
            seed: Seed of the game, if one has to be launched.

        Raises:
            StarCraftError: No game could be started.
        """
        if self._is_fresh:
            return
        if self.game is not None and self._needs_restart(self.game):
            self.close()
            self.scheduled_restarts += 1
        if self.game is not None:
            try:
                self._respawn(self.game)
                return
            except GameLost as lost:
                self._record_loss(lost)
        self._launch(seed)

    def play(self, actions: NDArray[np.int64], seed: int) -> bool:
        """Play one env step with available actions [N]. Returns False if the battle was lost with its game and a fresh
        one has begun.

        Raises:
            StarCraftError: No game could be started.
        """
        game, members = self.game, self._members
        if game is None or members is None:
            raise RuntimeError("play() before begin()")
        options, rules = self._setup.options, self.rules
        self._is_fresh = False
        try:
            game.request(
                *requests.orders(
                    actions, members.tags, self._units[X], self._units[Y], rules.is_medivac, options.move_amount
                )
            )
            game.request(*requests.step(options.step_mul))
            members.update(_raw_units(game))
        except GameLost as lost:
            self._record_loss(lost)
            self._losses += 1
            if self._losses >= MAX_LOSSES:
                raise StarCraftError(
                    f"StarCraft II: {self._losses} battles in a row were lost with their games; the last: {lost}"
                ) from lost
            self._launch(seed)
            return False
        return True

    def battle_ended(self) -> None:
        """The battle has ended; the next begin() starts another."""
        self._battles += 1
        self._losses = 0

    def save_replay(self) -> Path:
        """Write the replay of everything that the game has played so far; the options determine the path.

        Raises:
            StarCraftError: There is no game, or it returns no replay.
        """
        setup, options = self._setup, self._setup.options
        if self.game is None:
            raise StarCraftError(f"column {self._index} has no game whose replay could be saved: call reset() first")
        try:
            data = self.game.request(*requests.SAVE_REPLAY).data
        except GameLost as lost:
            raise StarCraftError(f"column {self._index}: no replay: {lost}") from None
        directory = setup.installation.root / "Replays" / (options.replay_dir or "")
        directory.mkdir(parents=True, exist_ok=True)
        time = datetime.now(timezone.utc).strftime("%Y-%m-%d-%H-%M-%S")
        path = directory / f"{options.replay_prefix or setup.map_spec.name}_{time}.SC2Replay"
        write_atomically(path, data)
        return path

    def close(self) -> None:
        """End the game, if there is one."""
        self._is_fresh = False
        if self.game is not None:
            self.game.close()
            self.game = None

    def _needs_restart(self, game: StarCraftGame) -> bool:
        settings = self._setup.settings
        is_old = 0 < settings.restart_after_episodes <= self._battles
        return is_old or 0 < settings.memory_limit_gib * _GIB < game.memory_bytes

    def _record_loss(self, lost: GameLost) -> None:
        logger.warning("StarCraft II, battle column %d: %s; the game is replaced", self._index, lost)
        self.crash_restarts += 1
        self._is_fresh = False
        if self.game is not None:
            self.game.kill()
            self.game = None

    def _launch(self, seed: int) -> None:
        for attempt in range(1, MAX_LAUNCHES + 1):
            try:
                self._launch_once(seed)
                return
            except GameLost as lost:
                self._record_loss(lost)
                if attempt == MAX_LAUNCHES:
                    raise StarCraftError(
                        f"StarCraft II ({self._setup.installation.binary}) could not be started {attempt} times in a "
                        f"row: {lost}"
                    ) from lost

    def _launch_once(self, seed: int) -> None:
        setup, settings = self._setup, self._setup.settings
        self.game = game = StarCraftGame(
            setup.installation,
            launch_timeout_s=settings.launch_timeout_s,
            request_timeout_s=settings.request_timeout_s,
        )
        self.version = game.version
        self._battles = 0
        random_seed = _game_seed(seed, self._index, self._launches)
        # A game that is restarted with the same seed would play the same battles again.
        self._launches += 1
        game.request(*requests.create_game(setup.map_file, setup.map_spec, setup.options.difficulty, random_seed))
        game.request(*requests.join_game(setup.map_spec))
        self._map_rules = with_game_map(setup.rules, game.request(*requests.GAME_INFO))
        self._await_units(game)

    def _respawn(self, game: StarCraftGame) -> None:
        assert self._members is not None
        game.request(*requests.kill(self._members.living_tags))
        game.request(*requests.step(requests.RESPAWN_LOOPS))
        self._await_units(game)

    def _await_units(self, game: StarCraftGame) -> None:
        setup = self._setup
        for _ in range(_MAX_CREATION_LOOPS):
            members = BattleUnits(_raw_units(game), setup.map_spec, self._units, self._flags)
            if members.ready:
                self._members = members
                self.rules = with_unit_constants(self._map_rules, setup.map_spec, setup.options, members)
                self._is_fresh = True
                return
            game.request(*requests.step(1))
        expected = (setup.map_spec.num_agents, setup.map_spec.num_enemies)
        raise GameLost(f"{members.counts} units on two sides after {_MAX_CREATION_LOOPS} loops, expected {expected}")


def _raw_units(game: StarCraftGame) -> Any:
    return game.request(*requests.OBSERVATION).observation.raw_data.units


def _game_seed(seed: int, column: int, launch: int) -> int:
    words = np.random.SeedSequence((seed % 2**64, column, launch)).generate_state(1, np.uint32)
    return int(words[0])
