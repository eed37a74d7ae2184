"""Area damage: the colossus' line of fire and the baneling's explosion. Neither hurts its own side.

Shapes: U units of one battle; `units` and `flags` as in units.state, `stats` and `damage` as in UnitTables.
"""

from __future__ import annotations

import math

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.damage import apply_damage
from dm2_ray.world.units.state import (
    ABOUT_TO_EXPLODE,
    EXPLODES_IN_THIS_ROUND,
    EXPLODING,
    HEALTH,
    NOT_EXPLODING,
    UnitFlags,
    Units,
    X,
    Y,
)
from dm2_ray.world.units.tables import RADIUS, SIMULTANEOUS_HITS, SPLASH_HALF_LENGTH, SPLASH_RADIUS, Stats


@kernel(allocates=False)
def apply_line_damage(
    num_agents: int, stats: Stats, damage: Stats, units: Units, flags: UnitFlags, i: int, j: int
) -> None:
    """Unit i fires across unit j: every foe whose edge is near the line through j, across the shot, is hit."""
    dx = units[X, j] - units[X, i]
    dy = units[Y, j] - units[Y, i]
    distance = math.sqrt(dx * dx + dy * dy)
    along_x = 0.0
    along_y = 1.0
    if distance > 1e-9:
        along_x = -dy / distance
        along_y = dx / distance
    middle_x = units[X, j]
    middle_y = units[Y, j]
    half_length = stats[SPLASH_HALF_LENGTH, i]
    first_foe = num_agents if i < num_agents else 0
    last_foe = units.shape[1] if i < num_agents else num_agents
    for foe in range(first_foe, last_foe):
        if units[HEALTH, foe] <= 0.0 or damage[i, foe] <= 0.0:
            continue
        from_x = units[X, foe] - middle_x
        from_y = units[Y, foe] - middle_y
        share = min(max(from_x * along_x + from_y * along_y, -half_length), half_length)
        off_x = from_x - share * along_x
        off_y = from_y - share * along_y
        limit = stats[SPLASH_RADIUS, i] + stats[RADIUS, foe]
        if off_x * off_x + off_y * off_y <= limit * limit:
            for _ in range(int(stats[SIMULTANEOUS_HITS, i])):
                apply_damage(stats, damage, units, flags, i, foe)


@kernel(allocates=False)
def _explode(num_agents: int, stats: Stats, damage: Stats, units: Units, flags: UnitFlags, i: int) -> None:
    """Unit i, dead, explodes: every foe on the ground whose edge is within the splash radius is hit."""
    first_foe = num_agents if i < num_agents else 0
    last_foe = units.shape[1] if i < num_agents else num_agents
    for foe in range(first_foe, last_foe):
        if units[HEALTH, foe] <= 0.0 or damage[i, foe] <= 0.0:
            continue
        dx = units[X, foe] - units[X, i]
        dy = units[Y, foe] - units[Y, i]
        limit = stats[SPLASH_RADIUS, i] + stats[RADIUS, foe]
        if dx * dx + dy * dy <= limit * limit:
            apply_damage(stats, damage, units, flags, i, foe)


@kernel(allocates=False)
def resolve_explosions(num_agents: int, stats: Stats, damage: Stats, units: Units, flags: UnitFlags) -> None:
    """Let all units that are about to explode do so, then the units that this killed, and so on.

    All units of a round explode from the same state, whichever side they are on.
    """
    pending = True
    while pending:
        pending = False
        for i in range(units.shape[1]):
            if flags[EXPLODING, i] == ABOUT_TO_EXPLODE:
                flags[EXPLODING, i] = EXPLODES_IN_THIS_ROUND
                pending = True
        if not pending:
            break
        for i in range(units.shape[1]):
            if flags[EXPLODING, i] == EXPLODES_IN_THIS_ROUND:
                flags[EXPLODING, i] = NOT_EXPLODING
                _explode(num_agents, stats, damage, units, flags, i)
