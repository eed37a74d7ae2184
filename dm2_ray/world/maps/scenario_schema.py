"""The content of a scenario's YAML file: keys, types, bounds.

Whether the values are consistent is checked when the map is built (`scenario_builder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from dm2_ray.config.schema import Section
from dm2_ray.world.maps.map_spec import EnemyOrder

MIN_CELLS, MAX_CELLS = 4, 128
"""Bounds of a map's width and height."""
MAX_UNITS = 256
"""Maximum number of units of one side."""
_FARTHEST = 1e6


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    # The comparison also rejects NaN, infinities and integers that do not fit into a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_FARTHEST < value < _FARTHEST


def _is_point(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))


def _point(value: Any) -> tuple[float, float]:
    if not _is_point(value):
        raise PydanticCustomError("point", "a point [x, y]")
    return float(value[0]), float(value[1])


def _lines(value: Any) -> tuple[str, ...] | None:
    """Lines from a block of text or from a list of texts, without empty ones at either end."""
    if value is None:
        return None
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        raise PydanticCustomError("lines", "lines of text from north to south (a block after `|`)")
    stripped = [line.rstrip() for line in lines]
    while stripped and not stripped[0]:
        stripped.pop(0)
    while stripped and not stripped[-1]:
        stripped.pop()
    return tuple(stripped)


def _order(value: Any) -> EnemyOrder | None:
    if value is None or isinstance(value, EnemyOrder):
        return value
    if value in ("attack_agents", "none"):
        return EnemyOrder(kind=value)
    if isinstance(value, Mapping) and set(value) == {"attack_move"}:
        where = value["attack_move"]
        if _is_point(where):
            return EnemyOrder(kind="attack_move", start=_point(where), end=_point(where))
        if isinstance(where, (list, tuple)) and len(where) == 2 and all(map(_is_point, where)):
            return EnemyOrder(kind="attack_move", start=_point(where[0]), end=_point(where[1]))
    raise PydanticCustomError(
        "order", "attack_agents, none, {{attack_move: [x, y]}} or {{attack_move: [[x, y], [x, y]]}}"
    )


Point = Annotated[tuple[float, float], BeforeValidator(_point)]
Cells = Annotated[int, Field(ge=MIN_CELLS, le=MAX_CELLS)]
Lines = Annotated[tuple[str, ...] | None, BeforeValidator(_lines)]


class UnitGroup(Section):
    """Units of one kind: `count` of them around the point (x, y), or one at each of the positions `at`."""

    kind: str
    count: int | None = Field(None, ge=1, le=MAX_UNITS)
    x: float | None = Field(None, ge=0, lt=MAX_CELLS)
    y: float | None = Field(None, ge=0, lt=MAX_CELLS)
    at: Annotated[tuple[Point, ...] | None, BeforeValidator(_tuple), Field(min_length=1, max_length=MAX_UNITS)] = None


class Terrain(Section):
    """The ground: open (`size`), drawn (`rows`, from north to south) or that of one of SMAC's maps (`like`)."""

    size: Annotated[tuple[Cells, Cells] | None, BeforeValidator(_tuple)] = None
    rows: Lines = None
    heights: Lines = None
    like: str | None = None


Groups = Annotated[tuple[UnitGroup, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=MAX_UNITS)]


class Scenario(Section):
    """One scenario; two with the same content are equal."""

    name: str
    episode_limit: int = Field(ge=1, le=100_000)
    agents: Groups
    enemies: Groups
    enemy_order: Annotated[EnemyOrder | None, BeforeValidator(_order)] = None
    """None: attack_move to the first agents' position."""
    terrain: Terrain = Terrain(size=(32, 32))


class InvalidScenario(ValueError):
    """A scenario's value contradicts the others; `key` is that value's key."""

    def __init__(self, key: tuple[str, ...], problem: str) -> None:
        super().__init__(f"{'.'.join(key)}: {problem}")
        self.key = key
