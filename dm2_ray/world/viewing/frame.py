"""FrameState: all units of one battle at one instant, as needed for a picture.

Shapes: B battles, U units, agents first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dm2_ray.arrays import Float64s
from dm2_ray.world.battles.units_view import UnitColumns, UnitsView
from dm2_ray.world.units.state import UNIT_COLUMNS

LONG_AGO = 1e9


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameState(UnitColumns[np.float64]):
    """Columns [U] of one battle; a dead unit stays where it died.

    Attributes:
        dead_loops: Game loops since a dead unit died, LONG_AGO where that is not known.
    """

    dead_loops: Float64s

    @staticmethod
    def from_units(units: UnitsView, column: int = 0) -> FrameState:
        """A copy of the units in one column of battles."""
        return FrameState(
            **{name: np.array(getattr(units, name)[column]) for name in UNIT_COLUMNS},
            target=np.array(units.target[column]),
            dead_loops=np.full(units.x.shape[1], LONG_AGO),
        )


def between(
    before: FrameState, after: FrameState, share: float, step_loops: int, weapon_period: Float64s
) -> FrameState:
    """The frame at a fraction of the env step between two frames.

    Units move in a straight line and lose health evenly. The cooldown of a weapon that was fired within the step jumps
    up at the time of the shot, which is computed from the cooldown at the step's end.

    Args:
        before: The frame at the step's start.
        after: The frame at the step's end.
        share: Fraction of the step: 0 gives `before`, 1 gives `after`.
        step_loops: Game loops of the step.
        weapon_period: [U] game loops.
    """

    def mixed(a: Float64s, b: Float64s) -> Float64s:
        return a + share * (b - a)

    loops = share * step_loops
    counted_back = after.cooldown + (step_loops - loops)
    fired = (after.cooldown > before.cooldown) & (counted_back <= np.maximum(weapon_period, after.cooldown))
    waiting = np.maximum(before.cooldown - loops, 0.0)
    fell = (before.health > 0) & (after.health <= 0)
    # `after.target` is the unit attacked during the step, unless that unit died or the battle ended.
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
