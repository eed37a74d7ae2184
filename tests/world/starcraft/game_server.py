"""A game server that speaks StarCraft II's protocol, with the embedded engine inside.

It is started as the game is (`fake_installation` puts it into a tree as `SC2_x64`), listens on /sc2api and answers the
requests that a SMAC battle is made of. Its world is a BattleVector of the same seed as `random_seed`, whose battles
follow each other as the map's script has it: whenever all units are dead, the next step creates new ones.

What the real game is free to do, it does: units come in another order with every observation, a neutral unit stands
among them, and they may be created late. It breaks down on command: see `Commands`.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.smac.rules_tables import height_image
from dm2_ray.world.starcraft.protocol import load_protocol
from dm2_ray.world.unit_kinds import unit_kind

NO_OP, STOP, FIRST_TARGET = 0, 1, 6
LAUNCHED, INIT_GAME, IN_GAME, QUIT = 1, 2, 3, 6
STOCK_TYPES = {
    "marine": 48,
    "marauder": 51,
    "medivac": 54,
    "stalker": 74,
    "zealot": 73,
    "colossus": 4,
    "zergling": 105,
    "baneling": 9,
    "hydralisk": 107,
    "spinecrawler": 98,
}
FIRST_AGENT_TYPE = 1970
"""The maps' own copies of the agents' kinds have consecutive numbers."""
KINDS_IN_CATALOGUE_ORDER = ("marauder", "marine", "medivac", "colossus", "stalker", "zealot", "baneling", "zergling")
MOVES = {(0, 1): 2, (0, -1): 3, (1, 0): 4, (-1, 0): 5}
NEUTRAL_OWNER, MINERALS = 16, 341
VERSION = "4.10.0.75689"


class Refused(Exception):
    """The request makes no sense; the answer says so."""


class Commands:
    """Files below `<dataDir>/commands/` that a test writes, each with one number, read whenever it matters.

    crash_at_launch: so many launches end at once, with a word on stderr.
    crash_at_create_game: likewise, a little later.
    crash_after_steps, hang_after_steps: of this many step requests a game answers the last no more.
    leak_mib_per_battle: the game grows.
    late_loops: so many loops at the beginning of a battle not all units are there.
    reverse_enemies: the enemies are listed in another order than that of their creation.
    refuse_map: create_game fails as on a damaged map; grant_games: for all games but the first so many.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, name: str) -> int:
        path = self._directory / name
        return int(path.read_text()) if path.is_file() else 0

    def grants_another(self) -> bool:
        """Whether this game is among the `grant_games` first, if there is such a number."""
        limit = self.get("grant_games")
        (self._directory / f"granted_to_{os.getpid()}").touch()
        return limit == 0 or len(list(self._directory.glob("granted_to_*"))) <= limit

    def take_one(self, name: str) -> bool:
        """Whether the number is positive; it is one less then."""
        left = self.get(name)
        if left > 0:
            (self._directory / name).write_text(str(left - 1))
        return left > 0


