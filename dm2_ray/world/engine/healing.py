"""Healing: medivacs tend one hurt biological unit at a time.

Shapes: U units of one battle; `units`, `marks` and `work` as in unit_state.

Whom a healer tends is decided when units act, from the state at the loop's start; the health arrives when the next loop
begins, on both sides at once.
"""

from __future__ import annotations

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.weapons import center_distance, reach_between
from dm2_ray.world.units.state import (
    ENERGY,
    GOAL_X,
    GOAL_Y,
    HEALING,
    HEALTH,
    NONE,
    ORDER,
    ORDER_ATTACK,
    ORDER_SCRIPTED,
    TARGET,
    UnitFlags,
    Units,
    X,
    Y,
)
from dm2_ray.world.units.tables import (
    ENERGY_MAX,
    ENERGY_PER_HEALTH,
    ENERGY_REGENERATION,
    HEAL_MIN_ENERGY,
    HEAL_RATE,
    HEAL_SCAN_RANGE,
    HEALTH_MAX,
    IS_HEALABLE,
    RADIUS,
    Stats,
    UnitTables,
)

FOLLOW_DISTANCE = 1.0
"""A scripted healer with nobody to tend keeps this close to the middle of its army."""


@kernel(allocates=False)
def _needs_healing(stats: Stats, units: Units, i: int) -> bool:
    return stats[IS_HEALABLE, i] > 0.0 and 0.0 < units[HEALTH, i] < stats[HEALTH_MAX, i]


@kernel(allocates=False)
def _worst_hurt_friend(stats: Stats, units: Units, i: int, first: int, last: int) -> int:
    """Friend in [first, last) with the least share of health within scan range, the nearer of two alike; or NONE."""
    best = NONE
    best_share = 1.0
    best_distance = 0.0
    for j in range(first, last):
        if j == i or not _needs_healing(stats, units, j):
            continue
        distance = center_distance(units, i, j)
        if distance > stats[HEAL_SCAN_RANGE, i] + stats[RADIUS, i] + stats[RADIUS, j]:
            continue
        share = units[HEALTH, j] / stats[HEALTH_MAX, j]
        if best == NONE or share < best_share or (share == best_share and distance < best_distance):
            best = j
            best_share = share
            best_distance = distance
    return best


@kernel(allocates=False)
def follow_allies(stats: Stats, units: Units, i: int, first: int, last: int) -> bool:
    """Set a scripted healer's goal to the middle of its living fighters; False, and no change, without any."""
    count = 0
    x = 0.0
    y = 0.0
    for j in range(first, last):
        if units[HEALTH, j] > 0.0 and stats[HEAL_RATE, j] == 0.0:
            count += 1
            x += units[X, j]
            y += units[Y, j]
    if count > 0:
        units[GOAL_X, i] = x / count
        units[GOAL_Y, i] = y / count
    return count > 0


@kernel(allocates=False)
def choose_heal_target(tables: UnitTables, units: Units, marks: UnitFlags, i: int, first: int, last: int) -> int:
    """Whom healer i tends or flies to in this loop, or NONE; [first, last) is its side.

    An ordered healer waits by an unhurt patient, as its order stands until the next one.
    """
    stats = tables.stats
    patient = NONE
    if marks[ORDER, i] == ORDER_SCRIPTED:
        patient = _worst_hurt_friend(stats, units, i, first, last)
        marks[TARGET, i] = patient
    elif marks[ORDER, i] == ORDER_ATTACK:
        patient = marks[TARGET, i]
        if patient != NONE and (units[HEALTH, patient] <= 0.0 or stats[IS_HEALABLE, patient] == 0.0):
            patient = NONE
    is_near = patient != NONE and center_distance(units, i, patient) <= reach_between(stats, i, patient)
    if is_near and _needs_healing(stats, units, patient):
        # Energy runs down to nothing once begun, but does not suffice to begin.
        needed = 0.0 if marks[HEALING, i] == patient else stats[HEAL_MIN_ENERGY, i]
        marks[HEALING, i] = patient if units[ENERGY, i] > 0.0 and units[ENERGY, i] >= needed else NONE
    else:
        marks[HEALING, i] = NONE
    return patient


@kernel(allocates=False)
def heal_patients(stats: Stats, units: Units, marks: UnitFlags) -> None:
    """One loop's energy for every healer, and health for everybody who is being tended."""
    for i in range(units.shape[1]):
        if stats[HEAL_RATE, i] == 0.0 or units[HEALTH, i] <= 0.0:
            continue
        units[ENERGY, i] = min(units[ENERGY, i] + stats[ENERGY_REGENERATION, i], stats[ENERGY_MAX, i])
        patient = marks[HEALING, i]
        if patient != NONE and units[HEALTH, patient] > 0.0:
            missing = stats[HEALTH_MAX, patient] - units[HEALTH, patient]
            healed = min(stats[HEAL_RATE, i], missing, units[ENERGY, i] / stats[ENERGY_PER_HEALTH, i])
            units[HEALTH, patient] += healed
            units[ENERGY, i] -= healed * stats[ENERGY_PER_HEALTH, i]
