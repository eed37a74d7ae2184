"""The scripted opponent's kernels: whom a unit under an attack-move order fights and where it goes.

SMAC's enemies are not led by an AI player: each obeys one attack-move order with StarCraft II's stock unit behaviour,
which is closed. This is a model of it: keep a target while it is about in range, else take the nearest in sight, else go
for whoever hit a friend near by, else walk on.

Shapes: U units of one battle; a side is the half-open range of indices [first, last).
"""

from __future__ import annotations

import math

from dm2_ray.world.inner_kernels import inlined_kernel, inner_kernel
from dm2_ray.world.movement import walk_towards
from dm2_ray.world.unit_state import (
    ALARM,
    ATTACKER,
    AVOIDED,
    BLOCKED,
    COOLDOWN,
    GOAL_X,
    GOAL_Y,
    HEALTH,
    NONE,
    RECOVERY,
    TARGET,
    X,
    Y,
)
from dm2_ray.world.unit_tables import CHASE, RADIUS, SCAN_RANGE
from dm2_ray.world.weapons import ALARM_LOOPS, centre_distance, reach_between, start_attack

ARRIVAL_DISTANCE = 0.5
BLOCKED_LOOPS = 4.0
AVOID_LOOPS = 16.0


@inlined_kernel
def nearest_foe(tables, units, marks, i, first, last, edge_limit, excluded):
    """Living foe in [first, last) with the least edge distance of at most `edge_limit`, or NONE."""
    best = NONE
    best_edge = edge_limit
    x = units[X, i]
    y = units[Y, i]
    radius = tables.stats[RADIUS, i]
    for j in range(first, last):
        if units[HEALTH, j] <= 0.0 or j == excluded:
            continue
        dx = units[X, j] - x
        dy = units[Y, j] - y
        bound = best_edge + radius + tables.stats[RADIUS, j]
        squared = dx * dx + dy * dy
        if squared <= bound * bound:
            edge = math.sqrt(squared) - radius - tables.stats[RADIUS, j]
            if best == NONE or edge < best_edge:
                best = j
                best_edge = edge
    return best


@inlined_kernel
def attacker_of_friends(tables, units, marks, work, i, first_friend, last_friend):
    """Nearest living foe that lately hit unit i or a friend within the help radius, inside the leash; or NONE."""
    best = NONE
    best_distance = tables.leash
    for friend in range(first_friend, last_friend):
        if not work.alive[friend] or not 0.0 < units[ALARM, friend] <= ALARM_LOOPS:
            continue
        foe = marks[ATTACKER, friend]
        if units[HEALTH, foe] <= 0.0 or centre_distance(units, i, friend) > tables.help_radius:
            continue
        distance = centre_distance(units, i, foe)
        if distance <= best_distance:
            best = foe
            best_distance = distance
    return best


@inlined_kernel
def choose_target(tables, units, marks, work, i, first_foe, last_foe, first_friend, last_friend):
    """Unit i's target for this loop, or NONE."""
    target = marks[TARGET, i]
    if target != NONE:
        if units[HEALTH, target] <= 0.0:
            target = NONE
        elif centre_distance(units, i, target) > reach_between(tables, i, target) + tables.stats[CHASE, i]:
            target = NONE
    if target != NONE and target == marks[AVOIDED, i] and units[BLOCKED, i] < 0.0:
        if centre_distance(units, i, target) > reach_between(tables, i, target):
            target = NONE
    if target == NONE:
        excluded = marks[AVOIDED, i] if units[BLOCKED, i] < 0.0 else NONE
        target = nearest_foe(tables, units, marks, i, first_foe, last_foe, tables.stats[SCAN_RANGE, i], excluded)
        if target == NONE and excluded != NONE:
            target = nearest_foe(tables, units, marks, i, first_foe, last_foe, tables.stats[SCAN_RANGE, i], NONE)
    if target == NONE and tables.retaliation:
        target = attacker_of_friends(tables, units, marks, work, i, first_friend, last_friend)
    return target


@inner_kernel
def act_scripted(tables, units, marks, work, i, first_foe, last_foe, first_friend, last_friend, key, loop):
    """One loop of unit i under its attack-move order to (goal_x, goal_y)."""
    if units[BLOCKED, i] < 0.0:
        units[BLOCKED, i] += 1.0
    target = choose_target(tables, units, marks, work, i, first_foe, last_foe, first_friend, last_friend)
    marks[TARGET, i] = target
    if target == NONE:
        dx = units[GOAL_X, i] - units[X, i]
        dy = units[GOAL_Y, i] - units[Y, i]
        if dx * dx + dy * dy > ARRIVAL_DISTANCE * ARRIVAL_DISTANCE:
            walk_towards(tables, units, marks, work, i, units[GOAL_X, i], units[GOAL_Y, i])
        return
    fight(tables, units, marks, work, i, target, key, loop)


@inlined_kernel
def fight(tables, units, marks, work, i, target, key, loop):
    """Attack `target` if it is in range and the weapon is ready, wait for the weapon, or walk into range."""
    if centre_distance(units, i, target) <= reach_between(tables, i, target):
        units[BLOCKED, i] = 0.0
        if units[COOLDOWN, i] <= 0.0:
            start_attack(tables, units, marks, work, i, target, key, loop)
    elif units[RECOVERY, i] <= 0.0:
        if walk_towards(tables, units, marks, work, i, units[X, target], units[Y, target]):
            if units[BLOCKED, i] > 0.0:
                units[BLOCKED, i] = 0.0
        elif units[BLOCKED, i] >= 0.0:
            units[BLOCKED, i] += 1.0
            if units[BLOCKED, i] >= BLOCKED_LOOPS:
                marks[AVOIDED, i] = target
                units[BLOCKED, i] = -AVOID_LOOPS
