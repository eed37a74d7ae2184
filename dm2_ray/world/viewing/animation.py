"""Animation: a recorded battle as a sequence of pictures with a line of text below, and its GIF and MP4 encodings.

Playback speed 1 is the game's speed "Faster", at which people play and watch StarCraft II: 22.4 game loops a second, so
that an env step of 8 loops takes 0.357 s. (Speed 0.714 is "Normal", 0.5 s a step.)
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dm2_ray.errors import UserError
from dm2_ray.world.viewing.battle_recording import BattleRecording
from dm2_ray.world.viewing.glyphs import TEAM_COLORS
from dm2_ray.world.viewing.painter import Painter

LOOPS_PER_SECOND = 22.4

OUTCOME_TEXTS = {
    "won": "Victory",
    "lost": "Defeat",
    "draw": "Draw",
    "time limit": "Time limit",
    "unfinished": "Unfinished",
}

_CLOSE_UP_MARGIN = 2.0
"""Cells around the outermost units' centers."""
_INK, _MUTED, _BAR = (236, 240, 245), (150, 160, 172), (10, 12, 15)


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class Animation:
    """Pictures of a battle at a constant rate.

    Args:
        recording: The battle.
        fps: Pictures per second.
        speed: 1 is the game's speed "Faster": 0.357 s for an env step of 8 game loops.
        size: Pixels of the longer side of the battlefield.
        hold_s: Seconds for which the end is shown.
        close_up: Show only the part of the battlefield that units reach.

    Raises:
        ValueError: A number is not positive, or the size is too small.
    """

    def __init__(
        self,
        recording: BattleRecording,
        *,
        fps: float = 12.5,
        speed: float = 1.0,
        size: int = 480,
        hold_s: float = 2.0,
        close_up: bool = False,
    ) -> None:
        if not (fps > 0 and speed > 0 and hold_s >= 0):
            raise ValueError(f"fps is {fps}, speed {speed}, hold_s {hold_s}; they must be positive")
        self.recording = recording
        self.fps = fps
        scene = replace(recording.scene, view=close_up_view(recording)) if close_up else recording.scene
        self._painter = Painter(scene, size)
        self._bar_height = max(16, 2 * round(size / 48))
        steps_per_picture = speed * LOOPS_PER_SECOND / recording.step_loops / fps
        moving = np.arange(0.0, recording.num_steps, steps_per_picture)
        self._times = np.concatenate([moving, np.full(max(1, round(hold_s * fps)), float(recording.num_steps))])

    def __len__(self) -> int:
        return len(self._times)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, both even."""
        return self._painter.width, self._painter.height + self._bar_height

    def __iter__(self) -> Iterator[Image.Image]:
        last: tuple[float, Image.Image] | None = None
        for time in self._times.tolist():
            if last is None or last[0] != time:
                last = (time, self._picture(time))
            yield last[1]

    def _picture(self, time: float) -> Image.Image:
        recording = self.recording
        frame = recording.frame(time)
        field = self._painter.paint(frame)
        alive = frame.health > 0
        agents = recording.scene.num_agents
        is_over = time >= recording.num_steps
        text = OUTCOME_TEXTS[recording.outcome] if is_over else f"step {int(time)} of {recording.num_steps}"
        picture = Image.new("RGB", self.size)
        picture.paste(field, (0, 0))
        bar = _bar(
            field.width, self._bar_height, recording.scene.map_name, text, is_over,
            int(alive[:agents].sum()), int(alive[agents:].sum()),
        )  # fmt: skip
        picture.paste(bar, (0, field.height))
        return picture


def close_up_view(recording: BattleRecording) -> tuple[float, float, float, float]:
    """The part of the scene's view that units reach: west, south, east, north edge in cells."""
    alive = recording.health > 0
    x, y = recording.x[alive], recording.y[alive]
    if x.size == 0:
        return recording.scene.view
    west, south, east, north = recording.scene.view
    rim = _CLOSE_UP_MARGIN
    return (
        max(west, math.floor(x.min() - rim)), max(south, math.floor(y.min() - rim)),
        min(east, math.ceil(x.max() + rim)), min(north, math.ceil(y.max() + rim)),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _bar(width: int, height: int, title: str, text: str, is_loud: bool, agents: int, enemies: int) -> Image.Image:
    """The line below the battlefield: the map, the step or the outcome, the number of living units of each side."""
    finer = 3
    bar = Image.new("RGB", (width * finer, height * finer), _BAR)
    draw = ImageDraw.Draw(bar)
    unit = height * finer
    font = _font(round(0.6 * unit))
    middle, right = unit / 2, width * finer - 0.5 * unit
    draw.text((0.5 * unit, middle), title, _INK, font, anchor="lm")
    draw.text((width * finer / 2, middle), text, _INK if is_loud else _MUTED, font, anchor="mm")
    for color, count in ((TEAM_COLORS[1], enemies), (TEAM_COLORS[0], agents)):
        draw.text((right, middle), str(count), _INK, font, anchor="rm")
        right -= font.getlength("00") + 0.45 * unit
        radius = 0.22 * unit
        draw.ellipse((right - radius, middle - radius, right + radius, middle + radius), fill=color)
        right -= 0.8 * unit
    return bar.reduce(finer)


def gif_bytes(animation: Animation, colors: int = 64) -> bytes:
    """The animation as a GIF in an endless loop, with at most 256 colors."""
    pictures = list(animation)
    palette = _palette(pictures, colors)
    frames: list[Image.Image] = []
    shown_ms: list[int] = []
    start = 0
    for index, picture in enumerate(pictures):
        # GIF measures time in hundredths of a second; rounding errors do not add up.
        end = round((index + 1) * 100 / animation.fps)
        if index > 0 and picture is pictures[index - 1]:
            shown_ms[-1] += 10 * (end - start)
        else:
            frames.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
            shown_ms.append(10 * (end - start))
        start = end
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=shown_ms, loop=0, optimize=False, disposal=1
    )
    return file.getvalue()


def mp4_bytes(animation: Animation) -> bytes:
    """The animation as an H.264 video that every browser plays.

    Raises:
        MissingPackageError: imageio-ffmpeg is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingPackageError("MP4 files need the package imageio-ffmpeg: pip install 'dm2-ray[view]'") from error
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(path), animation.size, fps=animation.fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2,
            output_params=["-crf", "20", "-movflags", "+faststart"],
        )  # fmt: skip
        writer.send(None)
        for picture in animation:
            writer.send(picture.tobytes())
        writer.close()
        return path.read_bytes()


def _palette(pictures: list[Image.Image], colors: int) -> Image.Image:
    """One palette for all pictures. Most pixels are ground, in few colors; hence pixels that change from picture to
    picture get twice the weight."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, 12).astype(np.int64))
    sample = np.stack([np.asarray(pictures[i]) for i in chosen])
    changing = sample[:, (sample != sample[:1]).any((0, 3))].reshape(-1, 3)
    still = sample[0].reshape(-1, 3)
    still = still[:: max(1, 2 * len(still) // max(len(changing), 1))]
    pixels = np.concatenate([changing, still])
    return Image.fromarray(pixels[None]).quantize(colors, method=Image.Quantize.MEDIANCUT)


@lru_cache(maxsize=8)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font. Without FreeType, Pillow returns a bitmap font of a fixed size instead.
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(8, pixels)))
