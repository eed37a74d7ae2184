"""What a hit takes away.

Shapes: U units of one battle; `units` and `marks` as in unit_state, `stats` and `damage` as in UnitTables.

Within a loop damage is applied in unit order, but whoever was alive at the loop's start still gets its shot off: sides
strike simultaneously, and only friends see in time that a shared target has fallen.
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
from dm2_ray.world.units.tables import ARMOUR, EXPLODES, SHIELD_DELAY, Stats

MIN_DAMAGE = 0.5
"""A hit on bare health takes at least this, whatever the armor."""
ALARM_LOOPS = 32.0
"""For how long a unit remembers who hit it: two "Normal" seconds, the period of StarCraft II's calls for help."""


@kernel(allocates=False)
def fall(stats: Stats, units: Units, marks: UnitFlags, i: int) -> None:
    """Unit i dies; what explodes when killed will do so before the loop ends."""
    units[HEALTH, i] = 0.0
    units[SHIELD, i] = 0.0
    if stats[EXPLODES, i] > 0.0:
        marks[EXPLODING, i] = ABOUT_TO_EXPLODE


@kernel(allocates=False)
def strike(stats: Stats, damage: Stats, units: Units, marks: UnitFlags, i: int, j: int) -> None:
    """One hit of unit i on unit j: shields absorb first and unarmored, the overflow is reduced by armor."""
    if units[HEALTH, j] <= 0.0:
        return
    dealt = damage[i, j]
    absorbed = min(dealt, units[SHIELD, j])
    units[SHIELD, j] -= absorbed
    if dealt > absorbed:
        units[HEALTH, j] -= max(dealt - absorbed - stats[ARMOUR, j], MIN_DAMAGE)
        if units[HEALTH, j] <= 0.0:
            fall(stats, units, marks, j)
    units[SHIELD_WAIT, j] = stats[SHIELD_DELAY, j]
    marks[ATTACKER, j] = i
    # One loop more than is remembered: a hit is noticed in the next loop, whichever unit is dealt with first.
    units[ALARM, j] = ALARM_LOOPS + 1.0
