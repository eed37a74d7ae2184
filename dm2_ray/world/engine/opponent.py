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
from dm2_ray.world.engine.weapons import center_distance, is_within, reach_between
from dm2_ray.world.units.state import (
    ALARM,
    ALARMED,
    ALIVE,
    ATTACKER,
    EAST,
    HEALTH,
    NONE,
    NORTH,
    SIDESTEP,
    SOUTH,
    TARGET,
    WEST,
    UnitFlags,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import CHASE, RADIUS, SCAN_RANGE, Stats, UnitTables

ARRIVAL_DISTANCE = 0.5
"""Distance from the attack-move's goal at which a unit without foes stands idle."""
TIE = 1e-6
"""Distances that differ by less are equal; which of two foes is taken then is drawn anew every 32 loops."""


@kernel(inline=True, allocates=False)
def survey_sides(num_agents: int, units: Units, work: Workspace) -> None:
    """Find the box around the living units of each side, and whether any of them was hit lately: most units need to
    look no further."""
    floats = work.floats
    for side in range(2):
        first = 0 if side == 0 else num_agents
        last = num_agents if side == 0 else units.shape[1]
        # Local variables stay in registers; numbers in memory would have to be read again after each is written.
        west = math.inf
        east = -math.inf
        south = math.inf
        north = -math.inf
        alarmed = False
        for i in range(first, last):
            if work.integers[ALIVE, i]:
                west = min(west, units[X, i])
                east = max(east, units[X, i])
                south = min(south, units[Y, i])
                north = max(north, units[Y, i])
                alarmed |= 0.0 < units[ALARM, i] <= ALARM_LOOPS
        floats[WEST, side] = west
        floats[EAST, side] = east
        floats[SOUTH, side] = south
        floats[NORTH, side] = north
        work.integers[ALARMED, side] = alarmed


@kernel(inline=True, allocates=False)
def _is_far(units: Units, work: Workspace, i: int, side: int, distance: float) -> bool:
    """Whether every living unit of a side is farther from unit i than a distance."""
    floats = work.floats
    dx = max(floats[WEST, side] - units[X, i], units[X, i] - floats[EAST, side], 0.0)
    dy = max(floats[SOUTH, side] - units[Y, i], units[Y, i] - floats[NORTH, side], 0.0)
    return dx * dx + dy * dy > distance * distance


@kernel(allocates=False)
def _nearest_foe(stats: Stats, damage: Stats, units: Units, i: int, first: int, last: int, prefers_later: bool) -> int:
    """Living foe in [first, last) that unit i's weapon can hit, with the least edge distance within scan range, or
    NONE."""
    best = NONE
    best_edge = stats[SCAN_RANGE, i]
    x = units[X, i]
    y = units[Y, i]
    radius = stats[RADIUS, i]
    for j in range(first, last):
        if units[HEALTH, j] <= 0.0:
            continue
        dx = units[X, j] - x
        dy = units[Y, j] - y
        limit = best_edge + TIE + radius + stats[RADIUS, j]
        squared = dx * dx + dy * dy
        if squared > limit * limit or damage[i, j] <= 0.0:
            continue
        edge = math.sqrt(squared) - radius - stats[RADIUS, j]
        if best == NONE or edge < best_edge - TIE or (prefers_later and edge < best_edge + TIE):
            best = j
            best_edge = edge
    return best


@kernel(allocates=False)
def _attacker_of_friends(
    tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace, i: int, first_friend: int, last_friend: int
) -> int:
    """Nearest living foe that recently hit unit i or a friend within the help radius, inside the leash; or NONE."""
    best = NONE
    best_distance = tables.leash
    prefers_later = work.floats[SIDESTEP, i] < 0.0
    for friend in range(first_friend, last_friend):
        if not work.integers[ALIVE, friend] or not 0.0 < units[ALARM, friend] <= ALARM_LOOPS:
            continue
        foe = flags[ATTACKER, friend]
        if units[HEALTH, foe] <= 0.0 or tables.damage[i, foe] <= 0.0:
            continue
        if center_distance(units, i, friend) > tables.help_radius:
            continue
        distance = center_distance(units, i, foe)
        if distance < best_distance - TIE or (prefers_later and distance < best_distance + TIE):
            best = foe
            best_distance = distance
    return best


@kernel(llvm_inline=True, allocates=False)
def choose_scripted_target(tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace, i: int) -> int:
    """Target for this loop of a scripted unit whose last target is dead or out of reach, or NONE."""
    stats = tables.stats
    target = flags[TARGET, i]
    beyond_reach = math.inf
    if target > NONE and units[HEALTH, target] > 0.0:
        beyond_reach = center_distance(units, i, target) - reach_between(stats, i, target)
    first_foe = tables.num_agents if i < tables.num_agents else 0
    last_foe = units.shape[1] if i < tables.num_agents else tables.num_agents
    nearest = NONE
    sight = stats[SCAN_RANGE, i] + stats[RADIUS, i] + tables.largest_radius + TIE
    if not _is_far(units, work, i, 1 if i < tables.num_agents else 0, sight):
        nearest = _nearest_foe(stats, tables.damage, units, i, first_foe, last_foe, work.floats[SIDESTEP, i] < 0.0)
    # A target that is out of reach is followed a little, unless another one is within reach.
    if beyond_reach <= stats[CHASE, i] and (
        nearest <= NONE or not is_within(units, i, nearest, reach_between(stats, i, nearest))
    ):
        return target
    target = nearest
    if target == NONE and tables.retaliation and work.integers[ALARMED, 0 if i < tables.num_agents else 1]:
        first_friend = 0 if i < tables.num_agents else tables.num_agents
        last_friend = tables.num_agents if i < tables.num_agents else units.shape[1]
        target = _attacker_of_friends(tables, units, flags, work, i, first_friend, last_friend)
    return target