class World:
    """The battles of one game."""

    def __init__(self, map_name: str, seed: int, commands: Commands) -> None:
        # Imported late, so that games which do not come so far fail as fast as they can.
        from dm2_ray.world.battles.battle_vector import BattleVector

        self._make = BattleVector
        self.spec = load_map(map_name)
        self.game_loop = 0
        self.hidden_loops = commands.get("late_loops")
        self._commands = commands
        self._seed = seed
        self._number = 0
        self._battles = self._make(self.spec, 1, seed)
        self._battles.reset()
        self._actions = np.zeros(self.spec.num_agents, np.int64)
        self._ended = False
        self._killed: set[int] = set()
        self._observed = False
        agent_kinds = sorted(set(self.spec.ally_kinds), key=self._catalog_place)
        self._types = [
            *(FIRST_AGENT_TYPE + agent_kinds.index(kind) for kind in self.spec.ally_kinds),
            *(STOCK_TYPES[kind] for kind in self.spec.enemy_kinds),
        ]

    @staticmethod
    def _catalog_place(kind: str) -> int:
        return KINDS_IN_CATALOGUE_ORDER.index(kind) if kind in KINDS_IN_CATALOGUE_ORDER else 0

    @property
    def _units(self) -> Any:
        return self._battles.final_units() if self._ended else self._battles.units()

    def _tag(self, index: int) -> int:
        return (1 << 32) + (self._number << 12) + index

    def _index(self, tag: int) -> int:
        index = tag - self._tag(0)
        if not 0 <= index < len(self._types) or self._units.health[0, index] <= 0 or index in self._killed:
            raise Refused(f"no unit has tag {tag}")
        return index

    def _is_agent(self, index: int) -> bool:
        return index < self.spec.num_agents

    def order(self, command: Any) -> str:
        """One raw unit command, as the joint action that it stands for; the name of its result."""
        if len(command.unit_tags) != 1 or command.queue_command or not command.HasField("queue_command"):
            raise Refused("expected one unit and queue_command false")
        agent = command.unit_tags[0] - self._tag(0)
        if 0 <= agent < len(self._types) and self._units.health[0, agent] <= 0:
            return "Error"  # SMAC's heuristic orders the dead about
        agent = self._index(command.unit_tags[0])
        if not self._is_agent(agent):
            raise Refused("that is not your unit")
        target = command.WhichOneof("target")
        if command.ability_id == 4 and target is None:
            action = STOP
        elif command.ability_id == 16 and target == "target_world_space_pos":
            east = command.target_world_space_pos.x - self._units.x[0, agent]
            north = command.target_world_space_pos.y - self._units.y[0, agent]
            self._use(move_amount=abs(east) + abs(north))
            action = MOVES[int(np.sign(east)), int(np.sign(north))]
        elif command.ability_id == 23 and target == "target_unit_tag":
            action = FIRST_TARGET + self._index(command.target_unit_tag) - self.spec.num_agents
        elif command.ability_id == 386 and target == "target_unit_tag":
            action = FIRST_TARGET + self._index(command.target_unit_tag)
            if self.spec.ally_kinds[agent] != "medivac":
                raise Refused("only medivacs heal")
        else:
            raise Refused(f"ability {command.ability_id} with target {target}")
        self._actions[agent] = action
        return "Success"

    def kill(self, tags: list[int]) -> None:
        self._killed |= {self._index(tag) for tag in tags}

    def step(self, loops: int) -> None:
        self.game_loop += loops
        alive = [u for u in range(len(self._types)) if self._units.health[0, u] > 0 and u not in self._killed]
        if not alive:
            self._number += 1
            self._battles.reset(first_battle=self._number)
            self._ended, self._observed = False, False
            self._killed.clear()
            self.hidden_loops = self._commands.get("late_loops")
        elif self.hidden_loops:
            self.hidden_loops = max(0, self.hidden_loops - loops)
        elif not self._ended:
            if self._killed:
                raise Refused("this server kills all units or none")
            self._use(step_mul=loops)
            dead = self._units.health[0, : self.spec.num_agents] <= 0
            self._actions[dead] = NO_OP
            # Not step(): the game takes any order, also those that SMAC does not call available.
            self._battles._advance(self._actions[np.newaxis], np.ones(1, np.bool_), -1)
            self._ended = bool(self._battles.terminated[0] or self._battles.truncated[0])
        self._actions[:] = STOP

    def _use(self, **options: float) -> None:
        """Go on with other switches of the engine: what they are is only seen in the requests."""
        present = {name: getattr(self._battles.options, name) for name in ("step_mul", "move_amount")}
        if present | options != present:
            snapshot = self._battles.snapshot()
            self._battles = self._make(self.spec, 1, self._seed, **(present | options))
            self._battles.restore(snapshot)

    def show(self) -> list[dict[str, Any]]:
        """The raw units, the dead left out."""
        units = self._units
        kinds = [*self.spec.ally_kinds, *self.spec.enemy_kinds]
        visible = [u for u in range(len(kinds)) if units.health[0, u] > 0 and u not in self._killed]
        if self.hidden_loops:
            visible = visible[::2]
        # First the enemies in some order, by which they will be numbered; nothing else may be relied upon.
        enemies = [u for u in visible if not self._is_agent(u)]
        shown = enemies[:: -1 if self._commands.get("reverse_enemies") else 1]
        shown += [u for u in visible[::-1] if self._is_agent(u)]
        if self._observed:
            shown = shown[self.game_loop % max(1, len(shown)) :] + shown[: self.game_loop % max(1, len(shown))]
        self._observed = self._observed or not self.hidden_loops
        listed = [self._show_unit(units, u, unit_kind(kinds[u])) for u in shown]
        neutral = {"tag": 7, "unit_type": MINERALS, "owner": NEUTRAL_OWNER, "pos": {"x": 1.5, "y": 1.5}, "alliance": 3}
        return [neutral, *listed]

    def _show_unit(self, units: Any, u: int, kind: Any) -> dict[str, Any]:
        target = int(units.target[0, u])
        return {
            "display_type": "Visible",
            "alliance": "Self" if self._is_agent(u) else "Enemy",
            "tag": self._tag(u),
            "unit_type": self._types[u],
            "owner": 1 if self._is_agent(u) else 2,
            "pos": {"x": units.x[0, u], "y": units.y[0, u], "z": 8.0},
            "radius": kind.radius,
            "health": units.health[0, u],
            "health_max": kind.health,
            "shield": units.shield[0, u],
            "shield_max": kind.shield,
            "energy": units.energy[0, u],
            "weapon_cooldown": units.cooldown[0, u],
            **({"engaged_target_tag": self._tag(target)} if target >= 0 else {}),
        }

    def game_info(self) -> dict[str, Any]:
        size_x, size_y = self.spec.walkable.shape
        size = {"x": size_x, "y": size_y}
        pathing = np.packbits(self.spec.walkable.T).tobytes()
        return {
            "map_name": self.spec.name,
            "start_raw": {
                "map_size": size,
                "pathing_grid": {"bits_per_pixel": 1, "size": size, "data": pathing},
                "terrain_height": {"bits_per_pixel": 8, "size": size, "data": height_image(self.spec).T.tobytes()},
                "placement_grid": {"bits_per_pixel": 1, "size": size, "data": pathing},
                "playable_area": {"p0": {"x": 0, "y": 0}, "p1": size},
            },
        }


