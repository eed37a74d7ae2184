"""Healing: a medivac heals one hurt biological unit at a time.

Shapes: U units of one battle; `units`, `flags` and `work` as in units.state.

A healer's patient is chosen when units act, from the state at the loop's start; the health arrives when the next loop
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
"""A scripted healer without a patient stays this close to the middle of its army."""


@kernel(allocates=False)
def _needs_healing(stats: Stats, units: Units, i: int) -> bool:
    return stats[IS_HEALABLE, i] > 0.0 and 0.0 < units[HEALTH, i] < stats[HEALTH_MAX, i]


@kernel(allocates=False)
def _worst_hurt_friend(stats: Stats, units: Units, i: int, first: int, last: int) -> int:
    """Friend in [first, last) with the lowest share of health within scan range, ties go to the nearer one; or NONE."""
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
    """Set a scripted healer's goal to the middle of its living fighters; without any, returns False and changes
    nothing."""
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
def choose_heal_target(tables: UnitTables, units: Units, flags: UnitFlags, i: int, first: int, last: int) -> int:
    """The unit that healer i heals or flies to in this loop, or NONE; [first, last) is its side.

    A healer under an order waits beside an unhurt patient, since the order is valid until the next one.
    """
    stats = tables.stats
    patient = NONE
    if flags[ORDER, i] == ORDER_SCRIPTED:
        patient = _worst_hurt_friend(stats, units, i, first, last)
        flags[TARGET, i] = patient
    elif flags[ORDER, i] == ORDER_ATTACK:
        patient = flags[TARGET, i]
        if patient != NONE and (units[HEALTH, patient] <= 0.0 or stats[IS_HEALABLE, patient] == 0.0):
            patient = NONE
    is_near = patient != NONE and center_distance(units, i, patient) <= reach_between(stats, i, patient)
    if is_near and _needs_healing(stats, units, patient):
        # Once begun, healing continues until the energy is 0; to begin, HEAL_MIN_ENERGY is needed.
        needed = 0.0 if flags[HEALING, i] == patient else stats[HEAL_MIN_ENERGY, i]
        flags[HEALING, i] = patient if units[ENERGY, i] > 0.0 and units[ENERGY, i] >= needed else NONE
    else:
        flags[HEALING, i] = NONE
    return patient


@kernel(allocates=False)
def heal_patients(stats: Stats, units: Units, flags: UnitFlags) -> None:
    """One loop's energy for every healer, and health for every patient."""
    for i in range(units.shape[1]):
        if stats[HEAL_RATE, i] == 0.0 or units[HEALTH, i] <= 0.0:
            continue
        units[ENERGY, i] = min(units[ENERGY, i] + stats[ENERGY_REGENERATION, i], stats[ENERGY_MAX, i])
        patient = flags[HEALING, i]
        if patient != NONE and units[HEALTH, patient] > 0.0:
            missing = stats[HEALTH_MAX, patient] - units[HEALTH, patient]
            healed = min(stats[HEAL_RATE, i], missing, units[ENERGY, i] / stats[ENERGY_PER_HEALTH, i])
            units[HEALTH, patient] += healed
            units[ENERGY, i] = max(units[ENERGY, i] - healed * stats[ENERGY_PER_HEALTH, i], 0.0)
