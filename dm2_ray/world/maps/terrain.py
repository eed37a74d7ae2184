"""The cells in which units may stand, and paths around obstacles.

Shapes: C walkable cells; grids are [X, Y] cells, indexed [x, y]; L = 3 layers of movement.

Paths lead from cell to cell: Dijkstra over the eight neighbors (scipy), then straightened. A unit in cell c on its way
to cell g walks in a straight line to the center of waypoint[c, g], which is possible from every position within c.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.errors import UserError
from dm2_ray.world.compile_cache import kernel

GROUND, CLIFF_WALKER, AIR = 0, 1, 2
"""Layers of movement: units touch only others of their own layer. Colossi step over units and cliffs."""
NUM_LAYERS = 3

MAX_CLIFF_WIDTH = 3
"""Colossi walk over cliffs up to this many cells wide; wider ones are the edge of the arena."""
MAX_CELLS_WITH_OBSTACLES = 4096
"""Paths are tabulated for every pair of walkable cells."""

_CORNER = 0.5 - 1e-3
"""Offset of a cell's corners from its center, moved slightly inside the cell."""
_NEIGHBORS = ((1, 0), (0, 1), (1, 1), (1, -1))


class TerrainError(UserError, ValueError):
    """A terrain on which the engine cannot play."""


class Terrain(NamedTuple):
    """Constants of a map's ground.

    Attributes:
        passable: [L, X, Y] cells in which the center of a unit of each layer may be.
        has_obstacles: Whether some path between walkable cells is not straight; if not, the tables below are empty.
        cell_number: [X, Y] number of a walkable cell, -1 elsewhere.
        cell_centers: [C, 2].
        waypoint: [C, C] next cell in a straight line on the path from the row's cell to the column's; -1 if there is no
            path.
    """

    passable: Bools
    has_obstacles: bool
    cell_number: Int64s
    cell_centers: Float64s
    waypoint: NDArray[np.int16]


def build_terrain(walkable: Bools) -> Terrain:
    """Terrain of a map from its walkable cells [X, Y].

    Raises:
        TerrainError: The map has obstacles and more than MAX_CELLS_WITH_OBSTACLES walkable cells.
    """
    return _build(walkable.shape, np.ascontiguousarray(walkable, dtype=np.bool_).tobytes())


@lru_cache(maxsize=32)
def _build(shape: tuple[int, int], cells: bytes) -> Terrain:
    walkable = np.frombuffer(cells, dtype=np.bool_).reshape(shape).copy()
    passable = np.stack([walkable, _flyable_cells(walkable), np.ones_like(walkable)])
    open_ground = Terrain(
        passable=passable,
        has_obstacles=False,
        cell_number=np.full((1, 1), -1, np.int64),
        cell_centers=np.zeros((1, 2)),
        waypoint=np.full((1, 1), -1, np.int16),
    )
    occupied = np.argwhere(walkable)
    if len(occupied) == 0 or walkable[tuple(slice(lo, hi + 1) for lo, hi in _box(occupied))].all():
        return open_ground
    if len(occupied) > MAX_CELLS_WITH_OBSTACLES:
        raise TerrainError(
            f"terrain has {len(occupied)} walkable cells and obstacles; the embedded engine finds paths among at most "
            f"{MAX_CELLS_WITH_OBSTACLES}"
        )
    number = np.full(shape, -1, np.int64)
    number[walkable] = np.arange(len(occupied))
    distance, onward = _shortest_paths(number)
    waypoint = np.full(onward.shape, -1, np.int16)
    _straighten_path(number, occupied, np.argsort(distance, axis=1, kind="stable"), onward, waypoint)
    goals = np.broadcast_to(np.arange(len(occupied)), waypoint.shape)
    if np.array_equal(np.where(waypoint < 0, goals, waypoint), goals):
        return open_ground
    # argwhere gives columns: in that layout the kernels would be compiled once more for maps with obstacles.
    centers = np.ascontiguousarray(occupied, dtype=np.float64) + 0.5
    return open_ground._replace(has_obstacles=True, cell_number=number, cell_centers=centers, waypoint=waypoint)


def _box(cells: Int64s) -> list[tuple[int, int]]:
    return [(int(column.min()), int(column.max())) for column in cells.T]


def _flyable_cells(walkable: Bools) -> Bools:
    """Walkable cells and the narrow cliffs between them."""
    crossed = walkable.copy()
    for axis in (0, 1):
        ground = np.moveaxis(walkable, axis, 0)
        crossing = np.moveaxis(crossed, axis, 0)
        for width in range(1, MAX_CLIFF_WIDTH + 1):
            for first in range(1, len(ground) - width):
                spans = ground[first - 1] & ground[first + width] & ~ground[first : first + width].any(axis=0)
                crossing[first : first + width] |= spans
    return crossed


