"""Moment: all units of one battle at one instant, as a picture needs them.

Shapes: B battles, U units, agents first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dm2_ray.world.battles.units_view import UnitsView

LONG_AGO = 1e9


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameState:
    """Columns [U] of one battle; a dead unit stays where it fell."""

    x: NDArray[np.floating]
    """Map cells, growing east."""
    y: NDArray[np.floating]
    """Map cells, growing north."""
    health: NDArray[np.floating]
    """0 = dead."""
    shield: NDArray[np.floating]
    energy: NDArray[np.floating]
    cooldown: NDArray[np.floating]
    """Game loops until the next attack may start."""
    target: NDArray[np.integer]
    """Unit that is being fought or healed, -1 without."""
    dead_loops: NDArray[np.floating]
    """Game loops since a dead unit fell, LONG_AGO where that is not known."""

    @staticmethod
    def from_units(units: UnitsView, column: int = 0) -> FrameState:
        """One column of the units of battles side by side, copied."""
        return FrameState(
            x=np.array(units.x[column]),
            y=np.array(units.y[column]),
            health=np.array(units.health[column]),
            shield=np.array(units.shield[column]),
            energy=np.array(units.energy[column]),
            cooldown=np.array(units.cooldown[column]),
            target=np.array(units.target[column]),
            dead_loops=np.full(units.x.shape[1], LONG_AGO),
        )


def between(
    before: FrameState, after: FrameState, share: float, step_loops: int, weapon_period: NDArray[np.float64]
) -> FrameState:
    """The moment `share` (0 to 1) of the way through the env step that led from one moment to another.

    Units move in a straight line and lose health evenly; a weapon that was fired in between has its cooldown jump up
    when it was fired, as far as the cooldown afterwards tells.

    Args:
        before, after: at the step's start and end.
        share: 0 is `before`, 1 is `after`.
        step_loops: game loops of the step.
        weapon_period: [U] game loops.
    """

    def mixed(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
        return a + share * (b - a)

    loops = share * step_loops
    counted_back = after.cooldown + (step_loops - loops)
    fired = (after.cooldown > before.cooldown) & (counted_back <= np.maximum(weapon_period, after.cooldown))
    waiting = np.maximum(before.cooldown - loops, 0.0)
    fell = (before.health > 0) & (after.health <= 0)
    # The target at the end is whom the step was spent on, unless it fell or the battle ended.
    target = np.where(after.target >= 0, after.target, before.target) if share > 0 else before.target
    return FrameState(
        x=mixed(before.x, after.x),
        y=mixed(before.y, after.y),
        health=mixed(before.health, after.health),
        shield=mixed(before.shield, after.shield),
        energy=mixed(before.energy, after.energy),
        cooldown=np.where(fired, counted_back, waiting) if share < 1 else after.cooldown,
        target=target,
        dead_loops=np.where(fell, 0.0, before.dead_loops + loops),
    )
