"""Positions of units created at one point: a simple replacement of StarCraft II's placement search, which is closed.

Shapes: n units; positions are map cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.unit_kinds import Balance, UnitKind, unit_kind

_ROOT_3_HALF = math.sqrt(3.0) / 2.0
_GRID = 4096.0
_TOLERANCE = 1e-3


def spawn_positions(
    spec: MapSpec, owner: int, kinds: Sequence[str], *, balance: Balance, pitch: float
) -> NDArray[np.float64]:
    """Starting positions [n, 2] of one side's units, whose kinds are given in index order.

    Each spawn point is filled with a hexagonal lattice whose spacing is `pitch` times twice the separation radius,
    nearest slots first, in the order of the map's script; the enemy's lattice mirrors the agents'. Units stay apart
    from those of their own layer (ground, cliff walkers, air) and stay on the ground next to the point. Within a kind,
    agents are numbered by (x, y) as SMAC sorts them, enemies in the order of creation.

    Raises:
        ValueError: A spawn point has not enough space for its units.
    """
    placed: list[tuple[UnitKind, float, float]] = []
    for spawn in spec.spawns:
        if spawn.owner != owner:
            continue
        kind = unit_kind(spawn.kind, balance)
        separation = kind.separation_radius
        slots = _hexagonal_slots(2.0 * separation * pitch, mirrored=owner == 2)
        count = 0
        for offset_x, offset_y in slots:
            if count == spawn.count:
                break
            x = round((spawn.x + offset_x) * _GRID) / _GRID
            y = round((spawn.y + offset_y) * _GRID) / _GRID
            if not (0 <= x < spec.walkable.shape[0] and 0 <= y < spec.walkable.shape[1]):
                continue
            if not spec.walkable[int(x), int(y)]:
                continue
            free = all(
                math.hypot(x - other_x, y - other_y) >= (separation + other.separation_radius) * pitch - _TOLERANCE
                for other, other_x, other_y in placed
                if (other.flies, other.cliff_walker) == (kind.flies, kind.cliff_walker)
            )
            if free:
                placed.append((kind, x, y))
                count += 1
        if count < spawn.count:
            raise ValueError(
                f"map {spec.name!r}: no room for {spawn.count} {spawn.kind} units at ({spawn.x}, {spawn.y}) "
                f"with spawn_pitch {pitch}"
            )
    positions = np.empty((len(kinds), 2))
    for name in dict.fromkeys(kinds):
        members = [(x, y) for placed_kind, x, y in placed if placed_kind.name == name]
        if owner == 1:
            members.sort()
        positions[[index for index, other_name in enumerate(kinds) if other_name == name]] = members
    return positions


@lru_cache(maxsize=256)
def _hexagonal_slots(spacing: float, *, mirrored: bool) -> tuple[tuple[float, float], ...]:
    """Offsets (dx, dy) of a hexagonal lattice around the origin, nearest first, ties from the front outwards."""
    reach = int(16.0 / spacing) + 1
    slots = [
        ((row * _ROOT_3_HALF) * spacing, (column + 0.5 * (row % 2)) * spacing)
        for row in range(-reach, reach + 1)
        for column in range(-reach, reach + 1)
    ]
    slots.sort(key=lambda slot: (round(math.hypot(*slot), 6), -round(slot[0], 6), round(abs(slot[1]), 6), slot[1]))
    return tuple((-dx, dy) if mirrored else (dx, dy) for dx, dy in slots)
