"""Movement kernels: contacts between units, ways around standing units, push-out, terrain.

Shapes: U units of one battle; `units`, `flags` and `work` as in units.state.

All positions read are those at the start of the loop and all units move at once, so no side moves first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.maps.terrain import is_passable
from dm2_ray.world.units.state import (
    ALIVE,
    FIRST_CONTACT,
    HEADING_X,
    HEADING_Y,
    MAX_CONTACTS,
    MOVE_X,
    MOVE_Y,
    NEAR_RADIUS,
    NEAR_UNIT,
    NEAR_X,
    NEAR_Y,
    NUM_CONTACTS,
    PUSH_X,
    PUSH_Y,
    ROUND_SIDE,
    ROUND_X,
    ROUND_Y,
    SIDESTEP,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import LAYER, SEPARATION, SPEED, Stats

CONTACT_MARGIN = 0.06
"""Units closer than this to touching count as neighbors."""
STANDING_SHARE = 0.1
"""How easily a standing unit gives way, compared with a walking one."""
PUSH_STIFFNESS = 0.8
"""Share of an overlap that is removed per loop: less than all, so that crowds settle instead of trembling."""
CROWDED = 0.7
"""Share of their separation below which two units' distance makes a crowd."""
RELIEF_ROUNDS = 2
"""Additional pushes per loop in a crowd."""
MAX_PUSH = 0.25
"""Maximal displacement by neighbors in one loop."""
CREEP = 0.05
"""Along a wall a unit that would move less than this in a loop counts as standing."""
POSITION_GRID = 4096.0
"""Positions per map cell and axis."""
HEAD_ON = 0.995
"""Cosine from which an obstacle counts as straight ahead."""
GRAZING = 0.01
"""Cosine up to which a neighbor is passed without a detour."""
MAX_DETOURS = 4
"""Neighbors that a unit can get around in one loop; with more in the way it stands."""


@kernel(inline=True, allocates=False)
def find_contacts(stats: Stats, units: Units, work: Workspace) -> bool:
    """Find the neighbors of all units and the push-out of overlapping pairs; units of different layers do not touch.

    A walking unit gives way to a standing one; two alike share the push. Units that cannot move do not give way.
    Returns whether some pair overlaps so much that it counts as a crowd.
    """
    is_crowded = False
    floats = work.floats
    integers = work.integers
    count = 0
    for i in range(units.shape[1]):
        integers[NUM_CONTACTS, i] = 0
        floats[PUSH_X, i] = 0.0
        floats[PUSH_Y, i] = 0.0
        if integers[ALIVE, i]:
            floats[NEAR_X, count] = units[X, i]
            floats[NEAR_Y, count] = units[Y, i]
            floats[NEAR_RADIUS, count] = stats[SEPARATION, i]
            integers[NEAR_UNIT, count] = i
            count += 1
    for first in range(count):
        x = floats[NEAR_X, first]
        y = floats[NEAR_Y, first]
        radius = floats[NEAR_RADIUS, first] + CONTACT_MARGIN
        for second in range(first + 1, count):
            dx = floats[NEAR_X, second] - x
            dy = floats[NEAR_Y, second] - y
            reach = radius + floats[NEAR_RADIUS, second]
            squared = dx * dx + dy * dy
            if squared < reach * reach:
                i = integers[NEAR_UNIT, first]
                j = integers[NEAR_UNIT, second]
                if stats[LAYER, i] == stats[LAYER, j]:
                    separation = reach - CONTACT_MARGIN
                    _touch(stats, units, work, i, j, dx, dy, math.sqrt(squared), separation)
                    is_crowded |= squared < (CROWDED * separation) ** 2
    return is_crowded


@kernel(allocates=False)
def _touch(
    stats: Stats,
    units: Units,
    work: Workspace,
    i: int,
    j: int,
    dx: float,
    dy: float,
    distance: float,
    separation: float,
) -> None:
    """Store the pair (i, j), whose centers are (dx, dy) apart, as neighbors and push it apart if it overlaps."""
    floats = work.floats
    integers = work.integers
    if integers[NUM_CONTACTS, i] < MAX_CONTACTS:
        integers[FIRST_CONTACT + integers[NUM_CONTACTS, i], i] = j
        integers[NUM_CONTACTS, i] += 1
    if integers[NUM_CONTACTS, j] < MAX_CONTACTS:
        integers[FIRST_CONTACT + integers[NUM_CONTACTS, j], j] = i
        integers[NUM_CONTACTS, j] += 1
    overlap = separation - distance
    if overlap <= 0.0:
        return
    normal_x = 0.0
    normal_y = 1.0
    if distance > 1e-9:
        normal_x = dx / distance
        normal_y = dy / distance
    yield_i = 1.0 if units[HEADING_X, i] != 0.0 or units[HEADING_Y, i] != 0.0 else STANDING_SHARE
    yield_j = 1.0 if units[HEADING_X, j] != 0.0 or units[HEADING_Y, j] != 0.0 else STANDING_SHARE
    if stats[SPEED, i] == 0.0 or stats[SPEED, j] == 0.0:
        yield_i = 1.0 if stats[SPEED, i] > 0.0 else 0.0
        yield_j = 1.0 if stats[SPEED, j] > 0.0 else 0.0
        if yield_i + yield_j == 0.0:
            return
    push_i = PUSH_STIFFNESS * overlap * yield_i / (yield_i + yield_j)
    push_j = PUSH_STIFFNESS * overlap - push_i
    floats[PUSH_X, i] -= push_i * normal_x
    floats[PUSH_Y, i] -= push_i * normal_y
    floats[PUSH_X, j] += push_j * normal_x
    floats[PUSH_Y, j] += push_j * normal_y


