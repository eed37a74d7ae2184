"""Damage of a single hit.

Shapes: U units of one battle; `units` and `flags` as in units.state, `stats` and `damage` as in UnitTables.

Within a loop damage is applied in unit order, but every unit that was alive at the loop's start still fires: both sides
strike simultaneously, and only units of the same side notice within the loop that a shared target has died.
"""

from __future__ import annotations

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.units.state import (
    ABOUT_TO_EXPLODE,
    ALARM,
    ATTACKER,
    EXPLODING,
    HEALTH,
    SHIELD,
    SHIELD_WAIT,
    UnitFlags,
    Units,
)
from dm2_ray.world.units.tables import ARMOR, EXPLODES, SHIELD_DELAY, Stats

MIN_DAMAGE = 0.5
"""A hit on bare health takes at least this, whatever the armor."""
ALARM_LOOPS = 32.0
"""How long a unit remembers its attacker: two "Normal" seconds, the period of StarCraft II's calls for help."""


@kernel(allocates=False)
def kill_unit(stats: Stats, units: Units, flags: UnitFlags, i: int) -> None:
    """Unit i dies; a unit that explodes when killed will do so before the loop ends."""
    units[HEALTH, i] = 0.0
    units[SHIELD, i] = 0.0
    if stats[EXPLODES, i] > 0.0:
        flags[EXPLODING, i] = ABOUT_TO_EXPLODE


@kernel(allocates=False)
def apply_damage(stats: Stats, damage: Stats, units: Units, flags: UnitFlags, i: int, j: int) -> None:
    """One hit of unit i on unit j: shields absorb damage first and without armor; armor reduces the rest."""
    if units[HEALTH, j] <= 0.0:
        return
    dealt = damage[i, j]
    absorbed = min(dealt, units[SHIELD, j])
    units[SHIELD, j] -= absorbed
    if dealt > absorbed:
        units[HEALTH, j] -= max(dealt - absorbed - stats[ARMOR, j], MIN_DAMAGE)
        if units[HEALTH, j] <= 0.0:
            kill_unit(stats, units, flags, j)
    units[SHIELD_WAIT, j] = stats[SHIELD_DELAY, j]
    flags[ATTACKER, j] = i
    # One loop longer than it is remembered: a hit is noticed in the next loop, whichever unit is processed first.
    units[ALARM, j] = ALARM_LOOPS + 1.0
