"""Weapon kernels: starting an attack, releasing it, missiles and second hits, damage, regeneration.

Shapes: U units of one battle.

Within a loop damage is applied in unit order, but whoever was alive at the loop's start still gets its shot off: sides
strike simultaneously, and only friends see in time that a shared target has fallen.
"""

from __future__ import annotations

import math

from dm2_ray.world.inner_kernels import inlined_kernel
from dm2_ray.world.randomness import DRAW_WEAPON_DELAY, uniform_draw
from dm2_ray.world.unit_state import (
    ALARM,
    ATTACKER,
    COOLDOWN,
    HEALTH,
    IMPACT,
    IMPACT_TARGET,
    NONE,
    RECOVERY,
    SHIELD,
    SHIELD_WAIT,
    WINDUP,
    WINDUP_TARGET,
    X,
    Y,
)
from dm2_ray.world.unit_tables import (
    ARMOUR,
    BACKSWING,
    DAMAGE_POINT,
    HEALTH_MAX,
    HEALTH_REGENERATION,
    MISSILE_SPEED,
    PERIOD,
    RADIUS,
    RANGE_SLOP,
    SECOND_HIT_DELAY,
    SHIELD_DELAY,
    SHIELD_MAX,
    SHIELD_REGENERATION,
    WEAPON_RANGE,
)

MIN_DAMAGE = 0.5
ALARM_LOOPS = 32.0
DELAY_MIN_LOOPS = -1.0
DELAY_SPAN_LOOPS = 3.0


@inlined_kernel
def centre_distance(units, i, j):
    """Distance between the centres of units i and j."""
    dx = units[X, j] - units[X, i]
    dy = units[Y, j] - units[Y, i]
    return math.sqrt(dx * dx + dy * dy)


@inlined_kernel
def reach_between(tables, i, j):
    """Centre distance up to which unit i may start an attack on unit j: ranges run from edge to edge."""
    return tables.stats[WEAPON_RANGE, i] + tables.stats[RADIUS, i] + tables.stats[RADIUS, j]


@inlined_kernel
def strike(tables, units, marks, i, j):
    """One hit of unit i on unit j: shields absorb first and unarmoured, the overflow is reduced by armour."""
    if units[HEALTH, j] <= 0.0:
        return
    damage = tables.damage[i, j]
    absorbed = min(damage, units[SHIELD, j])
    units[SHIELD, j] -= absorbed
    if damage > absorbed:
        units[HEALTH, j] -= max(damage - absorbed - tables.stats[ARMOUR, j], MIN_DAMAGE)
        if units[HEALTH, j] <= 0.0:
            units[HEALTH, j] = 0.0
            units[SHIELD, j] = 0.0
    units[SHIELD_WAIT, j] = tables.stats[SHIELD_DELAY, j]
    marks[ATTACKER, j] = i
    # One loop more than is remembered: a hit is noticed in the next loop, whichever unit is dealt with first.
    units[ALARM, j] = ALARM_LOOPS + 1.0


@inlined_kernel
def start_attack(tables, units, marks, work, i, j, key, loop):
    """Begin an attack; the cooldown runs from its start, so the period does not depend on the damage point."""
    delay = 0.0
    if tables.random_delay:
        delay = DELAY_MIN_LOOPS + DELAY_SPAN_LOOPS * uniform_draw(key, loop, i, DRAW_WEAPON_DELAY)
    units[COOLDOWN, i] = tables.stats[PERIOD, i] + delay
    if tables.stats[DAMAGE_POINT, i] > 0.0:
        units[WINDUP, i] = tables.stats[DAMAGE_POINT, i]
        marks[WINDUP_TARGET, i] = j
    else:
        release_attack(tables, units, marks, i, j)


@inlined_kernel
def release_attack(tables, units, marks, i, j):
    """The moment of the shot: an instant weapon hits now, a missile leaves, a second blade follows later."""
    units[WINDUP, i] = -1.0
    units[RECOVERY, i] = tables.stats[BACKSWING, i]
    if tables.stats[MISSILE_SPEED, i] > 0.0:
        units[IMPACT, i] = max(centre_distance(units, i, j) - tables.stats[RADIUS, j], 0.0) / tables.stats[MISSILE_SPEED, i]
        marks[IMPACT_TARGET, i] = j
    else:
        strike(tables, units, marks, i, j)
        if tables.stats[SECOND_HIT_DELAY, i] > 0.0:
            units[IMPACT, i] = tables.stats[SECOND_HIT_DELAY, i]
            marks[IMPACT_TARGET, i] = j


@inlined_kernel
def cancel_attack(units, i):
    """Give up an attack that has not been released: the weapon is ready again at once."""
    if units[WINDUP, i] >= 0.0:
        units[WINDUP, i] = -1.0
        units[COOLDOWN, i] = 0.0


@inlined_kernel
def continue_attack(tables, units, marks, i):
    """One loop of unit i's attack in progress; it is lost if the target died or left by more than the range slop."""
    units[WINDUP, i] -= 1.0
    if units[WINDUP, i] > 0.0:
        return
    j = marks[WINDUP_TARGET, i]
    if units[HEALTH, j] > 0.0 and centre_distance(units, i, j) <= reach_between(tables, i, j) + tables.stats[RANGE_SLOP, i]:
        release_attack(tables, units, marks, i, j)
    else:
        units[WINDUP, i] = -1.0
        units[COOLDOWN, i] = 0.0


@inlined_kernel
def land_impacts(tables, units, marks, work):
    """Missiles fly on after their shooter's death; a second blow needs the arm that strikes it."""
    for i in range(units.shape[1]):
        if units[IMPACT, i] < 0.0:
            continue
        if tables.stats[MISSILE_SPEED, i] == 0.0 and not work.alive[i]:
            units[IMPACT, i] = -1.0
            continue
        units[IMPACT, i] -= 1.0
        if units[IMPACT, i] <= 0.0:
            units[IMPACT, i] = -1.0
            strike(tables, units, marks, i, marks[IMPACT_TARGET, i])
            marks[IMPACT_TARGET, i] = NONE


@inlined_kernel
def pass_loop(tables, units, work):
    """Timers and regeneration of one loop."""
    for i in range(units.shape[1]):
        if not work.alive[i]:
            continue
        units[COOLDOWN, i] = max(units[COOLDOWN, i] - 1.0, 0.0)
        units[RECOVERY, i] = max(units[RECOVERY, i] - 1.0, 0.0)
        units[ALARM, i] = max(units[ALARM, i] - 1.0, 0.0)
        if tables.stats[SHIELD_MAX, i] > 0.0:
            units[SHIELD_WAIT, i] = max(units[SHIELD_WAIT, i] - 1.0, 0.0)
            if units[SHIELD_WAIT, i] == 0.0:
                units[SHIELD, i] = min(units[SHIELD, i] + tables.stats[SHIELD_REGENERATION, i], tables.stats[SHIELD_MAX, i])
        if tables.stats[HEALTH_REGENERATION, i] > 0.0:
            units[HEALTH, i] = min(units[HEALTH, i] + tables.stats[HEALTH_REGENERATION, i], tables.stats[HEALTH_MAX, i])