@kernel(inline=True, allocates=False)
def walk_toward(
    speed: float, units: Units, work: Workspace, i: int, goal_x: float, goal_y: float, is_detour: bool
) -> bool:
    """Choose unit i's displacement toward a point. Returns False if neighbors block the way.

    The component of the direction that leads into a neighbor is dropped, and the unit walks the rest at full speed. On
    a detour it walks around the crowd, unless the straight way is free.
    """
    floats = work.floats
    integers = work.integers
    dx = goal_x - units[X, i]
    dy = goal_y - units[Y, i]
    distance = math.sqrt(dx * dx + dy * dy)
    is_open = True
    if distance > 1e-9:
        dx /= distance
        dy /= distance
        for attempt in range(MAX_DETOURS):
            # The neighbor most in the way comes first, so that the order of the list does not matter.
            worst = 0.0
            worst_x = 0.0
            worst_y = 0.0
            for k in range(integers[NUM_CONTACTS, i]):
                j = integers[FIRST_CONTACT + k, i]
                # A neighbor that walks in the same direction will not be in the way.
                if units[HEADING_X, j] * dx + units[HEADING_Y, j] * dy > 0.0:
                    continue
                normal_x = units[X, j] - units[X, i]
                normal_y = units[Y, j] - units[Y, i]
                length = math.sqrt(normal_x * normal_x + normal_y * normal_y)
                into = dx * normal_x + dy * normal_y
                if into > worst * length:
                    worst = into / length
                    worst_x = normal_x / length
                    worst_y = normal_y / length
            if worst < GRAZING:
                break
            if is_detour and attempt == 0:
                round_x = units[ROUND_X, i] - units[X, i]
                round_y = units[ROUND_Y, i] - units[Y, i]
                length = math.sqrt(round_x * round_x + round_y * round_y)
                if length > 1e-9:
                    dx = round_y / length * units[ROUND_SIDE, i]
                    dy = -round_x / length * units[ROUND_SIDE, i]
                    continue
            if worst > HEAD_ON:
                # Head on, neither side is better; each unit uses its own preferred side.
                dx = -worst_y * floats[SIDESTEP, i]
                dy = worst_x * floats[SIDESTEP, i]
            else:
                dx -= worst * worst_x
                dy -= worst * worst_y
                length = math.sqrt(dx * dx + dy * dy)
                dx /= length
                dy /= length
        else:
            is_open = False
        if is_open:
            step = min(speed, distance)
            floats[MOVE_X, i] = dx * step
            floats[MOVE_Y, i] = dy * step
    return is_open


@kernel(inline=True, allocates=False)
def _displace(
    passable: NDArray[np.bool_], layer: int, units: Units, work: Workspace, i: int, move_x: float, move_y: float
) -> None:
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
def move_units(passable: NDArray[np.bool_], stats: Stats, units: Units, work: Workspace) -> None:
    """Move every living unit by its chosen displacement plus the push of its neighbors."""
    for i in range(units.shape[1]):
        if work.integers[ALIVE, i]:
            units[HEADING_X, i] = work.floats[MOVE_X, i]
            units[HEADING_Y, i] = work.floats[MOVE_Y, i]
            _displace(passable, int(stats[LAYER, i]), units, work, i, units[HEADING_X, i], units[HEADING_Y, i])


@kernel(allocates=False)
def relieve_crowd(passable: NDArray[np.bool_], stats: Stats, units: Units, work: Workspace) -> None:
    """Push overlapping units apart again, without walking: in a crowd one push is not enough."""
    for _ in range(RELIEF_ROUNDS):
        is_crowded = find_contacts(stats, units, work)
        for i in range(units.shape[1]):
            if work.integers[ALIVE, i]:
                _displace(passable, int(stats[LAYER, i]), units, work, i, 0.0, 0.0)
        if not is_crowded:
            break
