"""Units as StarCraft II's API describes them, for code that reads SMAC's `agents`, `enemies` and `get_unit_by_id`.

Shapes: U = N + M units, agents first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dm2_ray.world.battles.unit_records import UnitRecord
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.unit_kinds import STOCK_TYPES, Balance, UnitKind, unit_kind

FIRST_OWN_TYPE = 2000
"""SMAC's maps define copies of the agents' kinds, which the game numbers consecutively after its own kinds. The first
number depends on the game's version; SMAC uses only differences."""

ALLY_OWNER, ENEMY_OWNER = 1, 2


@dataclass(frozen=True, slots=True)
class Point:
    """A position on the map, in cells."""

    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SmacUnit:
    """One unit; its numbers are rounded to 32 bits, as the game sends them.

    Attributes:
        tag: Identifies the unit throughout its battle.
        owner: 1: an agent, 2: an enemy.
        health: 0 = dead; the other numbers of a dead unit stay as they were when it died.
        weapon_cooldown: Game loops until the next attack may start.
    """

    tag: int
    unit_type: int
    owner: int
    pos: Point
    radius: float
    health: float
    health_max: float
    shield: float
    shield_max: float
    energy: float
    energy_max: float
    weapon_cooldown: float


class SmacUnitIndex:
    """Kinds and type numbers of the units on one map; turns records into units with SMAC's attributes.

    Args:
        spec: The map.
        balance: Game data from which maximum health, shields and energy are taken.
    """

    def __init__(self, spec: MapSpec, balance: Balance) -> None:
        self.own_types = {kind: FIRST_OWN_TYPE + k for k, kind in enumerate(spec.ally_types)}
        """Unit types of the agents' kinds: consecutive numbers in the order of the one-hot."""
        self.types = [self.own_types[kind] for kind in spec.ally_kinds]
        """[U]"""
        self.types += [STOCK_TYPES[kind] for kind in spec.enemy_kinds]
        self._kinds: list[UnitKind] = [unit_kind(name, balance) for name in (*spec.ally_kinds, *spec.enemy_kinds)]
        self._num_agents = spec.num_agents

    def side(self, records: Sequence[UnitRecord], first: int) -> dict[int, SmacUnit]:
        """Units of one side by index; `first` is the index of its first unit among all U."""
        return {k: self.unit(record, first + k) for k, record in enumerate(records)}

    def unit(self, record: UnitRecord, u: int) -> SmacUnit:
        """The unit with index u among all U."""
        kind = self._kinds[u]
        return SmacUnit(
            tag=u + 1,
            unit_type=self.types[u],
            owner=ALLY_OWNER if u < self._num_agents else ENEMY_OWNER,
            pos=Point(as_protobuf_value(record.x), as_protobuf_value(record.y)),
            radius=as_protobuf_value(kind.radius),
            health=as_protobuf_value(record.health),
            health_max=as_protobuf_value(kind.health),
            shield=as_protobuf_value(record.shield),
            shield_max=as_protobuf_value(kind.shield),
            energy=as_protobuf_value(record.energy),
            energy_max=as_protobuf_value(kind.healing.energy_max if kind.healing else 0.0),
            weapon_cooldown=as_protobuf_value(record.cooldown),
        )


def as_protobuf_value(value: float) -> float:
    """The number rounded to 32 bits."""
    return float(np.float32(value))