def _shortest_paths(number: Int64s) -> tuple[Float64s, Int64s]:
    """Distances [C, C] from each goal (row) and the next cell toward it (negative: none). Paths do not cut corners."""
    # scipy takes 0.2 s to import, and only maps with obstacles need it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    size_x, size_y = number.shape
    starts, ends, lengths = [], [], []
    for dx, dy in _NEIGHBORS:
        here = number[: size_x - dx, max(0, -dy) : size_y - max(0, dy)]
        there = number[dx:, max(0, dy) : size_y + min(0, dy)]
        joined = (here >= 0) & (there >= 0)
        if dx and dy:
            joined &= number[dx:, max(0, -dy) : size_y - max(0, dy)] >= 0
            joined &= number[: size_x - dx, max(0, dy) : size_y + min(0, dy)] >= 0
        starts.append(here[joined])
        ends.append(there[joined])
        lengths.append(np.full(int(joined.sum()), np.hypot(dx, dy)))
    count = int(number.max()) + 1
    edges = (np.concatenate(starts), np.concatenate(ends))
    graph = coo_array((np.concatenate(lengths), edges), shape=(count, count)).tocsr()
    distance, onward = dijkstra(graph, directed=False, return_predecessors=True)
    return distance, onward.astype(np.int64)


@kernel(allocates=False)
def _is_clear(number: Int64s, from_x: float, from_y: float, to_x: float, to_y: float) -> bool:
    """Whether all cells that a segment touches are walkable; a corner passed exactly touches both cells beside it."""
    cell_x = int(from_x)
    cell_y = int(from_y)
    dx = to_x - from_x
    dy = to_y - from_y
    step_x = 1 if dx > 0.0 else -1
    step_y = 1 if dy > 0.0 else -1
    # Fractions of the segment up to the next column and row of cells, and per column and row.
    per_x = abs(1.0 / dx) if dx != 0.0 else np.inf
    per_y = abs(1.0 / dy) if dy != 0.0 else np.inf
    next_x = ((cell_x + 1 - from_x) if dx > 0.0 else (from_x - cell_x)) * per_x if dx != 0.0 else np.inf
    next_y = ((cell_y + 1 - from_y) if dy > 0.0 else (from_y - cell_y)) * per_y if dy != 0.0 else np.inf
    while True:
        if number[cell_x, cell_y] < 0:
            return False
        if min(next_x, next_y) >= 1.0:
            return True
        if abs(next_x - next_y) < 1e-9:
            if number[cell_x + step_x, cell_y] < 0 or number[cell_x, cell_y + step_y] < 0:
                return False
            cell_x += step_x
            cell_y += step_y
            next_x += per_x
            next_y += per_y
        elif next_x < next_y:
            cell_x += step_x
            next_x += per_x
        else:
            cell_y += step_y
            next_y += per_y


@kernel(allocates=False)
def _sees(number: Int64s, cells: Int64s, a: int, b: int) -> bool:
    """Whether every straight line from a point in cell a to the same point in cell b stays on walkable cells."""
    for corner in range(4):
        x = 0.5 + (_CORNER if corner % 2 else -_CORNER)
        y = 0.5 + (_CORNER if corner // 2 else -_CORNER)
        if not _is_clear(number, cells[a, 0] + x, cells[a, 1] + y, cells[b, 0] + x, cells[b, 1] + y):
            return False
    return True


@kernel(allocates=False)
def _straighten_path(
    number: Int64s, cells: Int64s, nearest_first: Int64s, onward: Int64s, waypoint: NDArray[np.int16]
) -> None:
    """Fill `waypoint` [C, C]: the waypoint of the next cell on the path to the goal if a straight line leads there,
    otherwise the next cell itself."""
    for goal in range(nearest_first.shape[0]):
        waypoint[goal, goal] = goal
        for rank in range(nearest_first.shape[1]):
            cell = nearest_first[goal, rank]
            following = onward[goal, cell]
            if cell == goal or following < 0:
                continue
            far = waypoint[following, goal]
            waypoint[cell, goal] = far if _sees(number, cells, cell, far) else following


@kernel(allocates=False)
def is_passable(passable: Bools, layer: int, x: float, y: float) -> bool:
    """Whether the center of a unit of a layer may be at (x, y)."""
    if x < 0.0 or y < 0.0:
        return False
    cell_x = int(x)
    cell_y = int(y)
    # That they are not negative is tested once more for the compiler's sake: see units.state.NONE.
    return 0 <= cell_x < passable.shape[1] and 0 <= cell_y < passable.shape[2] and passable[layer, cell_x, cell_y]


@kernel(inline=True, allocates=False)
def next_waypoint(terrain: Terrain, x: float, y: float, goal_x: float, goal_y: float) -> tuple[float, float]:
    """The point to which a ground unit at (x, y) walks in a straight line on its way to a goal: the goal itself if
    no obstacle is in between, or if there is no path."""
    point_x = goal_x
    point_y = goal_y
    size_x, size_y = terrain.cell_number.shape
    if 0.0 <= goal_x < size_x and 0.0 <= goal_y < size_y:
        here = terrain.cell_number[int(x), int(y)]
        goal = terrain.cell_number[int(goal_x), int(goal_y)]
        if here >= 0 and goal >= 0:
            waypoint = terrain.waypoint[here, goal]
            if waypoint >= 0 and waypoint != goal:
                point_x = terrain.cell_centers[waypoint, 0]
                point_y = terrain.cell_centers[waypoint, 1]
    return point_x, point_y