class GameServer:
    """Answers requests one by one."""

    def __init__(self, data_dir: Path) -> None:
        self.protocol = load_protocol()
        self.commands = Commands(data_dir / "commands")
        self.status = LAUNCHED
        self.world: World | None = None
        self._setup: tuple[str, int] | None = None
        self._steps = 0
        self._ballast: list[bytes] = []

    def answer(self, request: Any) -> Any:
        kind = request.WhichOneof("request")
        try:
            content = getattr(self, f"_answer_{kind}")(getattr(request, kind))
            response = self.protocol.response(**{kind: content})
        except AttributeError as error:
            response = self.protocol.response(error=[f"{kind} is not supported ({error})"])
        except (Refused, ValueError, KeyError) as error:
            response = self.protocol.response(error=[f"{type(error).__name__}: {error}"])
        response.id = request.id
        response.status = self.status
        return response

    @property
    def _in_game(self) -> World:
        if self.world is None:
            raise Refused("there is no game")
        return self.world

    def _answer_ping(self, ping: Any) -> dict[str, Any]:
        return {"game_version": VERSION, "data_version": "B89B5D6FA7CBF6452E721311BFBC6CB2", "data_build": 75689,
                "base_build": 75689}  # fmt: skip

    def _answer_create_game(self, create: Any) -> dict[str, Any]:
        if self.commands.take_one("crash_at_create_game"):
            print("Segmentation fault (pretended)", file=sys.stderr, flush=True)
            os._exit(139)
        if self.commands.get("refuse_map") or not self.commands.grants_another():
            return {"error": "InvalidMapData", "error_details": "a damaged map (pretended)"}
        if create.realtime or len(create.player_setup) != 2:
            raise Refused("expected a game of two players, not in real time")
        self._setup = (Path(create.local_map.map_path).stem, create.random_seed)
        if create.local_map.map_data != f"map {self._setup[0]}".encode():
            raise Refused("the map's bytes are not those of its file")
        self.status = INIT_GAME
        return {}

    def _answer_join_game(self, join: Any) -> dict[str, Any]:
        if self._setup is None:
            raise Refused("there is no game to join")
        self.world = World(*self._setup, self.commands)
        self.status = IN_GAME
        return {"player_id": 1}

    def _answer_game_info(self, game_info: Any) -> dict[str, Any]:
        return self._in_game.game_info()

    def _answer_data(self, data: Any) -> dict[str, Any]:
        return {"units": [{"unit_id": number, "name": kind.title()} for kind, number in STOCK_TYPES.items()]}

    def _answer_observation(self, observation: Any) -> dict[str, Any]:
        world = self._in_game
        return {"observation": {"game_loop": world.game_loop, "raw_data": {"units": world.show()}}}

    def _answer_action(self, action: Any) -> dict[str, Any]:
        return {"result": [self._in_game.order(one.action_raw.unit_command) for one in action.actions]}

    def _answer_step(self, step: Any) -> dict[str, Any]:
        self._steps += 1
        if self._steps == self.commands.get("crash_after_steps"):
            os._exit(1)
        if self._steps == self.commands.get("hang_after_steps"):
            time.sleep(3600)
        self._in_game.step(step.count)
        return {"simulation_loop": self._in_game.game_loop}

    def _answer_debug(self, debug: Any) -> dict[str, Any]:
        for command in debug.debug:
            self._in_game.kill(list(command.kill_unit.tag))
        self._ballast.append(os.urandom(2**20) * self.commands.get("leak_mib_per_battle"))
        return {}

    def _answer_save_replay(self, save_replay: Any) -> dict[str, Any]:
        return {"data": f"replay of {self._in_game.game_loop} loops".encode()}

    def _answer_quit(self, quit_request: Any) -> dict[str, Any]:
        self.status = QUIT
        return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("-listen", "-port", "-dataDir", "-tempDir", "-dataVersion"):
        parser.add_argument(option)
    options = parser.parse_args()
    root = Path(options.dataDir)
    server = GameServer(root)
    if server.commands.take_one("crash_at_launch"):
        print("cannot find its data (pretended)", file=sys.stderr, flush=True)
        sys.exit(3)
    (root / "log").mkdir(exist_ok=True)
    (root / "log" / f"{os.getpid()}.json").write_text(json.dumps({"arguments": sys.argv[1:], "env": dict(os.environ)}))
    log = (root / "log" / f"{os.getpid()}.requests").open("wb", buffering=0)

    if not (server.commands.get("refuse_map") or server.commands.get("crash_at_create_game")):
        # Before it listens, as the game loads its data: requests are then answered at once.
        World("3m", 0, server.commands)

    def talk(connection: ServerConnection) -> None:
        assert connection.request is not None and connection.request.path == "/sc2api"
        while True:
            try:
                # Like the game, taken as bytes whether the frame says text (pysc2) or binary (all others).
                message = connection.recv(decode=False)
            except ConnectionClosed:
                return
            log.write(struct.pack("<I", len(message)) + message)
            response = server.answer(server.protocol.request.FromString(message))
            if server.status == QUIT:
                os._exit(0)
            connection.send(response.SerializeToString())

    with serve(talk, options.listen, int(options.port), compression=None, max_size=None) as listener:
        listener.serve_forever()


if __name__ == "__main__":
    main()
