"""The scripted opponent's kernels: the target of a unit under an attack-move order.

SMAC's enemies are not led by an AI player: each obeys one attack-move order with StarCraft II's standard unit behavior,
which is closed. This is a model of it: keep a target while it is about in range, else take the nearest in sight, else
attack the unit that hit a nearby friend, else walk on.

Shapes: U units of one battle, `units`, `flags` and `work` as in units.state; a side is the half-open range of indices
[first, last).
"""

from __future__ import annotations

import math

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.damage import ALARM_LOOPS
from dm2_ray.world.engine.weapons import center_distance, reach_between
from dm2_ray.world.units.state import (
    ALARM,
    ALIVE,
    ATTACKER,
    AVOIDED,
    BLOCKED,
    HEALTH,
    NONE,
    ROUND_SIDE,
    ROUND_X,
    ROUND_Y,
    SIDESTEP,
    TARGET,
    UnitFlags,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import CHASE, MELEE_RANGE, RADIUS, SCAN_RANGE, WEAPON_RANGE, Stats, UnitTables

ARRIVAL_DISTANCE = 0.5
"""Distance from the attack-move's goal at which a unit without foes stands idle."""
BLOCKED_LOOPS_MELEE = 2.0
BLOCKED_LOOPS_RANGED = 4.0
"""Blocked loops after which a unit walks around the obstacle; a ranged one looks for another target first."""
ROUND_LOOPS_MELEE = 32.0
ROUND_LOOPS_RANGED = 16.0
"""For so many loops, unless a way opens before."""
CROWD_RADIUS = 4.0
"""Foes this close to the target belong to the crowd that a unit walks around."""


@kernel(allocates=False)
def _nearest_foe(stats: Stats, damage: Stats, units: Units, i: int, first: int, last: int, avoided: int) -> int:
    """Living foe in [first, last) that unit i's weapon can hit, with the least edge distance within scan range, or
    NONE; `avoided` only if there is no other."""
    best = NONE
    fallback = NONE
    best_edge = stats[SCAN_RANGE, i]
    x = units[X, i]
    y = units[Y, i]
    radius = stats[RADIUS, i]
    for j in range(first, last):
        if units[HEALTH, j] <= 0.0:
            continue
        dx = units[X, j] - x
        dy = units[Y, j] - y
        limit = best_edge + radius + stats[RADIUS, j]
        squared = dx * dx + dy * dy
        if squared > limit * limit or damage[i, j] <= 0.0:
            continue
        edge = math.sqrt(squared) - radius - stats[RADIUS, j]
        if j == avoided:
            fallback = j
        elif best == NONE or edge < best_edge:
            best = j
            best_edge = edge
    return fallback if best == NONE else best


@kernel(allocates=False)
def _attacker_of_friends(
    tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace, i: int, first_friend: int, last_friend: int
) -> int:
    """Nearest living foe that recently hit unit i or a friend within the help radius, inside the leash; or NONE."""
    best = NONE
    best_distance = tables.leash
    for friend in range(first_friend, last_friend):
        if not work.integers[ALIVE, friend] or not 0.0 < units[ALARM, friend] <= ALARM_LOOPS:
            continue
        foe = flags[ATTACKER, friend]
        if units[HEALTH, foe] <= 0.0 or tables.damage[i, foe] <= 0.0:
            continue
        if center_distance(units, i, friend) > tables.help_radius:
            continue
        distance = center_distance(units, i, foe)
        if distance <= best_distance:
            best = foe
            best_distance = distance
    return best


@kernel(allocates=False)
def choose_scripted_target(tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace, i: int) -> int:
    """Target of a scripted unit for this loop, or NONE."""
    stats = tables.stats
    avoided = flags[AVOIDED, i] if units[BLOCKED, i] < 0.0 else NONE
    target = flags[TARGET, i]
    if target != NONE and units[HEALTH, target] > 0.0:
        beyond_reach = center_distance(units, i, target) - reach_between(stats, i, target)
        if beyond_reach <= 0.0 or (beyond_reach <= stats[CHASE, i] and target != avoided):
            return target
    first_foe = tables.num_agents if i < tables.num_agents else 0
    last_foe = units.shape[1] if i < tables.num_agents else tables.num_agents
    target = _nearest_foe(stats, tables.damage, units, i, first_foe, last_foe, avoided)
    if target == NONE and tables.retaliation:
        first_friend = 0 if i < tables.num_agents else tables.num_agents
        last_friend = tables.num_agents if i < tables.num_agents else units.shape[1]
        target = _attacker_of_friends(tables, units, flags, work, i, first_friend, last_friend)
    return target


@kernel(allocates=False)
def _walk_around_obstacle(
    units: Units, i: int, target: int, first_foe: int, last_foe: int, fallback_side: float
) -> None:
    """Send unit i, which has no way to its target, around the foes near it, by the nearer end of their line."""
    x = 0.0
    y = 0.0
    count = 0
    for foe in range(first_foe, last_foe):
        if units[HEALTH, foe] > 0.0 and center_distance(units, target, foe) <= CROWD_RADIUS:
            x += units[X, foe]
            y += units[Y, foe]
            count += 1
    units[ROUND_X, i] = x / count
    units[ROUND_Y, i] = y / count
    turn = (units[X, target] - units[X, i]) * (units[ROUND_Y, i] - units[Y, i])
    turn -= (units[Y, target] - units[Y, i]) * (units[ROUND_X, i] - units[X, i])
    units[ROUND_SIDE, i] = fallback_side
    if abs(turn) > 0.1:
        units[ROUND_SIDE, i] = 1.0 if turn > 0.0 else -1.0


@kernel(inline=True, allocates=False)
def count_blocked_loops(
    tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace, i: int, target: int, is_open: bool
) -> None:
    """Count the loops in which the way to the target was blocked; after too many the unit walks around."""
    if is_open:
        units[BLOCKED, i] = min(units[BLOCKED, i], 0.0)
    elif units[BLOCKED, i] >= 0.0:
        units[BLOCKED, i] += 1.0
        is_melee = tables.stats[WEAPON_RANGE, i] < MELEE_RANGE
        if units[BLOCKED, i] >= (BLOCKED_LOOPS_MELEE if is_melee else BLOCKED_LOOPS_RANGED):
            first_foe = tables.num_agents if i < tables.num_agents else 0
            last_foe = units.shape[1] if i < tables.num_agents else tables.num_agents
            _walk_around_obstacle(units, i, target, first_foe, last_foe, work.floats[SIDESTEP, i])
            units[BLOCKED, i] = -ROUND_LOOPS_MELEE if is_melee else -ROUND_LOOPS_RANGED
            flags[AVOIDED, i] = NONE if is_melee else target
