"""The requests of a SMAC battle, field by field as oxwhirl/smac's StarCraft2Env sends them.

Each function returns the name of a request and its content (`StarCraftGame.request(*...)`). A battle is

    create_game, join_game, game_info                  once per game
    debug (all units die), step 2                      before every battle but a game's first: the map's script then
                                                       creates new units
    observation, (step 1, observation)*                until all units exist
    (action, step, observation)*                       one env step

Shapes: N agents, U units, agents first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP, WEST
from dm2_ray.world.starcraft.install import MapFile

Request = tuple[str, Mapping[str, Any]]

MOVE_ABILITY, STOP_ABILITY, ATTACK_ABILITY, HEAL_ABILITY = 16, 4, 23, 386
RESPAWN_LOOPS = 2
"""Game loops after all units have been killed, in which the map's script creates new ones."""

GAME_INFO: Request = ("game_info", {})
SAVE_REPLAY: Request = ("save_replay", {})
# SMAC sends these fields although they have their default values.
OBSERVATION: Request = ("observation", {"game_loop": 0, "disable_fog": False})

_RACES = {"T": "Terran", "P": "Protoss", "Z": "Zerg"}
_DIFFICULTIES = {
    "1": "VeryEasy",
    "2": "Easy",
    "3": "Medium",
    "4": "MediumHard",
    "5": "Hard",
    "6": "Harder",
    "7": "VeryHard",
    "8": "CheatVision",
    "9": "CheatMoney",
    "A": "CheatInsane",
}
_STEPS = {NORTH: (0, 1), SOUTH: (0, -1), EAST: (1, 0), WEST: (-1, 0)}


def create_game(map_file: MapFile, map_spec: MapSpec, difficulty: str, random_seed: int) -> Request:
    """Create a game on the map against a computer player, which does nothing on SMAC's maps."""
    computer = {"type": "Computer", "race": _RACES[map_spec.enemy_race], "difficulty": _DIFFICULTIES[difficulty]}
    return "create_game", {
        "local_map": {"map_path": map_file.name, "map_data": map_file.data},
        "player_setup": [{"type": "Participant"}, computer],
        "realtime": False,
        "random_seed": random_seed,
    }


def join_game(map_spec: MapSpec) -> Request:
    """Join as the agents' side; observations contain raw units only."""
    return "join_game", {"race": _RACES[map_spec.ally_race], "options": {"raw": True, "score": False}}


def step(loops: int) -> Request:
    """Play this many game loops."""
    return "step", {"count": loops}


def kill(tags: Sequence[int]) -> Request:
    """Kill the units with these tags."""
    return "debug", {"debug": [{"kill_unit": {"tag": tags}}]}


def orders(
    actions: NDArray[np.int64],
    tags: Sequence[int],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    is_medivac: NDArray[np.bool_],
    move_amount: float,
) -> Request:
    """A joint action [N] as one order per living agent, which replaces the agent's earlier order.

    Args:
        actions: Available actions; no-op for the dead.
        tags: The game's identifiers of the U units.
        x: [U] positions, growing east.
        y: [U] positions, growing north.
        is_medivac: [U] units whose targets are agents if they are agents themselves.
        move_amount: Length of a move order.
    """
    num_agents = len(actions)
    commands = []
    for agent, action in enumerate(actions.tolist()):
        if action == NO_OP:
            continue
        if action == STOP:
            order: dict[str, Any] = {"ability_id": STOP_ABILITY}
        elif action < FIRST_TARGET:
            east, north = _STEPS[action]
            point = {"x": x[agent] + move_amount * east, "y": y[agent] + move_amount * north}
            order = {"ability_id": MOVE_ABILITY, "target_world_space_pos": point}
        else:
            heals = is_medivac[agent]
            target = action - FIRST_TARGET + (0 if heals else num_agents)
            order = {"ability_id": HEAL_ABILITY if heals else ATTACK_ABILITY, "target_unit_tag": tags[target]}
        command = {**order, "unit_tags": [tags[agent]], "queue_command": False}
        commands.append({"action_raw": {"unit_command": command}})
    return "action", {"actions": commands}
