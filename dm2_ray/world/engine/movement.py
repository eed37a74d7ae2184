"""Movement kernels: where the units are, how overlapping ones push each other apart, walls.

Shapes: U units of one battle; `units`, `flags` and `work` as in units.state.

All positions read are those at the start of the loop and all units move at once, so no side moves first.
"""

from __future__ import annotations

import math

import numpy as np

from dm2_ray.arrays import Bools
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.maps.terrain import is_passable
from dm2_ray.world.units.state import (
    ALIVE,
    COOLDOWN,
    COUNTS,
    HEADING_X,
    HEADING_Y,
    LIVING,
    MOVE_X,
    MOVE_Y,
    NEAR_RADIUS,
    NEAR_UNIT,
    NEAR_X,
    NEAR_Y,
    NEAR_YIELD,
    PUSH_X,
    PUSH_Y,
    SHORT_LIST,
    STANDING,
    STANDING_RADIUS,
    STANDING_UNIT,
    STANDING_X,
    STANDING_Y,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import LAYER, SEPARATION, SPEED, Stats

WALKING_SHARE = 1.0
"""How easily a walking unit gives way."""
STANDING_SHARE = 0.1
"""The same for an idle unit."""
FIGHTING_SHARE = 0.01
"""The same for a unit that stands and fights: it keeps its place."""
PUSH_STIFFNESS = 0.8
"""Share of an overlap that is removed per loop: less than all, so that crowds settle instead of trembling."""
CROWDED = 0.7
"""Share of their separation below which two units' distance makes a crowd."""
RELIEF_ROUNDS = 2
"""Additional pushes per loop in a crowd."""
PASSING = 0.5
"""Sideward share of the push between two units that walk into each other."""
MAX_PUSH = 0.25
"""Maximal displacement by neighbors in one loop."""
CREEP = 0.05
"""Along a wall a unit that would move less than this in a loop counts as standing."""
POSITION_GRID = 4096.0
"""Positions per map cell and axis."""


@kernel(inline=True, allocates=False)
def start_order(units: Units, work: Workspace) -> None:
    """Prepare the list of units that `list_units` keeps sorted from loop to loop."""
    for i in range(units.shape[1]):
        work.integers[NEAR_UNIT, i] = i
    work.integers[COUNTS, LIVING] = units.shape[1]


@kernel(inline=True, allocates=False)
def list_units(stats: Stats, units: Units, work: Workspace) -> None:
    """List the living units from west to east, and among them those that stand, for the inner loops over pairs."""
    floats = work.floats
    integers = work.integers
    count = 0
    for k in range(integers[COUNTS, LIVING]):
        i = int(np.int64(integers[NEAR_UNIT, k]))
        if not integers[ALIVE, i]:
            continue
        x = units[X, i]
        floats[PUSH_X, i] = 0.0
        floats[PUSH_Y, i] = 0.0
        # Insertion sort: units hardly change places within a loop.
        place = count
        while place > 0 and floats[NEAR_X, place - 1] > x:
            floats[NEAR_X, place] = floats[NEAR_X, place - 1]
            integers[NEAR_UNIT, place] = integers[NEAR_UNIT, place - 1]
            place -= 1
        floats[NEAR_X, place] = x
        integers[NEAR_UNIT, place] = i
        count += 1
    integers[COUNTS, LIVING] = count
    standing = 0
    for k in range(count):
        i = int(np.int64(integers[NEAR_UNIT, k]))
        floats[NEAR_Y, k] = units[Y, i]
        floats[NEAR_RADIUS, k] = stats[SEPARATION, i]
        floats[NEAR_YIELD, k] = WALKING_SHARE
        if units[HEADING_X, i] == 0.0 and units[HEADING_Y, i] == 0.0:
            floats[NEAR_YIELD, k] = FIGHTING_SHARE if units[COOLDOWN, i] > 0.0 else STANDING_SHARE
            floats[STANDING_X, standing] = floats[NEAR_X, k]
            floats[STANDING_Y, standing] = floats[NEAR_Y, k]
            floats[STANDING_RADIUS, standing] = floats[NEAR_RADIUS, k]
            integers[STANDING_UNIT, standing] = i
            standing += 1
        if stats[SPEED, i] == 0.0:
            floats[NEAR_YIELD, k] = 0.0
    integers[COUNTS, STANDING] = standing


@kernel(inline=True, allocates=False)
def push_apart(widest: float, stats: Stats, units: Units, work: Workspace) -> bool:
    """Find the push-out of overlapping pairs of listed units; units of different layers do not touch.

    A walking unit gives way to an idle one and both to a fighting one; two alike share the push. Units that cannot
    move do not give way. Returns whether some pair overlaps so much that it counts as a crowd.
    """
    is_crowded = False
    floats = work.floats
    integers = work.integers
    count = np.int64(integers[COUNTS, LIVING])
    is_long = count > SHORT_LIST
    for first in range(count):
        x = floats[NEAR_X, first]
        y = floats[NEAR_Y, first]
        radius = floats[NEAR_RADIUS, first]
        farthest = x + radius + widest
        for second in range(np.uint64(first + 1), np.uint64(count)):
            other_x = floats[NEAR_X, second]
            if is_long and other_x > farthest:
                break
            dx = other_x - x
            dy = floats[NEAR_Y, second] - y
            separation = radius + floats[NEAR_RADIUS, second]
            squared = dx * dx + dy * dy
            if squared < separation * separation:
                i = int(np.int64(integers[NEAR_UNIT, first]))
                j = int(np.int64(integers[NEAR_UNIT, second]))
                if stats[LAYER, i] == stats[LAYER, j]:
                    yield_i, yield_j = floats[NEAR_YIELD, first], floats[NEAR_YIELD, second]
                    _push_pair(units, work, i, j, yield_i, yield_j, dx, dy, math.sqrt(squared), separation)
                    is_crowded |= squared < (CROWDED * separation) ** 2
    return is_crowded


@kernel(llvm_inline=True, allocates=False)
def _push_pair(
    units: Units,
    work: Workspace,
    i: int,
    j: int,
    yield_i: float,
    yield_j: float,
    dx: float,
    dy: float,
    distance: float,
    separation: float,
) -> None:
    """Push the overlapping pair (i, j), whose centers are (dx, dy) apart, from each other, each as easily as it
    yields."""
    floats = work.floats
    normal_x = 0.0
    normal_y = 1.0
    if distance > 1e-9:
        normal_x = dx / distance
        normal_y = dy / distance
    if yield_i + yield_j == 0.0:
        return
    push = PUSH_STIFFNESS * (separation - distance)
    push_i = push * yield_i / (yield_i + yield_j)
    push_j = push - push_i
    if (
        yield_i == WALKING_SHARE
        and yield_j == WALKING_SHARE
        and units[HEADING_X, i] * units[HEADING_X, j] + units[HEADING_Y, i] * units[HEADING_Y, j] < 0.0
        and units[HEADING_X, i] * normal_x + units[HEADING_Y, i] * normal_y > 0.0
    ):
        # Two that meet pass each other on the right.
        normal_x, normal_y = normal_x - PASSING * normal_y, normal_y + PASSING * normal_x
    floats[PUSH_X, i] -= push_i * normal_x
    floats[PUSH_Y, i] -= push_i * normal_y
    floats[PUSH_X, j] += push_j * normal_x
    floats[PUSH_Y, j] += push_j * normal_y


@kernel(inline=True, allocates=False)
def _displace(passable: Bools, layer: int, units: Units, work: Workspace, i: int, move_x: float, move_y: float) -> None:
    """Displace unit i by (move_x, move_y) plus the push on it; at a wall it slides along the free axis."""
    push_x = work.floats[PUSH_X, i]
    push_y = work.floats[PUSH_Y, i]
    if push_x == 0.0 and push_y == 0.0 and move_x == 0.0 and move_y == 0.0:
        return
    push = math.sqrt(push_x * push_x + push_y * push_y)
    if push > MAX_PUSH:
        push_x *= MAX_PUSH / push
        push_y *= MAX_PUSH / push
    x = math.floor((units[X, i] + move_x + push_x) * POSITION_GRID + 0.5) / POSITION_GRID
    y = math.floor((units[Y, i] + move_y + push_y) * POSITION_GRID + 0.5) / POSITION_GRID
    goes_x = True
    goes_y = True
    if not is_passable(passable, layer, x, y):
        goes_x = is_passable(passable, layer, x, units[Y, i])
        goes_y = not goes_x and is_passable(passable, layer, units[X, i], y)
        # A unit pressed against a wall counts as standing, so that those behind do not follow it into the crowd.
        if not goes_x or abs(units[HEADING_X, i]) < CREEP:
            units[HEADING_X, i] = 0.0
        if not goes_y or abs(units[HEADING_Y, i]) < CREEP:
            units[HEADING_Y, i] = 0.0
    if goes_x:
        units[X, i] = x
    if goes_y:
        units[Y, i] = y


@kernel(inline=True, allocates=False)
def move_units(passable: Bools, stats: Stats, units: Units, work: Workspace) -> None:
    """Move every living unit by its chosen displacement plus the push of its neighbors."""
    for i in range(units.shape[1]):
        if work.integers[ALIVE, i]:
            units[HEADING_X, i] = work.floats[MOVE_X, i]
            units[HEADING_Y, i] = work.floats[MOVE_Y, i]
            _displace(passable, int(stats[LAYER, i]), units, work, i, units[HEADING_X, i], units[HEADING_Y, i])


@kernel(allocates=False)
def relieve_crowd(passable: Bools, widest: float, stats: Stats, units: Units, work: Workspace) -> None:
    """Push overlapping units apart again, without walking: in a crowd one push is not enough."""
    for _ in range(RELIEF_ROUNDS):
        list_units(stats, units, work)
        is_crowded = push_apart(widest, stats, units, work)
        for i in range(units.shape[1]):
            if work.integers[ALIVE, i]:
                _displace(passable, int(stats[LAYER, i]), units, work, i, 0.0, 0.0)
        if not is_crowded:
            break
