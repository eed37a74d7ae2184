"""Builds a map from a scenario's content.

Shapes: X x Y cells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dm2_ray.config.errors import closest_match, format_value
from dm2_ray.world.maps.map_spec import (
    EnemyOrder,
    MapSpec,
    Race,
    Spawn,
    num_actions_for,
    type_bits_for,
)
from dm2_ray.world.maps.scenario_checks import FixedPosition, check_positions
from dm2_ray.world.maps.scenario_schema import (
    MAX_CELLS,
    MAX_UNITS,
    MIN_CELLS,
    InvalidScenario,
    Scenario,
    Terrain,
    UnitGroup,
)
from dm2_ray.world.maps.smac_maps import (
    map_names,
    smac_terrain,
)
from dm2_ray.world.unit_kinds import kind_names, unit_kind

POSITION_GRID = 4096.0
"""The engine rounds positions to multiples of 1 / POSITION_GRID cells."""
FLOOR_HEIGHT, LEVEL_HEIGHT, MAX_LEVEL = 8.0, 2.0, 4
"""Height of SMAC's floor; height of a cliff level; the highest level that the game's height image can show."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
Owner = Literal[1, 2]

_TERRANS = ("marine", "marauder", "medivac")


@lru_cache(maxsize=64)
def build_map(scenario: Scenario) -> MapSpec:
    """The scenario's map; equal scenarios share one.

    Raises:
        InvalidScenario: Values contradict each other.
    """
    if not _NAME.fullmatch(scenario.name):
        raise InvalidScenario(
            ("name",), f"must be letters, digits and any of _.- (at most 64), got {format_value(scenario.name)}"
        )
    if scenario.name in map_names():
        raise InvalidScenario(("name",), f"{scenario.name} is one of SMAC's maps; choose another name")
    walkable, terrain_height = _ground(scenario.terrain)
    spawns: list[Spawn] = []
    exact: list[FixedPosition] = []
    _create(scenario.agents, "agents", 1, walkable, spawns, exact)
    _create(scenario.enemies, "enemies", 2, walkable, spawns, exact)
    kinds = {owner: [s.kind for s in spawns if s.owner == owner for _ in range(s.count)] for owner in (1, 2)}
    for side, created in (("agents", kinds[1]), ("enemies", kinds[2])):
        if len(created) > MAX_UNITS:
            raise InvalidScenario((side,), f"has {len(created)} units; a side has at most {MAX_UNITS}")
        if set(created) == {"medivac"}:
            raise InvalidScenario((side,), "has only medivacs; a side that cannot fight has lost from the start")
    # Agents are numbered by kind in the catalog's order, then by position; enemies as they are created.
    ally_kinds, enemy_kinds = tuple(sorted(kinds[1], key=kind_names().index)), tuple(kinds[2])
    first = spawns[0]
    order = scenario.enemy_order or EnemyOrder(kind="attack_move", start=(first.x, first.y), end=(first.x, first.y))
    for point in (order.start, order.end):
        if not all(0 <= value <= size for value, size in zip(point, walkable.shape, strict=True)):
            raise InvalidScenario(
                ("enemy_order",), f"attack_move {list(point)} is not on the map of {_size(walkable)} cells"
            )
    spec = MapSpec(
        name=scenario.name,
        num_agents=len(ally_kinds),
        num_enemies=len(enemy_kinds),
        num_actions=num_actions_for(ally_kinds, enemy_kinds),
        episode_limit=scenario.episode_limit,
        ally_race=_race(ally_kinds),
        enemy_race=_race(enemy_kinds),
        unit_type_bits=type_bits_for(ally_kinds, enemy_kinds),
        map_type="MMM" if "medivac" in ally_kinds + enemy_kinds else "scenario",
        ally_kinds=ally_kinds,
        enemy_kinds=enemy_kinds,
        ally_types=tuple(sorted(set(ally_kinds), key=kind_names().index)),
        enemy_types=tuple(sorted(set(enemy_kinds), key=kind_names().index)),
        walkable=walkable,
        terrain_height=terrain_height,
        spawns=tuple(spawns),
        enemy_order=order,
        is_scenario=True,
    )
    check_positions(spec, exact)
    return spec


