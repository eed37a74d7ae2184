"""The ground of a battle as a picture: shaded heights, cliffs, a grid of map cells.

Shapes: W x H map cells, h x w pixels (row 0 is north).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dm2_ray.world.viewing.scene import Scene

CLIFF_LEVEL = 2.0
"""Height of one cliff level in the maps."""

_VOID, _FLOOR, _PLATEAU = (np.array(color, dtype=np.float64) for color in ((15, 17, 21), (43, 49, 57), (70, 77, 86)))
_EDGE = (128, 142, 158, 200)
_GRID = (255, 255, 255, 9)


def paint_ground(scene: Scene, width: int, height: int) -> Image.Image:
    """An RGB picture of the scene's view, `width` x `height` pixels."""
    west, south, east, north = scene.view
    x = west + (np.arange(width) + 0.5) * (east - west) / width
    y = north - (np.arange(height) + 0.5) * (north - south) / height
    levels = (_heights(scene, x, y) - _floor_height(scene)) / CLIFF_LEVEL
    up = np.clip(levels, 0.0, 1.5)[..., None]
    down = np.clip(-levels, 0.0, 1.0)[..., None]
    colors = _FLOOR + up * (_PLATEAU - _FLOOR) + down * (_VOID - _FLOOR)
    # Light comes from the northwest.
    slope_y, slope_x = np.gradient(levels, -(north - south) / height, (east - west) / width)
    slope: NDArray[np.float64] = np.asarray(slope_y - slope_x)
    colors += 13.0 * np.clip(slope, -2.0, 2.0)[..., None] * (1.0 - down)
    off_limits = ~_sampled(scene.ground, x, y)
    colors[off_limits] = colors[off_limits] * 0.45 + 0.2 * _VOID
    picture = Image.fromarray(np.clip(np.round(colors), 0, 255).astype(np.uint8), "RGB")
    _draw_lines(picture, scene, (width / (east - west), height / (north - south)))
    return picture


def _floor_height(scene: Scene) -> float:
    """The most frequent height of the ground."""
    corners = scene.terrain_height[:-1, :-1][scene.ground]
    if corners.size == 0:
        return float(np.median(scene.terrain_height))
    values, counts = np.unique(np.round(corners), return_counts=True)
    return float(values[counts.argmax()])


def _heights(scene: Scene, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """[h, w] heights, interpolated linearly between the cells' corners; outside the map those of its edge."""
    corners = scene.terrain_height

    def split(values: NDArray[np.float64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        inside = np.clip(values, 0.0, cells)
        first = np.minimum(inside.astype(np.int64), cells - 1)
        return first, inside - first

    (i, u), (j, v) = split(x, corners.shape[0] - 1), split(y, corners.shape[1] - 1)
    i, u, j, v = i[None, :], u[None, :], j[:, None], v[:, None]
    lower = corners[i, j] * (1 - u) + corners[i + 1, j] * u
    upper = corners[i, j + 1] * (1 - u) + corners[i + 1, j + 1] * u
    heights: NDArray[np.float64] = lower * (1 - v) + upper * v
    return heights


def _sampled(cells: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[h, w] values of the cells under the pixels, False outside the map."""
    columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    known_x, known_y = (0 <= columns) & (columns < cells.shape[0]), (0 <= rows) & (rows < cells.shape[1])
    found = cells[np.clip(columns, 0, cells.shape[0] - 1)[None, :], np.clip(rows, 0, cells.shape[1] - 1)[:, None]]
    return found & known_x[None, :] & known_y[:, None]


def _draw_lines(picture: Image.Image, scene: Scene, scale: tuple[float, float]) -> None:
    west, _, _, north = scene.view
    draw = ImageDraw.Draw(picture, "RGBA")

    def line(x0: int, y0: int, x1: int, y1: int, color: tuple[int, ...], thickness: int) -> None:
        ends = [((x - west) * scale[0], (north - y) * scale[1]) for x, y in ((x0, y0), (x1, y1))]
        draw.line(ends, fill=color, width=thickness)

    thickness = max(1, round(0.09 * scale[0]))
    padded = np.pad(scene.ground, 1)
    for grid, color, width in ((True, _GRID, max(1, thickness // 2)), (False, _EDGE, thickness)):
        # Between cells (x - 1, y) and (x, y), and between (x, y - 1) and (x, y).
        for axis in (0, 1):
            first, second = (padded[:-1], padded[1:]) if axis == 0 else (padded[:, :-1], padded[:, 1:])
            for i, j in np.argwhere(first & second if grid else first != second).tolist():
                if axis == 0:
                    line(i, j - 1, i, j, color, width)
                else:
                    line(i - 1, j, i, j, color, width)
