"""Pictures of battles for `render_mode="rgb_array"`, and GIF and MP4 files.

Shapes: B battles, U units (agents first), h x w pixels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dm2_ray.files import write_atomically
from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.animation import Animation, gif_bytes, mp4_bytes
from dm2_ray.world.viewing.frame import FrameState
from dm2_ray.world.viewing.painter import Painter
from dm2_ray.world.viewing.scene import Scene


def draw(map_spec: MapSpec, units: UnitsView, column: int = 0, *, size: int = 640) -> NDArray[np.uint8]:
    """One picture of a battle from above, north up: agents blue, enemies orange.

    Each unit is a disc of its true radius. The ring on the rim shows health, the ring around it shields (or a medivac's
    energy), the dark wedge the rest of the weapon's cooldown. Lines lead to targets; crosses are dead units.

    Args:
        map_spec: The battle's map.
        units: Units of B battles.
        column: Index of the battle to draw.
        size: Pixels of the longer side, at least 64.

    Returns:
        [h, w, 3] uint8, h and w even.
    """
    return np.asarray(_painter(map_spec, size).paint(FrameState.from_units(units, column))).copy()


def write_gif(animation: Animation, path: str | Path, *, colors: int = 64) -> None:
    """Write a battle as a GIF in an endless loop. The file is written completely or not at all.

    Args:
        animation: The battle.
        path: The file.
        colors: At most 256; fewer make a smaller file.
    """
    write_atomically(Path(path), gif_bytes(animation, colors))


def write_mp4(animation: Animation, path: str | Path) -> None:
    """Write a battle as an H.264 video. The file is written completely or not at all.

    Raises:
        MissingPackageError: imageio-ffmpeg is not installed (`pip install 'dm2-ray[view]'`).
    """
    write_atomically(Path(path), mp4_bytes(animation))


@lru_cache(maxsize=8)
def _painter(map_spec: MapSpec, size: int) -> Painter:
    return Painter(Scene.from_map(map_spec), size)
