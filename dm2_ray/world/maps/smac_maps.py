"""The 23 maps of the StarCraft Multi-Agent Challenge (Samvelyan et al., 2019, arXiv:1902.04043), from packaged data.

They were decoded from the map archives of oxwhirl/smac: size, walkable cells, heights, the units that the map script
creates and their positions, and its order to the enemies.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.maps.map_spec import EnemyOrder, MapSpec, Spawn, num_actions_for

# The order of kinds in the one-hots of unit types, on maps with several kinds. Quirk: on stalkers_and_zealots SMAC
# numbers the enemies by the game's standard unit ids, in which the zealot comes first, and the agents by its own ids,
# in which the stalker does.
_ALLY_TYPES = {
    "stalkers_and_zealots": ("stalker", "zealot"),
    "colossi_stalkers_zealots": ("colossus", "stalker", "zealot"),
    "bane": ("baneling", "zergling"),
    "MMM": ("marauder", "marine", "medivac"),
}


_ENEMY_TYPES = {**_ALLY_TYPES, "stalkers_and_zealots": ("zealot", "stalker")}


@cache
def _packaged(file_name: str) -> dict[str, Any]:
    text = resources.files("dm2_ray.world").joinpath(f"data/{file_name}").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def map_names() -> tuple[str, ...]:
    """Names of SMAC's maps, in its order."""
    return tuple(_packaged("maps.json"))


@cache
def _terrain(name: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    entry = _packaged("terrains.json")[name]
    rows_from_south = entry["walkable_rows_north_to_south"][::-1]
    walkable = np.array([[cell == "." for cell in row] for row in rows_from_south]).T
    runs = np.asarray(entry["vertex_height_runs_row_major_from_south"], dtype=np.float64)
    heights = np.repeat(runs[:, 0], runs[:, 1].astype(np.int64)).reshape(walkable.shape[1] + 1, walkable.shape[0] + 1).T
    walkable, heights = np.ascontiguousarray(walkable), np.ascontiguousarray(heights)
    walkable.flags.writeable = heights.flags.writeable = False
    return walkable, heights


@cache
def smac_map(name: str) -> MapSpec:
    """One of SMAC's maps, by its name."""
    entry = _packaged("maps.json")[name]
    ally_kinds = tuple(kind for kind, count in entry["ally_kinds"] for _ in range(count))
    enemy_kinds = tuple(kind for kind, count in entry["enemy_kinds"] for _ in range(count))
    map_type = entry["map_type"]
    walkable, terrain_height = smac_terrain(name)
    return MapSpec(
        name=name,
        num_agents=len(ally_kinds),
        num_enemies=len(enemy_kinds),
        num_actions=num_actions_for(ally_kinds, enemy_kinds),
        episode_limit=entry["episode_limit"],
        ally_race=entry["ally_race"],
        enemy_race=entry["enemy_race"],
        unit_type_bits=entry["unit_type_bits"],
        map_type=map_type,
        ally_kinds=ally_kinds,
        enemy_kinds=enemy_kinds,
        ally_types=_ALLY_TYPES.get(map_type, ally_kinds[:1]),
        enemy_types=_ENEMY_TYPES.get(map_type, enemy_kinds[:1]),
        walkable=walkable,
        terrain_height=terrain_height,
        spawns=tuple(Spawn(**spawn) for spawn in entry["spawns"]),
        enemy_order=EnemyOrder(
            kind=entry["enemy_order"]["kind"],
            start=tuple(entry["enemy_order"].get("start", (0.0, 0.0))),
            end=tuple(entry["enemy_order"].get("end", (0.0, 0.0))),
        ),
    )


def smac_terrain(name: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """`walkable` and `terrain_height` of one of SMAC's maps; maps with the same terrain share them."""
    return _terrain(_packaged("maps.json")[name]["terrain"])
