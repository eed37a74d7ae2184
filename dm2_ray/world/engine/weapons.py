"""Weapon kernels: starting an attack, releasing it, missiles and second hits, regeneration.

Shapes: U units of one battle; `units`, `flags` and `work` as in units.state, `stats` and `damage` as in UnitTables.
"""

from __future__ import annotations

import math

import numpy as np

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.damage import apply_damage, kill_unit
from dm2_ray.world.engine.splash import apply_line_damage
from dm2_ray.world.randomness import DRAW_WEAPON_DELAY, uniform_draw
from dm2_ray.world.units.state import (
    ALARM,
    ALIVE,
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
    UnitFlags,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import (
    BACKSWING,
    DAMAGE_POINT,
    DELAY_MIN,
    DELAY_SPAN,
    HEALTH_MAX,
    HEALTH_REGENERATION,
    MISSILE_SPEED,
    PERIOD,
    RADIUS,
    RANGE_SLOP,
    SECOND_HIT_DELAY,
    SHIELD_MAX,
    SHIELD_REGENERATION,
    SIMULTANEOUS_HITS,
    SPLASH_CIRCLE,
    SPLASH_LINE,
    SPLASH_SHAPE,
    WEAPON_RANGE,
    Stats,
    UnitTables,
)


@kernel(allocates=False)
def center_distance(units: Units, i: int, j: int) -> float:
    """Distance between the centers of units i and j."""
    dx = units[X, j] - units[X, i]
    dy = units[Y, j] - units[Y, i]
    return math.sqrt(dx * dx + dy * dy)


@kernel(llvm_inline=True, allocates=False)
def is_within(units: Units, i: int, j: int, distance: float) -> bool:
    """Whether `center_distance` of units i and j is at most `distance`, which is positive.

    The root is slow and needed only where it decides: the relative error of the squares is far below 1e-12.
    """
    dx = units[X, j] - units[X, i]
    dy = units[Y, j] - units[Y, i]
    squared = dx * dx + dy * dy
    limit = distance * distance
    if squared < limit * (1.0 - 1e-12):
        return True
    if squared > limit * (1.0 + 1e-12):
        return False
    return math.sqrt(squared) <= distance


@kernel(allocates=False)
def reach_between(stats: Stats, i: int, j: int) -> float:
    """Center distance up to which unit i may start an attack on unit j: ranges run from edge to edge."""
    return stats[WEAPON_RANGE, i] + stats[RADIUS, i] + stats[RADIUS, j]


@kernel(inline=True, allocates=False)
def start_attack(stats: Stats, units: Units, flags: UnitFlags, i: int, j: int, key: np.uint64, loop: int) -> None:
    """Begin an attack; the cooldown runs from its start, so the period does not depend on the damage point."""
    delay = stats[DELAY_MIN, i] + stats[DELAY_SPAN, i] * uniform_draw(key, loop, i, DRAW_WEAPON_DELAY)
    units[COOLDOWN, i] = stats[PERIOD, i] + delay
    units[WINDUP, i] = stats[DAMAGE_POINT, i]
    flags[WINDUP_TARGET, i] = j


@kernel(allocates=False)
def cancel_attack(units: Units, flags: UnitFlags, i: int) -> None:
    """Cancel the attack in progress, if any: the weapon is ready again at once."""
    if flags[WINDUP_TARGET, i] != NONE:
        flags[WINDUP_TARGET, i] = NONE
        units[COOLDOWN, i] = 0.0


@kernel(llvm_inline=True, allocates=False)
def release_attack(num_agents: int, stats: Stats, damage: Stats, units: Units, flags: UnitFlags, i: int) -> None:
    """The moment of the shot: an instant weapon hits now, a missile leaves, a second blade follows later, a baneling
    kills itself.

    The attack is lost if its target has died or has moved out of range by more than the range slop.
    """
    j = flags[WINDUP_TARGET, i]
    distance = center_distance(units, i, j)
    if units[HEALTH, j] <= 0.0 or distance > reach_between(stats, i, j) + stats[RANGE_SLOP, i]:
        cancel_attack(units, flags, i)
        return
    flags[WINDUP_TARGET, i] = NONE
    units[RECOVERY, i] = stats[BACKSWING, i]
    if stats[MISSILE_SPEED, i] > 0.0:
        units[IMPACT, i] = max(distance - stats[RADIUS, j], 0.0) / stats[MISSILE_SPEED, i]
        flags[IMPACT_TARGET, i] = j
        return
    if stats[SPLASH_SHAPE, i] == SPLASH_CIRCLE:
        kill_unit(stats, units, flags, i)
        return
    if stats[SPLASH_SHAPE, i] == SPLASH_LINE:
        apply_line_damage(num_agents, stats, damage, units, flags, i, j)
        return
    for _ in range(int(stats[SIMULTANEOUS_HITS, i])):
        apply_damage(stats, damage, units, flags, i, j)
    if stats[SECOND_HIT_DELAY, i] > 0.0:
        units[IMPACT, i] = stats[SECOND_HIT_DELAY, i]
        flags[IMPACT_TARGET, i] = j


@kernel(inline=True, allocates=False)
def begin_loop(tables: UnitTables, units: Units, flags: UnitFlags, work: Workspace) -> None:
    """Find the living units, advance timers, regenerate shields and health, land missiles and second blows."""
    stats = tables.stats
    for i in range(units.shape[1]):
        work.integers[ALIVE, i] = units[HEALTH, i] > 0.0
        if work.integers[ALIVE, i]:
            for row in (COOLDOWN, RECOVERY, ALARM):
                units[row, i] = units[row, i] - 1.0 if units[row, i] > 1.0 else 0.0
            if tables.has_regeneration:
                _regenerate(stats, units, i)
    if tables.has_delayed_hits:
        for i in range(units.shape[1]):
            if flags[IMPACT_TARGET, i] != NONE:
                _advance_impact(stats, tables.damage, units, flags, work, i)


@kernel(inline=True, allocates=False)
def _regenerate(stats: Stats, units: Units, i: int) -> None:
    """One loop's shields and health of unit i."""
    if stats[SHIELD_MAX, i] > 0.0:
        units[SHIELD_WAIT, i] = max(units[SHIELD_WAIT, i] - 1.0, 0.0)
        if units[SHIELD_WAIT, i] == 0.0:
            units[SHIELD, i] = min(units[SHIELD, i] + stats[SHIELD_REGENERATION, i], stats[SHIELD_MAX, i])
    if stats[HEALTH_REGENERATION, i] > 0.0:
        units[HEALTH, i] = min(units[HEALTH, i] + stats[HEALTH_REGENERATION, i], stats[HEALTH_MAX, i])


@kernel(llvm_inline=True, allocates=False)
def _advance_impact(stats: Stats, damage: Stats, units: Units, flags: UnitFlags, work: Workspace, i: int) -> None:
    """One loop of unit i's missile in flight or coming second blow."""
    # A missile flies on after its shooter's death; a second blow needs a living attacker.
    if stats[MISSILE_SPEED, i] == 0.0 and not work.integers[ALIVE, i]:
        flags[IMPACT_TARGET, i] = NONE
        return
    units[IMPACT, i] -= 1.0
    if units[IMPACT, i] <= 0.0:
        apply_damage(stats, damage, units, flags, i, flags[IMPACT_TARGET, i])
        flags[IMPACT_TARGET, i] = NONE
