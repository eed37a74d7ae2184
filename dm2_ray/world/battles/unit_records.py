"""Units as plain records that can be read, edited and put back into a battle.

Shapes: N agents, M enemies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

from dm2_ray.errors import suggest_name
from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.units.state import UNIT_COLUMNS


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitRecord:
    """One unit.

    Attributes:
        x: Map cells, growing east.
        y: Map cells, growing north.
        health: 0 = dead.
        cooldown: Game loops until the next attack may start.
    """

    kind: str
    x: float
    y: float
    health: float
    shield: float
    energy: float
    cooldown: float


class Sides(NamedTuple):
    """All units of a battle in SMAC's order: N allies, M enemies."""

    allies: list[UnitRecord]
    enemies: list[UnitRecord]


UnitChange: TypeAlias = "UnitRecord | Mapping[str, Any]"
"""A whole record, or some of its fields by name."""
SideChange: TypeAlias = "Sequence[UnitChange | None] | Mapping[int, UnitChange]"
"""One entry per unit in index order, None for units that do not change; or changes by unit index."""

_FIELDS = ("kind", *UNIT_COLUMNS)


def parse_sides(spec: MapSpec, units: UnitsView, column: int) -> Sides:
    """Records of one column's units."""
    numbers = zip(*(getattr(units, name)[column].tolist() for name in UNIT_COLUMNS), strict=True)
    kinds = (*spec.ally_kinds, *spec.enemy_kinds)
    records = [
        UnitRecord(kind=kind, **dict(zip(UNIT_COLUMNS, row, strict=True)))
        for kind, row in zip(kinds, numbers, strict=True)
    ]
    return Sides(records[: spec.num_agents], records[spec.num_agents :])


def unit_changes(side: str, change: SideChange, kinds: Sequence[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Unit indices and the numbers given for them, checked for form: known fields, the map's kinds, finite numbers.

    Args:
        side: The side's name in messages.
        change: The changes of that side.
        kinds: Kinds of the side's units, in index order.

    Raises:
        TypeError, ValueError: One line that names the unit and says what was expected.
    """
    for index, entry in _entries(side, change, len(kinds)):
        unit = f"{side}[{index}]"
        if isinstance(entry, UnitRecord):
            given: Mapping[str, Any] = {name: getattr(entry, name) for name in _FIELDS}
        elif isinstance(entry, Mapping):
            given = entry
        else:
            raise TypeError(f"{unit} is {entry!r}; expected a UnitRecord or a mapping of its fields")
        for name in given:
            if name not in _FIELDS:
                raise ValueError(f"{unit} has no field {name!r}; {suggest_name(name, _FIELDS, 'fields')}")
        if given.get("kind", kinds[index]) != kinds[index]:
            raise ValueError(f"{unit} is a {kinds[index]} on this map; its kind cannot become {given['kind']!r}")
        numbers = {}
        for name in UNIT_COLUMNS:
            if name in given:
                value: object = given[name]
                if isinstance(value, bool) or not isinstance(value, Real):
                    raise TypeError(f"{unit}: {name} is {value!r}; expected a number")
                if not math.isfinite(value):
                    raise ValueError(f"{unit}: {name} is {value!r}; expected a finite number")
                numbers[name] = float(value)
        yield index, numbers


def _entries(side: str, change: object, count: int) -> Iterator[tuple[int, object]]:
    if isinstance(change, Mapping):
        for index, entry in change.items():
            if not isinstance(index, int) or not 0 <= index < count:
                raise ValueError(f"{side} has no unit {index!r}; expected an index from 0 to {count - 1}")
            yield index, entry
        return
    if isinstance(change, str) or not isinstance(change, Sequence):
        raise TypeError(f"{side} is {change!r}; expected a list with one entry per unit, or a mapping by unit index")
    if len(change) != count:
        raise ValueError(
            f"{side} has {len(change)} entries, expected {count}; give None for a unit that does not change, or a "
            "mapping by unit index"
        )
    for index, entry in enumerate(change):
        if entry is not None:
            yield index, entry
