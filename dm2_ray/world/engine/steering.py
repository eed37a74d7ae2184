"""Steering kernels: the direction in which a unit walks round those that stand in its way.

Shapes: U units of one battle; `units` and `work` as in units.state.

Only standing units are obstacles: what walks will be elsewhere, and overlaps are pushed apart (engine.movement).
"""

from __future__ import annotations

import math

import numpy as np

from dm2_ray.arrays import Bools, Float64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.maps.terrain import is_passable
from dm2_ray.world.units.state import (
    COUNTS,
    MOVE_X,
    MOVE_Y,
    NONE,
    OBSTACLE_APART,
    OBSTACLE_SQUARED,
    OBSTACLE_X,
    OBSTACLE_Y,
    SHORT_LIST,
    SIDE,
    SIDE_LOOPS,
    SIDESTEP,
    STANDING,
    STANDING_RADIUS,
    STANDING_UNIT,
    STANDING_X,
    STANDING_Y,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import LAYER, SEPARATION, Stats

LEAST_LOOK_AHEAD = 0.06
"""A walking unit looks at least this far ahead, however near its target's range is."""
LOOK_AHEAD = 1.5
"""A walking unit steers round units that stand within this distance on its way."""
CLEARANCE = 0.95
"""Share of their separation at which a walking unit passes a standing one: a little squeezing is allowed."""
GRAZING = 0.01
"""Cosine up to which a unit that touches is passed without a turn."""
KEEP_SIDE_LOOPS = 16.0
"""A unit that has begun to pass others on one side keeps to it until its way has been free for so long."""
MAX_TURNS = 10
"""Units that a unit can steer round at once; with more in the way it stands."""
BACKWARD = -0.94
"""Cosine of the largest turn away from the goal (160 degrees); a unit that would have to turn more stands."""
BLOCKED = -2.0
"""Instead of a turn's cosine: there is no free direction."""
TANGENT_SLACK = 1.0001
"""A tangent keeps this much more than the clearance, lest rounding turns it again."""
WALL_AHEAD = 0.5
"""A turn that leads into a wall within this distance is no way."""


@kernel(inline=True, allocates=False)
def _list_obstacles(
    widest: float, stats: Stats, units: Units, work: Workspace, i: int, target: int, need: float
) -> int:
    """List the standing units, other than its target, that unit i could meet within `need` cells, relative to it;
    returns how many there are."""
    floats = work.floats
    x = units[X, i]
    y = units[Y, i]
    radius = stats[SEPARATION, i]
    layer = stats[LAYER, i]
    farthest = need + radius + widest
    count = 0
    standing = int(np.int64(work.integers[COUNTS, STANDING]))
    first = 0
    is_long = standing > SHORT_LIST
    if is_long:
        while first < standing and floats[STANDING_X, first] - x < -farthest:
            first += 1
    for k in range(first, standing):
        to_x = floats[STANDING_X, k] - x
        if is_long and to_x > farthest:
            break
        to_y = floats[STANDING_Y, k] - y
        apart = CLEARANCE * (radius + floats[STANDING_RADIUS, k])
        sight = need + apart
        squared = to_x * to_x + to_y * to_y
        if squared < sight * sight:
            j = int(np.int64(work.integers[STANDING_UNIT, k]))
            if j != i and j != target and stats[LAYER, j] == layer:
                floats[OBSTACLE_X, count] = to_x
                floats[OBSTACLE_Y, count] = to_y
                floats[OBSTACLE_SQUARED, count] = squared
                floats[OBSTACLE_APART, count] = apart * apart
                count += 1
    return count


@kernel(llvm_inline=True, allocates=False)
def _first_in_way(floats: Float64s, count: int, dx: float, dy: float, need: float) -> int:
    """Number of the listed obstacle that a unit would meet first within `need` cells in the direction (dx, dy), or
    NONE."""
    best = NONE
    best_entry = need
    for k in range(count):
        along = floats[OBSTACLE_X, k] * dx + floats[OBSTACLE_Y, k] * dy
        if along <= 0.0:
            continue
        squared = floats[OBSTACLE_SQUARED, k]
        apart_squared = floats[OBSTACLE_APART, k]
        inside = apart_squared - squared + along * along
        if inside <= 0.0:
            continue
        if squared > apart_squared:
            entry = along - math.sqrt(inside)
        elif along * along > GRAZING * GRAZING * squared:
            entry = -along
        else:
            continue
        if entry < best_entry:
            best = k
            best_entry = entry
    return best


@kernel(llvm_inline=True, allocates=False)
def _turn(
    floats: Float64s, count: int, straight_x: float, straight_y: float, need: float, obstacle: int, side: float
) -> tuple[float, float, float]:
    """The free direction nearest to the straight one on one side (+1: counterclockwise), and its cosine with that one;
    BLOCKED as the cosine means that there is none.

    The direction turns along the tangent of what is met first until nothing is.
    """
    for _ in range(MAX_TURNS):
        to_x = floats[OBSTACLE_X, obstacle]
        to_y = floats[OBSTACLE_Y, obstacle]
        squared = floats[OBSTACLE_SQUARED, obstacle]
        if squared < 1e-18:
            break
        distance = math.sqrt(squared)
        sine = min(math.sqrt(floats[OBSTACLE_APART, obstacle]) * TANGENT_SLACK / distance, 1.0)
        cosine = math.sqrt(1.0 - sine * sine)
        to_x /= distance
        to_y /= distance
        dx = to_x * cosine - side * to_y * sine
        dy = to_y * cosine + side * to_x * sine
        deviation = dx * straight_x + dy * straight_y
        turned = side * (straight_x * dy - straight_y * dx)
        if deviation < BACKWARD or (turned < -1e-9 and deviation < 0.5):
            break
        obstacle = _first_in_way(floats, count, dx, dy, need)
        if obstacle == NONE:
            return dx, dy, deviation
    return straight_x, straight_y, BLOCKED


@kernel(inline=True, allocates=False)
def walk_toward(
    passable: Bools,
    widest: float,
    stats: Stats,
    units: Units,
    work: Workspace,
    i: int,
    speed: float,
    goal_x: float,
    goal_y: float,
    reach: float,
    target: int,
) -> None:
    """Choose unit i's displacement toward a point, or toward unit `target` until it is within `reach`.

    The unit walks straight on if no standing unit is in the way within sight, otherwise in the free direction nearest
    to the straight one. Once it has begun to pass on one side it keeps to that side, so that it flows round a crowd
    instead of trembling before it. Without a free direction it stands.
    """
    floats = work.floats
    dx = goal_x - units[X, i]
    dy = goal_y - units[Y, i]
    squared = dx * dx + dy * dy
    distance = math.sqrt(squared)
    if distance > 1e-9:
        dx /= distance
        dy /= distance
        need = LOOK_AHEAD
        # Far from its goal, as most walking units are, a unit does not wait for the slow root. The millionth is there
        # for rounding.
        far = reach + LOOK_AHEAD + 1e-6
        if squared < far * far:
            need = min(max(distance - reach, LEAST_LOOK_AHEAD), LOOK_AHEAD)
        free = 1.0
        count = _list_obstacles(widest, stats, units, work, i, target, need)
        obstacle = _first_in_way(floats, count, dx, dy, need) if count > 0 else NONE
        if obstacle == NONE:
            units[SIDE_LOOPS, i] = max(units[SIDE_LOOPS, i] - 1.0, 0.0)
        else:
            dx, dy, free = _steer(
                passable, stats, units, work, count, i, goal_x, goal_y, dx, dy, need, obstacle, target
            )
        if free != BLOCKED:
            step = min(speed, distance)
            floats[MOVE_X, i] = dx * step
            floats[MOVE_Y, i] = dy * step


@kernel(llvm_inline=True, allocates=False)
def _is_walled(passable: Bools, stats: Stats, units: Units, i: int, dx: float, dy: float) -> bool:
    """Whether a wall is close ahead of unit i in the direction (dx, dy)."""
    return not is_passable(passable, int(stats[LAYER, i]), units[X, i] + WALL_AHEAD * dx, units[Y, i] + WALL_AHEAD * dy)


@kernel(llvm_inline=True, allocates=False)
def _steer(
    passable: Bools,
    stats: Stats,
    units: Units,
    work: Workspace,
    count: int,
    i: int,
    goal_x: float,
    goal_y: float,
    straight_x: float,
    straight_y: float,
    need: float,
    obstacle: int,
    target: int,
) -> tuple[float, float, float]:
    """Unit i's direction round the listed obstacles, the first of which is `obstacle`, and how free it is (BLOCKED: not
    at all)."""
    floats = work.floats
    if target == NONE:
        # Whoever arrives at a point where somebody stands has arrived.
        off_x = units[X, i] + floats[OBSTACLE_X, obstacle] - goal_x
        off_y = units[Y, i] + floats[OBSTACLE_Y, obstacle] - goal_y
        apart_squared = floats[OBSTACLE_APART, obstacle]
        if off_x * off_x + off_y * off_y < apart_squared and need * need < 4.0 * apart_squared:
            return straight_x, straight_y, BLOCKED
    side = units[SIDE, i]
    if units[SIDE_LOOPS, i] > 0.0:
        dx, dy, free = _turn(floats, count, straight_x, straight_y, need, obstacle, side)
        if free != BLOCKED and not _is_walled(passable, stats, units, i, dx, dy):
            units[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS
            return dx, dy, free
    best_x = straight_x
    best_y = straight_y
    best = BLOCKED
    for turn_side in (floats[SIDESTEP, i], -floats[SIDESTEP, i]):
        dx, dy, free = _turn(floats, count, straight_x, straight_y, need, obstacle, turn_side)
        if free > best + 1e-6 and not _is_walled(passable, stats, units, i, dx, dy):
            best_x = dx
            best_y = dy
            best = free
            side = turn_side
    if best != BLOCKED:
        units[SIDE, i] = side
        units[SIDE_LOOPS, i] = KEEP_SIDE_LOOPS
    return best_x, best_y, best
