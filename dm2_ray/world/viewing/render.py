"""Pictures and films of battles: frames for `render_mode="rgb_array"`, GIF and MP4 files.

Shapes: B battles, U units (agents first), h x w pixels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dm2_ray.files import write_atomically
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.animation import Animation, gif_bytes, mp4_bytes
from dm2_ray.world.viewing.battle_recording import BattleRecording
from dm2_ray.world.viewing.frame import FrameState
from dm2_ray.world.viewing.painter import Painter
from dm2_ray.world.viewing.scene import Scene

if TYPE_CHECKING:
    from dm2_ray.world.battles.units_view import UnitsView


def draw(map_spec: MapSpec, units: UnitsView, column: int = 0, *, size: int = 640) -> NDArray[np.uint8]:
    """One picture of a battle from above, north up: agents blue, enemies orange.

    A disc has its unit's true radius; the ring on its rim is health, the one around it shields (or a medivac's energy),
    the dark wedge in it is what is left of the weapon's cooldown. Lines lead to targets, crosses are the dead.

    Args:
        map_spec: the battle's map.
        units: of battles side by side.
        column: which of them.
        size: pixels of the longer side, at least 64.

    Returns:
        [h, w, 3] uint8, h and w even.
    """
    return np.asarray(_painter(map_spec, size).paint(FrameState.from_units(units, column))).copy()


def write_gif(
    recording: BattleRecording,
    path: str | Path,
    *,
    fps: float = 12.5,
    speed: float = 1.0,
    size: int = 480,
    hold_s: float = 2.0,
    close_up: bool = False,
    colors: int = 64,
) -> None:
    """A battle as an endless GIF; units move smoothly between env steps.

    Args:
        recording: the battle.
        path: the file; it appears whole or not at all.
        fps: pictures a second.
        speed: 1 is the game's speed "Faster": 0.357 s for an env step of 8 game loops.
        size: pixels of the longer side of the battlefield.
        hold_s: seconds for which the end is shown.
        close_up: show only the part of the battlefield where units come.
        colors: at most 256; fewer make a smaller file.
    """
    animation = Animation(recording, fps=fps, speed=speed, size=size, hold_s=hold_s, close_up=close_up)
    write_atomically(Path(path), gif_bytes(animation, colors))


def write_mp4(
    recording: BattleRecording,
    path: str | Path,
    *,
    fps: float = 30.0,
    speed: float = 1.0,
    size: int = 960,
    hold_s: float = 2.0,
    close_up: bool = False,
) -> None:
    """A battle as an H.264 video; arguments as in `write_gif`.

    Raises MissingPackageError without imageio-ffmpeg (`pip install 'dm2-ray[view]'`).
    """
    animation = Animation(recording, fps=fps, speed=speed, size=size, hold_s=hold_s, close_up=close_up)
    write_atomically(Path(path), mp4_bytes(animation))


@lru_cache(maxsize=8)
def _painter(map_spec: MapSpec, size: int) -> Painter:
    return Painter(Scene.from_map(map_spec), size)
