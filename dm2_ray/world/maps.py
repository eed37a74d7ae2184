"""The 23 maps of the StarCraft Multi-Agent Challenge (Samvelyan et al., 2019, arXiv:1902.04043).

Everything here was decoded from the map archives that oxwhirl/smac ships: size, walkable cells, heights, what the map
script spawns where and which order it gives to the enemies. x grows east, y grows north.

Shapes: N agents, M enemies, A actions.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Race = Literal["T", "P", "Z"]


class UnknownMapError(ValueError):
    """A map name that no packaged map bears; the message names the nearest ones."""


@dataclass(frozen=True, kw_only=True)
class Spawn:
    """One line of the map's spawning script: `count` units of `kind`, all at the point (x, y)."""

    owner: Literal[1, 2]
    """1: the agents' side; 2: the enemy."""
    count: int
    kind: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class EnemyOrder:
    """The one order that all enemies get at the start of a battle."""

    kind: Literal["attack_move", "attack_agents", "none"]
    """attack_move: fight the way to a point drawn uniformly on the segment start..end (one point when they are equal);
    attack_agents: attack the group of agents wherever they are; none: stay."""
    start: tuple[float, float] = (0.0, 0.0)
    end: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MapSpec:
    """One map."""

    name: str
    num_agents: int
    num_enemies: int
    num_actions: int
    """no-op, stop, four moves, one attack per enemy: 6 + M."""
    episode_limit: int
    ally_race: Race
    enemy_race: Race
    unit_type_bits: int
    """Length of the one-hot of unit types in observations; 0 where each side has a single type."""
    map_type: str
    """SMAC's family name, on which some rules depend ("MMM", "stalkers_and_zealots", ...)."""
    ally_kinds: tuple[str, ...]
    """[N] in agent order: by unit type, then by position; constant within a map."""
    enemy_kinds: tuple[str, ...]
    """[M] in the order of creation by the map's script."""
    walkable: NDArray[np.bool_]
    """[32, 32], indexed [x, y]; cell (x, y) covers [x, x + 1) x [y, y + 1)."""
    terrain_height: NDArray[np.float64]
    """[33, 33] heights at the cells' corners, indexed [x, y]."""
    spawns: tuple[Spawn, ...]
    """In the order of the script."""
    enemy_order: EnemyOrder

    def __post_init__(self) -> None:
        sizes = {
            "ally_kinds": (len(self.ally_kinds), self.num_agents),
            "enemy_kinds": (len(self.enemy_kinds), self.num_enemies),
            "num_actions": (self.num_actions, 6 + self.num_enemies),
            "allied spawns": (sum(s.count for s in self.spawns if s.owner == 1), self.num_agents),
            "enemy spawns": (sum(s.count for s in self.spawns if s.owner == 2), self.num_enemies),
        }
        for what, (found, expected) in sizes.items():
            if found != expected:
                raise ValueError(f"map {self.name!r}: {what}: found {found}, expected {expected}")
        if self.terrain_height.shape != tuple(n + 1 for n in self.walkable.shape):
            raise ValueError(
                f"map {self.name!r}: terrain_height has shape {self.terrain_height.shape}, expected one more "
                f"vertex than cells along each axis of walkable {self.walkable.shape}"
            )


@cache
def _packaged(file_name: str) -> dict[str, Any]:
    text = resources.files("dm2_ray.world").joinpath(f"data/{file_name}").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def map_names() -> tuple[str, ...]:
    """Names of all packaged maps, in SMAC's order."""
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
def load_map(name: str) -> MapSpec:
    """The map called `name`.

    Raises:
        UnknownMapError: no packaged map bears that name.
    """
    maps = _packaged("maps.json")
    if name not in maps:
        near = difflib.get_close_matches(name, maps, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known maps: {', '.join(maps)}"
        raise UnknownMapError(f"unknown map {name!r}; {hint}")
    entry = maps[name]
    ally_kinds = tuple(kind for kind, count in entry["ally_kinds"] for _ in range(count))
    enemy_kinds = tuple(kind for kind, count in entry["enemy_kinds"] for _ in range(count))
    walkable, terrain_height = _terrain(entry["terrain"])
    return MapSpec(
        name=name,
        num_agents=len(ally_kinds),
        num_enemies=len(enemy_kinds),
        num_actions=6 + len(enemy_kinds),
        episode_limit=entry["episode_limit"],
        ally_race=entry["ally_race"],
        enemy_race=entry["enemy_race"],
        unit_type_bits=entry["unit_type_bits"],
        map_type=entry["map_type"],
        ally_kinds=ally_kinds,
        enemy_kinds=enemy_kinds,
        walkable=walkable,
        terrain_height=terrain_height,
        spawns=tuple(Spawn(**spawn) for spawn in entry["spawns"]),
        enemy_order=EnemyOrder(
            kind=entry["enemy_order"]["kind"],
            start=tuple(entry["enemy_order"].get("start", (0.0, 0.0))),
            end=tuple(entry["enemy_order"].get("end", (0.0, 0.0))),
        ),
    )
