"""Movement kernels: who touches whom, the way round standing units, push-out, terrain.

Shapes: U units of one battle; K = MAX_CONTACTS neighbours kept per unit.

All positions read are those at the start of the loop and all units move at once, so no side moves first.
"""

from __future__ import annotations

import math

from dm2_ray.world.inner_kernels import inlined_kernel, inner_kernel
from dm2_ray.world.unit_state import (
    HEADING_X,
    HEADING_Y,
    MAX_CONTACTS,
    MOVE_X,
    MOVE_Y,
    NEAR_RADIUS,
    NEAR_X,
    NEAR_Y,
    PUSH_X,
    PUSH_Y,
    SIDESTEP,
    X,
    Y,
)
from dm2_ray.world.unit_tables import SEPARATION, SPEED

CONTACT_MARGIN = 0.06
STANDING_SHARE = 0.1
PUSH_STIFFNESS = 0.5
MAX_PUSH = 0.25
GRID = 4096.0
MIN_STEERED_LENGTH = 0.2


@inner_kernel
def find_contacts(tables, units, marks, work):
    """Fill work.contacts [U, K], work.num_contacts [U] and the push-out of overlapping pairs, work.floats[PUSH_*].

    A unit that walks gives way to one that stands; two alike share. Part of the overlap (PUSH_STIFFNESS) is removed
    per loop, so that crowds settle instead of trembling.
    """
    count = 0
    for i in range(units.shape[1]):
        work.num_contacts[i] = 0
        work.floats[PUSH_X, i] = 0.0
        work.floats[PUSH_Y, i] = 0.0
        if work.alive[i]:
            work.floats[NEAR_X, count] = units[X, i]
            work.floats[NEAR_Y, count] = units[Y, i]
            work.floats[NEAR_RADIUS, count] = tables.stats[SEPARATION, i]
            work.near_unit[count] = i
            count += 1
    for first in range(count):
        x = work.floats[NEAR_X, first]
        y = work.floats[NEAR_Y, first]
        radius = work.floats[NEAR_RADIUS, first] + CONTACT_MARGIN
        for second in range(first + 1, count):
            dx = work.floats[NEAR_X, second] - x
            dy = work.floats[NEAR_Y, second] - y
            reach = radius + work.floats[NEAR_RADIUS, second]
            squared = dx * dx + dy * dy
            if squared < reach * reach:
                i = work.near_unit[first]
                j = work.near_unit[second]
                touch(units, work, i, j, dx, dy, math.sqrt(squared), reach - CONTACT_MARGIN)


@inlined_kernel
def touch(units, work, i, j, dx, dy, distance, separation):
    """Note the pair (i, j) as neighbours and push it apart if it overlaps."""
    if work.num_contacts[i] < MAX_CONTACTS:
        work.contacts[i, work.num_contacts[i]] = j
        work.num_contacts[i] += 1
    if work.num_contacts[j] < MAX_CONTACTS:
        work.contacts[j, work.num_contacts[j]] = i
        work.num_contacts[j] += 1
    overlap = separation - distance
    if overlap <= 0.0:
        return
    if distance > 1e-9:
        normal_x = dx / distance
        normal_y = dy / distance
    else:
        normal_x = 0.0
        normal_y = 1.0
    yield_i = 1.0 if units[HEADING_X, i] != 0.0 or units[HEADING_Y, i] != 0.0 else STANDING_SHARE
    yield_j = 1.0 if units[HEADING_X, j] != 0.0 or units[HEADING_Y, j] != 0.0 else STANDING_SHARE
    push = PUSH_STIFFNESS * overlap
    push_i = push * yield_i / (yield_i + yield_j)
    push_j = push - push_i
    work.floats[PUSH_X, i] -= push_i * normal_x
    work.floats[PUSH_Y, i] -= push_i * normal_y
    work.floats[PUSH_X, j] += push_j * normal_x
    work.floats[PUSH_Y, j] += push_j * normal_y


@inner_kernel
def walk_towards(tables, units, marks, work, i, goal_x, goal_y):
    """Choose unit i's displacement towards a point, round neighbours that stand in the way. Returns False if blocked.

    The component of the direction that leads into a neighbour is dropped, what remains is walked at full speed.
    """
    dx = goal_x - units[X, i]
    dy = goal_y - units[Y, i]
    distance = math.sqrt(dx * dx + dy * dy)
    if distance < 1e-9:
        return True
    step = min(tables.stats[SPEED, i], distance)
    dx /= distance
    dy /= distance
    obstructed = False
    for k in range(work.num_contacts[i]):
        j = work.contacts[i, k]
        if units[HEADING_X, j] * dx + units[HEADING_Y, j] * dy > 0.0:
            continue
        normal_x = units[X, j] - units[X, i]
        normal_y = units[Y, j] - units[Y, i]
        length = math.sqrt(normal_x * normal_x + normal_y * normal_y)
        if length < 1e-9:
            continue
        normal_x /= length
        normal_y /= length
        into = dx * normal_x + dy * normal_y
        if into <= 0.0:
            continue
        obstructed = True
        if into > 0.995:
            # Head on there is no way to prefer, so each unit has a side of its own.
            dx = -normal_y * work.floats[SIDESTEP, i]
            dy = normal_x * work.floats[SIDESTEP, i]
        else:
            dx -= into * normal_x
            dy -= into * normal_y
    if obstructed:
        length = math.sqrt(dx * dx + dy * dy)
        if length < MIN_STEERED_LENGTH:
            return False
        dx /= length
        dy /= length
    work.floats[MOVE_X, i] = dx * step
    work.floats[MOVE_Y, i] = dy * step
    return True


@inlined_kernel
def is_walkable(walkable, x, y):
    """Whether a ground unit's centre may be at (x, y)."""
    if x < 0.0 or y < 0.0:
        return False
    cell_x = int(x)
    cell_y = int(y)
    return cell_x < walkable.shape[0] and cell_y < walkable.shape[1] and walkable[cell_x, cell_y]


@inner_kernel
def move_units(tables, units, marks, work):
    """Move every living unit by its chosen displacement plus the push; at a wall it slides along the free axis."""
    for i in range(units.shape[1]):
        if not work.alive[i]:
            continue
        units[HEADING_X, i] = work.floats[MOVE_X, i]
        units[HEADING_Y, i] = work.floats[MOVE_Y, i]
        push_x = work.floats[PUSH_X, i]
        push_y = work.floats[PUSH_Y, i]
        if push_x == 0.0 and push_y == 0.0 and work.floats[MOVE_X, i] == 0.0 and work.floats[MOVE_Y, i] == 0.0:
            continue
        push = math.sqrt(push_x * push_x + push_y * push_y)
        if push > MAX_PUSH:
            push_x *= MAX_PUSH / push
            push_y *= MAX_PUSH / push
        x = math.floor((units[X, i] + work.floats[MOVE_X, i] + push_x) * GRID + 0.5) / GRID
        y = math.floor((units[Y, i] + work.floats[MOVE_Y, i] + push_y) * GRID + 0.5) / GRID
        if is_walkable(tables.walkable, x, y):
            units[X, i] = x
            units[Y, i] = y
        elif is_walkable(tables.walkable, x, units[Y, i]):
            units[X, i] = x
        elif is_walkable(tables.walkable, units[X, i], y):
            units[Y, i] = y