def _create(
    groups: Sequence[UnitGroup],
    side: str,
    owner: Owner,
    walkable: NDArray[np.bool_],
    spawns: list[Spawn],
    exact: list[FixedPosition],
) -> None:
    """Append one side's spawns to `spawns`, and the positions given for single units to `exact`."""
    for index, group in enumerate(groups):
        key = (side, str(index))
        if group.kind not in kind_names():
            names = ", ".join(kind_names())
            hint = closest_match(group.kind, kind_names())
            raise InvalidScenario((*key, "kind"), f"must be one of {names}, got {format_value(group.kind)}{hint}")
        is_cluster = group.count is not None or group.x is not None or group.y is not None
        if is_cluster == (group.at is not None):
            raise InvalidScenario(key, "needs either x and y (with a count), or positions (at: [[x, y], ...])")
        if group.at is None:
            if group.x is None or group.y is None:
                raise InvalidScenario(key, f"{'x' if group.x is None else 'y'} is missing")
            _check_ground(walkable, (group.x, group.y), key)
            spawns.append(Spawn(owner=owner, count=group.count or 1, kind=group.kind, x=group.x, y=group.y))
            continue
        for number, (x, y) in enumerate(group.at):
            position_key = (*key, "at", str(number))
            _check_ground(walkable, (x, y), position_key)
            exact.append(FixedPosition(position_key, owner, group.kind, x, y))
            spawns.append(Spawn(owner=owner, count=1, kind=group.kind, x=x, y=y))


def _check_ground(walkable: NDArray[np.bool_], point: tuple[float, float], key: tuple[str, ...]) -> None:
    x, y = (round(value * POSITION_GRID) / POSITION_GRID for value in point)
    if not (0 <= x < walkable.shape[0] and 0 <= y < walkable.shape[1]):
        raise InvalidScenario(key, f"{_shown_point(point)} is not on the map of {_size(walkable)} cells")
    if not walkable[int(x), int(y)]:
        raise InvalidScenario(key, f"{_shown_point(point)} is in a cell that is not walkable")


def _ground(terrain: Terrain) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """`walkable` and `terrain_height` of a MapSpec."""
    given = [name for name in ("size", "rows", "like") if getattr(terrain, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise InvalidScenario(("terrain",), f"needs exactly one of size, rows and like, got {found}")
    if terrain.like is not None:
        if terrain.heights is not None:
            raise InvalidScenario(("terrain", "heights"), f"the terrain of {terrain.like} has its own")
        if terrain.like not in map_names():
            hint = closest_match(terrain.like, map_names())
            raise InvalidScenario(
                ("terrain", "like"), f"must be one of SMAC's maps, got {format_value(terrain.like)}{hint}"
            )
        return smac_terrain(terrain.like)
    if terrain.rows is not None:
        walkable = _grid(terrain.rows, ".#", ("terrain", "rows")) == "."
    else:
        assert terrain.size is not None
        walkable = np.ones(terrain.size, dtype=np.bool_)
    levels = np.zeros(walkable.shape)
    if terrain.heights is not None:
        digits = _grid(terrain.heights, "".join(map(str, range(MAX_LEVEL + 1))), ("terrain", "heights"))
        if digits.shape != walkable.shape:
            raise InvalidScenario(
                ("terrain", "heights"), f"are of {_size(digits)} cells, the map has {_size(walkable)}"
            )
        levels = digits.astype(np.float64)
    # The height of a corner is the mean of the cells around it.
    padded = np.pad(FLOOR_HEIGHT + LEVEL_HEIGHT * levels, 1, mode="edge")
    corners = (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]) / 4
    walkable.flags.writeable = corners.flags.writeable = False
    return walkable, corners


def _grid(rows: tuple[str, ...], alphabet: str, key: tuple[str, ...]) -> NDArray[np.str_]:
    """[X, Y] characters of rows that run from north to south."""
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise InvalidScenario(key, f"row {number} has {len(row)} cells, row 1 has {len(rows[0])}")
        for character in row:
            if character not in alphabet:
                raise InvalidScenario(
                    key, f"row {number} has {format_value(character)}; expected only {' '.join(alphabet)}"
                )
    sizes = {"wide": len(rows[0]) if rows else 0, "high": len(rows)}
    for what, size in sizes.items():
        if not MIN_CELLS <= size <= MAX_CELLS:
            raise InvalidScenario(key, f"are {size} cells {what}; a map has {MIN_CELLS} to {MAX_CELLS}")
    return np.ascontiguousarray(np.array([list(row) for row in rows[::-1]]).T)


def _race(kinds: tuple[str, ...]) -> Race:
    if any(unit_kind(kind).shield > 0 for kind in kinds):
        return "P"
    return "T" if kinds[0] in _TERRANS else "Z"


def _size(grid: NDArray[np.generic]) -> str:
    return f"{grid.shape[0]} x {grid.shape[1]}"


def _shown_point(point: tuple[float, float]) -> str:
    return f"({point[0]:g}, {point[1]:g})"
