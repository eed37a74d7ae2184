"""Maps by name: the 23 of the StarCraft Multi-Agent Challenge (Samvelyan et al., 2019, arXiv:1902.04043), packaged
scenarios, and scenarios from YAML files (see `dm2_ray.world.scenario`).

SMAC's maps were decoded from the map archives that oxwhirl/smac ships: size, walkable cells, heights, what the map
script spawns where and which order it gives to the enemies. x grows east, y grows north.

Shapes: N agents, M enemies, A actions, X x Y cells.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dm2_ray.configs_directory import configs_dir

Race = Literal["T", "P", "Z"]

# The kinds behind the one-hots of unit types where a map has several. Quirk: on stalkers_and_zealots SMAC numbers the
# enemies by the game's stock unit ids, in which the zealot comes first, and the agents by its own ids, in which the
# stalker does.
_ALLY_TYPES = {
    "stalkers_and_zealots": ("stalker", "zealot"),
    "colossi_stalkers_zealots": ("colossus", "stalker", "zealot"),
    "bane": ("baneling", "zergling"),
    "MMM": ("marauder", "marine", "medivac"),
}
_ENEMY_TYPES = {**_ALLY_TYPES, "stalkers_and_zealots": ("zealot", "stalker")}


class UnknownMapError(ValueError):
    """A name that no map bears; the message names the nearest ones."""


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
    """no-op, stop, four moves, one per target: 6 + M; or 6 + N if that is more and the agents have medivacs, whose
    targets are agents."""
    episode_limit: int
    ally_race: Race
    """SMAC's letter for the agents' side; "P" means that shields are shown, so a side of several races has it if any of
    its kinds has shields."""
    enemy_race: Race
    unit_type_bits: int
    """Length of the one-hot of unit types in observations; 0 where each side has a single type."""
    map_type: str
    """SMAC's family name. Rules depend on "MMM" alone: medivacs heal agents, a side of medivacs only is beaten."""
    ally_kinds: tuple[str, ...]
    """[N] in agent order: by unit type, then by position; constant within a map."""
    enemy_kinds: tuple[str, ...]
    """[M] in the order of creation by the map's script."""
    ally_types: tuple[str, ...]
    """The agents' kinds in the order of the one-hot of unit types."""
    enemy_types: tuple[str, ...]
    walkable: NDArray[np.bool_]
    """[X, Y], indexed [x, y]; cell (x, y) covers [x, x + 1) x [y, y + 1). 32 x 32 on SMAC's maps."""
    terrain_height: NDArray[np.float64]
    """[X + 1, Y + 1] heights at the cells' corners, indexed [x, y]."""
    spawns: tuple[Spawn, ...]
    """In the order of the script."""
    enemy_order: EnemyOrder
    is_scenario: bool = False
    """Not one of SMAC's maps: whoever compares worlds has to look at more than the name."""

    def __post_init__(self) -> None:
        sizes = {
            "ally_kinds": (len(self.ally_kinds), self.num_agents),
            "enemy_kinds": (len(self.enemy_kinds), self.num_enemies),
            "num_actions": (self.num_actions, num_actions_for(self.ally_kinds, self.enemy_kinds)),
            "ally_types": (sorted(self.ally_types), sorted(set(self.ally_kinds))),
            "enemy_types": (sorted(self.enemy_types), sorted(set(self.enemy_kinds))),
            "unit_type_bits": (self.unit_type_bits, type_bits_for(self.ally_kinds, self.enemy_kinds)),
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

    @property
    def scenario_hash(self) -> str | None:
        """Sixteen hexadecimal digits for a scenario's content without its name; None on SMAC's maps."""
        if not self.is_scenario:
            return None
        plain = (self.episode_limit, self.ally_kinds, self.enemy_kinds, self.walkable.shape)
        script = ([astuple(spawn) for spawn in self.spawns], astuple(self.enemy_order))
        digest = hashlib.sha256(json.dumps([plain, script]).encode())
        digest.update(np.packbits(self.walkable).tobytes())
        digest.update(self.terrain_height.tobytes())
        return digest.hexdigest()[:16]


def num_actions_for(ally_kinds: tuple[str, ...], enemy_kinds: tuple[str, ...]) -> int:
    """A: medivacs among the agents number their targets by agent, all others by enemy."""
    return 6 + max(len(enemy_kinds), len(ally_kinds) if "medivac" in ally_kinds else 0)


def type_bits_for(ally_kinds: tuple[str, ...], enemy_kinds: tuple[str, ...]) -> int:
    """Length of the one-hot of unit types: 0 where nobody could be mistaken for another kind of its side."""
    kinds = max(len(set(ally_kinds)), len(set(enemy_kinds)))
    return kinds if kinds > 1 else 0


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


def scenario_names() -> tuple[str, ...]:
    """Names of the packaged scenarios (configs/scenarios), in alphabetical order."""
    return tuple(sorted(path.stem for path in (configs_dir() / "scenarios").glob("*.yaml")))


def scenario_file(name: str | os.PathLike[str]) -> Path | None:
    """The file behind a name that is a packaged scenario's or a path; None for SMAC's maps and unknown names."""
    text = os.fspath(name)
    if text in map_names():
        return None
    if text in scenario_names():
        return configs_dir() / "scenarios" / f"{text}.yaml"
    return Path(text) if text.endswith((".yaml", ".yml")) or os.path.exists(text) else None


def load_map(name: str | os.PathLike[str]) -> MapSpec:
    """The map called `name`: one of SMAC's, a packaged scenario, or the scenario in the YAML file of that path.

    Raises:
        UnknownMapError: nothing bears that name.
        ScenarioError: the file is no usable scenario.
    """
    text = os.fspath(name)
    if text in map_names():
        return _smac_map(text)
    path = scenario_file(text)
    if path is None:
        known = (*map_names(), *scenario_names())
        near = difflib.get_close_matches(text, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known maps: {', '.join(known)}"
        raise UnknownMapError(f"unknown map {text!r}; {hint}")
    # Imported where it is needed: SMAC's maps do without YAML and pydantic.
    from dm2_ray.world.scenario import load_scenario

    return load_scenario(path)


def world_map(name: str, scenario: Mapping[str, Any] | None = None) -> MapSpec:
    """The map of a configured world: `scenario` (the key world.scenario) if it is filled in, else the map called `name`
    (world.map). Everything that makes battles from a configuration asks here.

    Raises:
        UnknownMapError, ScenarioError: as `load_map`.
    """
    if scenario is None:
        return load_map(name)
    from dm2_ray.world.scenario import scenario_from_mapping

    return scenario_from_mapping(scenario, origin="world.scenario")


@cache
def _smac_map(name: str) -> MapSpec:
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
    """`walkable` and `terrain_height` of one of SMAC's maps; maps that look alike share them."""
    return _terrain(_packaged("maps.json")[name]["terrain"])
