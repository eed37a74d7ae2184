"""Layout of the units' state: the rows of two arrays per battle, so that kernels pass two pointers instead of twenty.

Shapes: B battles, U = N + M units, agents first; `units` is [F, U] float64, one row per quantity below, `flags` is
[G, U] int64; of B battles [B, F, U] and [B, G, U].

Positions are map cells (x east, y north) and multiples of 1/4096, as in StarCraft II, so that float32 holds them
exactly. Times are game loops.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.float64]
UnitFlags = NDArray[np.int64]

# Rows of `units`.
X, Y = 0, 1
HEALTH, SHIELD, ENERGY = 2, 3, 4
"""Health 0 = dead."""
COOLDOWN = 5
"""Time until the weapon may start its next attack."""
UNIT_COLUMNS = ("x", "y", "health", "shield", "energy", "cooldown")
"""Names of the rows so far, which are the numbers that SMAC reads of a unit."""
HEADING_X, HEADING_Y = 6, 7
"""Displacement chosen in the last loop, cells per loop; zero for a standing unit."""
WINDUP = 8
"""Time until the attack in progress is released."""
RECOVERY = 9
"""Time until the backswing ends."""
IMPACT = 10
"""Time until the missile in flight, or the second blow, hits."""
SHIELD_WAIT = 11
"""Time until shields regenerate."""
ALARM = 12
"""Time for which the last hit taken still counts as recent."""
SIDE = 13
"""The side on which a unit passes what is in its way: +1 counterclockwise, -1 clockwise."""
SIDE_LOOPS = 14
"""For how long it keeps to that side."""
GOAL_X, GOAL_Y = 15, 16
"""Where a move or attack-move order leads."""
NUM_UNIT_ROWS = 17

# Rows of `flags`; all but ORDER and EXPLODING hold unit indices, or NONE.
ORDER = 0
"""One of ORDER_*."""
TARGET = 1
WINDUP_TARGET = 2
"""Target of the attack in progress."""
IMPACT_TARGET = 3
"""Target of the missile in flight, or of the second blow."""
ATTACKER = 4
"""The unit that hit this unit last."""
HEALING = 5
"""The unit that receives health from this unit."""
EXPLODING = 6
"""One of NOT_EXPLODING, ABOUT_TO_EXPLODE, EXPLODES_IN_THIS_ROUND."""
NUM_FLAG_ROWS = 7

NONE = -1
"""Kernels that run often compare with `> NONE` rather than `!= NONE`: the compiler then knows that an index is not
negative."""
NOT_EXPLODING, ABOUT_TO_EXPLODE, EXPLODES_IN_THIS_ROUND = 0, 1, 2
ORDER_STOP, ORDER_MOVE, ORDER_ATTACK, ORDER_SCRIPTED = 0, 1, 2, 3

# Rows of Workspace.floats.
MOVE_X, MOVE_Y = 0, 1
"""Displacement chosen in this loop."""
PUSH_X, PUSH_Y = 2, 3
"""Displacement by overlapping neighbors."""
SIDESTEP = 4
"""+1 or -1: the side on which a unit passes an obstacle in front of it."""
NEAR_X, NEAR_Y, NEAR_RADIUS = 5, 6, 7
"""Position and separation radius of the living units, from west to east without gaps."""
STANDING_X, STANDING_Y, STANDING_RADIUS = 8, 9, 10
"""The same of those among them that stand."""
OBSTACLE_X, OBSTACLE_Y, OBSTACLE_SQUARED, OBSTACLE_APART = 11, 12, 13, 14
"""Standing units near the unit that walks: position relative to it, squared distance, and the square of the distance
that it keeps from them."""
WEST, EAST, SOUTH, NORTH = 15, 16, 17, 18
"""Box around the living units of the agents (column 0) and of the enemies (column 1)."""
HEALTH_BEFORE, SHIELD_BEFORE = 19, 20
"""Health and shield at the start of the env step."""
NEAR_YIELD = 21
"""How easily the units of NEAR_X, NEAR_Y give way to others."""
NUM_FLOAT_ROWS = 22

# Rows of Workspace.integers.
ALIVE = 0
"""1 for units that are alive at the loop's start."""
NEAR_UNIT = 1
"""Unit index of each column of NEAR_X, NEAR_Y, NEAR_RADIUS."""
STANDING_UNIT = 2
"""The same of STANDING_X, STANDING_Y, STANDING_RADIUS."""
COUNTS = 3
"""How many units are listed: in column LIVING and in column STANDING."""
ALARMED = 4
"""1 if a unit of the agents (column 0) or of the enemies (column 1) was hit lately."""
NUM_INTEGER_ROWS = 5
LIVING, STANDING = 0, 1
SHORT_LIST = 12
"""Lists of up to so many units are searched to their end: one mispredicted branch takes as long as several units."""


class Workspace(NamedTuple):
    """Temporary arrays for the battle being stepped; they keep nothing from one env step to the next.

    Attributes:
        floats: [22, U].
        integers: [5, U]. Numbers without a sign, cast to int64 when they are read: for an index that may be negative
            the compiler adds code that counts it from the end.
    """

    floats: NDArray[np.float64]
    integers: NDArray[np.uint32]


def allocate_workspace(num_units: int) -> Workspace:
    """Temporary arrays for battles of `num_units` units."""
    return Workspace(
        floats=np.zeros((NUM_FLOAT_ROWS, num_units)),
        integers=np.zeros((NUM_INTEGER_ROWS, num_units), np.uint32),
    )
