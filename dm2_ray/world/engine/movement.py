"""Movement kernels: contacts between units, ways around standing units, push-out, terrain.

Shapes: U units of one battle; `units`, `flags` and `work` as in units.state.

All positions read are those at the start of the loop and all units move at once, so no side moves first.
"""

from __future__ import annotations

import math

from dm2_ray.arrays import Bools, Float64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.maps.terrain import is_passable
from dm2_ray.world.units.state import (
    ALIVE,
    COOLDOWN,
    COUNTS,
    HEADING_X,
    HEADING_Y,
    LIVING,
    MOVE_X,
    MOVE_Y,
    NEAR_RADIUS,
    NEAR_UNIT,
    NEAR_X,
    NEAR_Y,
    NONE,
    OBSTACLE_APART,
    OBSTACLE_SQUARED,
    OBSTACLE_X,
    OBSTACLE_Y,
    PUSH_X,
    PUSH_Y,
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
from dm2_ray.world.units.tables import LAYER, SEPARATION, SPEED, Stats

CONTACT_MARGIN = 0.06
"""Units closer than this to touching count as neighbors."""
STANDING_SHARE = 0.1
"""How easily an idle unit gives way, compared with a walking one."""
FIGHTING_SHARE = 0.01
"""The same for a unit that stands and fights: it keeps its place."""
PUSH_STIFFNESS = 0.8
"""Share of an overlap that is removed per loop: less than all, so that crowds settle instead of trembling."""
CROWDED = 0.7
"""Share of their separation below which two units' distance makes a crowd."""
RELIEF_ROUNDS = 2
"""Additional pushes per loop in a crowd."""
PASSING = 0.5
"""Sideward share of the push between two units that walk into each other."""
MAX_PUSH = 0.25
"""Maximal displacement by neighbors in one loop."""
CREEP = 0.05
"""Along a wall a unit that would move less than this in a loop counts as standing."""
POSITION_GRID = 4096.0
"""Positions per map cell and axis."""
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
def start_order(units: Units, work: Workspace) -> None:
    """Prepare the list of units that `list_units` keeps sorted from loop to loop."""
    for i in range(units.shape[1]):
        work.integers[NEAR_UNIT, i] = i
    work.integers[COUNTS, LIVING] = units.shape[1]


@kernel(inline=True, allocates=False)
def list_units(stats: Stats, units: Units, work: Workspace) -> None:
    """List the living units from west to east, and among them those that stand, for the inner loops over pairs."""
    floats = work.floats
    integers = work.integers
    count = 0
    for k in range(integers[COUNTS, LIVING]):
        i = integers[NEAR_UNIT, k]
        if not integers[ALIVE, i]:
            continue
        x = units[X, i]
        floats[PUSH_X, i] = 0.0
        floats[PUSH_Y, i] = 0.0
        # Insertion sort: units hardly change places within a loop.
        place = count
        while place > 0 and floats[NEAR_X, place - 1] > x:
            floats[NEAR_X, place] = floats[NEAR_X, place - 1]
            integers[NEAR_UNIT, place] = integers[NEAR_UNIT, place - 1]
            place -= 1
        floats[NEAR_X, place] = x
        integers[NEAR_UNIT, place] = i
        count += 1
    integers[COUNTS, LIVING] = count
    standing = 0
    for k in range(count):
        i = integers[NEAR_UNIT, k]
        floats[NEAR_Y, k] = units[Y, i]
        floats[NEAR_RADIUS, k] = stats[SEPARATION, i]
        if units[HEADING_X, i] == 0.0 and units[HEADING_Y, i] == 0.0:
            floats[STANDING_X, standing] = floats[NEAR_X, k]
            floats[STANDING_Y, standing] = floats[NEAR_Y, k]
            floats[STANDING_RADIUS, standing] = floats[NEAR_RADIUS, k]
            integers[STANDING_UNIT, standing] = i
            standing += 1
    integers[COUNTS, STANDING] = standing


@kernel(inline=True, allocates=False)
def push_apart(widest: float, stats: Stats, units: Units, work: Workspace) -> bool:
    """Find the push-out of overlapping pairs of listed units; units of different layers do not touch.

    A walking unit gives way to an idle one and both to a fighting one; two alike share the push. Units that cannot
    move do not give way. Returns whether some pair overlaps so much that it counts as a crowd.
    """
    is_crowded = False
    floats = work.floats
    integers = work.integers
    count = integers[COUNTS, LIVING]
    for first in range(count):
        x = floats[NEAR_X, first]
        y = floats[NEAR_Y, first]
        radius = floats[NEAR_RADIUS, first]
        farthest = x + radius + widest
        for second in range(first + 1, count):
            other_x = floats[NEAR_X, second]
            if other_x > farthest:
                break
            dx = other_x - x
            dy = floats[NEAR_Y, second] - y
            separation = radius + floats[NEAR_RADIUS, second]
            squared = dx * dx + dy * dy
            if squared < separation * separation:
                i = integers[NEAR_UNIT, first]
                j = integers[NEAR_UNIT, second]
                if stats[LAYER, i] == stats[LAYER, j]:
                    _push_pair(stats, units, work, i, j, dx, dy, math.sqrt(squared), separation)
                    is_crowded |= squared < (CROWDED * separation) ** 2
    return is_crowded


@kernel(inline=True, allocates=False)
def _yield(stats: Stats, units: Units, i: int) -> float:
    """How easily unit i gives way."""
    if stats[SPEED, i] == 0.0:
        return 0.0
    if units[HEADING_X, i] != 0.0 or units[HEADING_Y, i] != 0.0:
        return 1.0
    return FIGHTING_SHARE if units[COOLDOWN, i] > 0.0 else STANDING_SHARE


@kernel(allocates=False)
def _push_pair(
    stats: Stats,
    units: Units,
    work: Workspace,
    i: int,
    j: int,
    dx: float,
    dy: float,
    distance: float,
    separation: float,
) -> None:
    """Push the overlapping pair (i, j), whose centers are (dx, dy) apart, from each other."""
    floats = work.floats
    normal_x = 0.0
    normal_y = 1.0
    if distance > 1e-9:
        normal_x = dx / distance
        normal_y = dy / distance
    yield_i = _yield(stats, units, i)
    yield_j = _yield(stats, units, j)
    if yield_i + yield_j == 0.0:
        return
    push = PUSH_STIFFNESS * (separation - distance)
    push_i = push * yield_i / (yield_i + yield_j)
    push_j = push - push_i
    if (
        units[HEADING_X, i] * units[HEADING_X, j] + units[HEADING_Y, i] * units[HEADING_Y, j] < 0.0
        and units[HEADING_X, i] * normal_x + units[HEADING_Y, i] * normal_y > 0.0
    ):
        # Two that meet pass each other on the right.
        normal_x, normal_y = normal_x - PASSING * normal_y, normal_y + PASSING * normal_x
    floats[PUSH_X, i] -= push_i * normal_x
    floats[PUSH_Y, i] -= push_i * normal_y
    floats[PUSH_X, j] += push_j * normal_x
    floats[PUSH_Y, j] += push_j * normal_y


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
    for k in range(work.integers[COUNTS, STANDING]):
        to_x = floats[STANDING_X, k] - x
        if to_x < -farthest:
            continue
        if to_x > farthest:
            break
        to_y = floats[STANDING_Y, k] - y
        apart = CLEARANCE * (radius + floats[STANDING_RADIUS, k])
        sight = need + apart
        squared = to_x * to_x + to_y * to_y
        if squared < sight * sight:
            j = work.integers[STANDING_UNIT, k]
            if j != i and j != target and stats[LAYER, j] == layer:
                floats[OBSTACLE_X, count] = to_x
                floats[OBSTACLE_Y, count] = to_y
                floats[OBSTACLE_SQUARED, count] = squared
                floats[OBSTACLE_APART, count] = apart * apart
                count += 1
    return count


@kernel(allocates=False)
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


@kernel(allocates=False)
def _turn(
    floats: Float64s, count: int, straight_x: float, straight_y: float, need: float, obstacle: int, side: float
) -> tuple[float, float, float]:
    """The free direction nearest to the straight one on one side (+1: anticlockwise), and its cosine with it; BLOCKED
    as the cosine means that there is none.

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
    distance = math.sqrt(dx * dx + dy * dy)
    if distance > 1e-9:
        dx /= distance
        dy /= distance
        need = min(max(distance - reach, CONTACT_MARGIN), LOOK_AHEAD)
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


@kernel(allocates=False)
def _is_walled(passable: Bools, stats: Stats, units: Units, i: int, dx: float, dy: float) -> bool:
    """Whether a wall is close ahead of unit i in the direction (dx, dy)."""
    return not is_passable(passable, int(stats[LAYER, i]), units[X, i] + WALL_AHEAD * dx, units[Y, i] + WALL_AHEAD * dy)


@kernel(allocates=False)
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


@kernel(inline=True, allocates=False)
def _displace(passable: Bools, layer: int, units: Units, work: Workspace, i: int, move_x: float, move_y: float) -> None:
    """Displace unit i by (move_x, move_y) plus the push on it; at a wall it slides along the free axis."""
    push_x = work.floats[PUSH_X, i]
    push_y = work.floats[PUSH_Y, i]
    if push_x == 0.0 and push_y == 0.0 and move_x == 0.0 and move_y == 0.0:
        return
    push = math.sqrt(push_x * push_x + push_y * push_y)
    if push > MAX_PUSH:
        push_x *= MAX_PUSH / push
        push_y *= MAX_PUSH / push
    x = math.floor((units[X, i] + move_x + push_x) * POSITION_GRID + 0.5) / POSITION_GRID
    y = math.floor((units[Y, i] + move_y + push_y) * POSITION_GRID + 0.5) / POSITION_GRID
    goes_x = True
    goes_y = True
    if not is_passable(passable, layer, x, y):
        goes_x = is_passable(passable, layer, x, units[Y, i])
        goes_y = not goes_x and is_passable(passable, layer, units[X, i], y)
        # A unit pressed against a wall counts as standing, so that those behind do not follow it into the crowd.
        if not goes_x or abs(units[HEADING_X, i]) < CREEP:
            units[HEADING_X, i] = 0.0
        if not goes_y or abs(units[HEADING_Y, i]) < CREEP:
            units[HEADING_Y, i] = 0.0
    if goes_x:
        units[X, i] = x
    if goes_y:
        units[Y, i] = y


@kernel(inline=True, allocates=False)
def move_units(passable: Bools, stats: Stats, units: Units, work: Workspace) -> None:
    """Move every living unit by its chosen displacement plus the push of its neighbors."""
    for i in range(units.shape[1]):
        if work.integers[ALIVE, i]:
            units[HEADING_X, i] = work.floats[MOVE_X, i]
            units[HEADING_Y, i] = work.floats[MOVE_Y, i]
            _displace(passable, int(stats[LAYER, i]), units, work, i, units[HEADING_X, i], units[HEADING_Y, i])


@kernel(allocates=False)
def relieve_crowd(passable: Bools, widest: float, stats: Stats, units: Units, work: Workspace) -> None:
    """Push overlapping units apart again, without walking: in a crowd one push is not enough."""
    for _ in range(RELIEF_ROUNDS):
        list_units(stats, units, work)
        is_crowded = push_apart(widest, stats, units, work)
        for i in range(units.shape[1]):
            if work.integers[ALIVE, i]:
                _displace(passable, int(stats[LAYER, i]), units, work, i, 0.0, 0.0)
        if not is_crowded:
            break
