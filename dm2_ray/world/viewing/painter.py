"""Painter: draws pictures of one scene, fast enough for animations.

Everything is drawn at twice the size and reduced at the end. Round shapes are masks that are drawn once at eight times
the size, so that their edges are smooth, and then cached; their values are quantized in steps too small to see.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dm2_ray.world.viewing.frame import FrameState
from dm2_ray.world.viewing.glyphs import ENERGY_COLOR, HEAL_COLOR, SHIELD_COLOR, TEAM_COLORS, Color, Polygon, glyph
from dm2_ray.world.viewing.scene import Scene
from dm2_ray.world.viewing.terrain_image import paint_ground

SHOT_LOOPS = 3.0
"""Game loops for which a shot is visible."""
BLAST_LOOPS = 8.0
"""Game loops for which an explosion, or a death, is visible."""

_FINER = 2
"""Scale of the drawing relative to the picture."""
_FINEST = 4
"""Scale of a mask relative to the drawing."""
_FRACTIONS = 48
_MELEE_RANGE = 1.0
_WHITE: Color = (248, 250, 252)
_DARK: Color = (12, 14, 18)


class Painter:
    """Draws frames of battles in one scene.

    Args:
        scene: Ground and units.
        size: Pixels of the picture's longer side, at least 64.

    Raises:
        ValueError: The size is smaller.
    """

    def __init__(self, scene: Scene, size: int) -> None:
        if size < 64:
            raise ValueError(f"size is {size}; a picture needs at least 64 pixels")
        west, south, east, north = scene.view
        self.scene = scene
        scale = size / max(east - west, north - south)
        # Even numbers: video codecs halve the resolution of colors.
        self.width, self.height = (max(2, 2 * round(side * scale / 2)) for side in (east - west, north - south))
        self._scale = scale * _FINER
        self._west, self._north = west, north
        self._ground = paint_ground(scene, self.width * _FINER, self.height * _FINER)
        self._radius = np.maximum(scene.radius * self._scale, 3.0)
        self._team = [TEAM_COLORS[u >= scene.num_agents] for u in range(scene.num_units)]
        # Large units last: medivacs and colossi are above the others.
        self._order = np.argsort(scene.radius, kind="stable")
        self._thin = max(1, round(0.06 * self._scale))

    def paint(self, frame: FrameState) -> Image.Image:
        """An RGB picture of `width` x `height` pixels."""
        picture = self._ground.copy()
        draw = ImageDraw.Draw(picture, "RGBA")
        x = (frame.x - self._west) * self._scale
        y = (self._north - frame.y) * self._scale
        alive = frame.health > 0
        shot_age = np.where(alive & (frame.target >= 0), self._shot_age(frame), np.inf)
        for u in np.flatnonzero(~alive).tolist():
            self._fallen(picture, draw, u, x[u], y[u], float(frame.dead_loops[u]))
        for u in np.flatnonzero(alive & (frame.target >= 0)).tolist():
            self._aim(draw, u, int(frame.target[u]), x, y, float(shot_age[u]))
        for u in self._order[alive[self._order]].tolist():
            self._unit(picture, frame, u, round(x[u]), round(y[u]))
        for u in np.flatnonzero(shot_age < SHOT_LOOPS).tolist():
            self._impact(picture, u, int(frame.target[u]), x, y, float(shot_age[u]))
        return picture.reduce(_FINER)

    def _shot_age(self, frame: FrameState) -> NDArray[np.floating]:
        """[U] game loops since the last shot, inferred from the cooldown; infinite where there was no shot."""
        period = self.scene.weapon_period
        return np.where((period > 0) & (frame.cooldown > 0), np.maximum(period - frame.cooldown, 0.0), np.inf)

    def _unit(self, picture: Image.Image, frame: FrameState, u: int, x: int, y: int) -> None:
        scene, radius, color = self.scene, float(self._radius[u]), self._team[u]
        ring = max(2.0, 0.2 * radius)

        def stamp(color: Color, mask: Image.Image) -> None:
            picture.paste(color, (x - mask.width // 2, y - mask.height // 2), mask)

        stamp(_DARK, _disc(radius + 2.0))
        stamp(_shade(color, 0.34), _disc(radius))
        stamp(_shade(color, 0.92), _disc(radius - ring))
        if scene.weapon_period[u] > 0 and frame.cooldown[u] > 0:
            waiting = _level(float(frame.cooldown[u]), float(scene.weapon_period[u]))
            stamp(_shade(color, 0.55), _wedge(radius - ring, waiting))
        stamp(_WHITE, _sign(glyph(scene.kinds[u]), radius - ring))
        stamp(_shade(color, 1.0, 0.72), _arc(radius, ring, _level(float(frame.health[u]), scene.health_max[u])))
        for amount, most, outer in (
            (frame.shield[u], scene.shield_max[u], SHIELD_COLOR),
            (frame.energy[u], scene.energy_max[u], ENERGY_COLOR),
        ):
            if most > 0 and amount > 0:
                stamp(outer, _arc(radius + 1.0 + 0.8 * ring, 0.8 * ring, _level(float(amount), float(most))))

    def _aim(
        self, draw: ImageDraw.ImageDraw, u: int, v: int, x: NDArray[np.floating], y: NDArray[np.floating], age: float
    ) -> None:
        heals = self.scene.energy_max[u] > 0
        color = HEAL_COLOR if heals else self._team[u]
        draw.line([(x[u], y[u]), (x[v], y[v])], fill=(*color, 170 if heals else 60), width=self._thin)
        if age < SHOT_LOOPS and self.scene.weapon_range[u] >= _MELEE_RANGE:
            bright = _shade(color, 1.0, 0.6)
            draw.line(
                [(x[u], y[u]), (x[v], y[v])], fill=(*bright, round(235 * (1 - age / SHOT_LOOPS))), width=2 * self._thin
            )

    def _impact(
        self, picture: Image.Image, u: int, v: int, x: NDArray[np.floating], y: NDArray[np.floating], age: float
    ) -> None:
        """A spark where the shot hits the target's rim."""
        dx, dy = x[u] - x[v], y[u] - y[v]
        share = min(1.0, self._radius[v] / max(float(np.hypot(dx, dy)), 1e-6))
        mask = _sign(_SPARK, 0.34 * self._scale, round(16 * (1 - age / SHOT_LOOPS)))
        position = (round(x[v] + share * dx) - mask.width // 2, round(y[v] + share * dy) - mask.height // 2)
        picture.paste(_shade(self._team[u], 1.0, 0.8), position, mask)

    def _fallen(
        self, picture: Image.Image, draw: ImageDraw.ImageDraw, u: int, x: float, y: float, dead_loops: float
    ) -> None:
        fresh = max(0.0, 1.0 - dead_loops / BLAST_LOOPS)
        mask = _sign(_CROSS, max(4.0, 0.75 * float(self._radius[u])), round(16 * (0.42 + 0.5 * fresh)))
        picture.paste(_shade(self._team[u], 0.8), (round(x) - mask.width // 2, round(y) - mask.height // 2), mask)
        reach = float(self.scene.blast_radius[u]) * self._scale
        if reach > 0 and fresh > 0:
            fill, rim = (*self._team[u], round(70 * fresh)), (*_shade(self._team[u], 1.0, 0.5), round(200 * fresh))
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill, outline=rim, width=self._thin)


_CROSS: tuple[Polygon, ...] = (
    ((-0.8, -0.6), (-0.6, -0.8), (0.8, 0.6), (0.6, 0.8)),
    ((-0.8, 0.6), (-0.6, 0.8), (0.8, -0.6), (0.6, -0.8)),
)
_SPARK: tuple[Polygon, ...] = (
    tuple((r * math.sin(math.pi * i / 6), r * math.cos(math.pi * i / 6)) for i, r in enumerate((1.0, 0.4) * 6)),
)


def _level(amount: float, most: float) -> int:
    """`amount / most` in steps of 1 / _FRACTIONS; a positive amount is at least one step."""
    share = min(amount / most, 1.0)
    return max(1, round(share * _FRACTIONS)) if share > 0 else 0


def _shade(color: Color, brightness: float, white: float = 0.0) -> Color:
    """The color, darkened and then mixed with white."""
    red, green, blue = (round(c * brightness * (1.0 - white) + 255 * white) for c in color)
    return red, green, blue


# Masks of round shapes, whose middle pixel is the center. Radii in pixels of the drawing.


@lru_cache(maxsize=4096)
def _arc(radius: float, thickness: float, level: int) -> Image.Image:
    mask, draw, center = _blank(radius)
    if level > 0:
        box = _box(center, radius)
        draw.pieslice(box, -90, -90 + 360 * level / _FRACTIONS, fill=255)
        draw.ellipse(_box(center, radius - thickness), fill=0)
    return mask.reduce(_FINEST)


@lru_cache(maxsize=4096)
def _wedge(radius: float, level: int) -> Image.Image:
    mask, draw, center = _blank(radius)
    if level > 0:
        draw.pieslice(_box(center, radius), -90 - 360 * level / _FRACTIONS, -90, fill=255)
    return mask.reduce(_FINEST)


@lru_cache(maxsize=256)
def _disc(radius: float) -> Image.Image:
    mask, draw, center = _blank(radius)
    draw.ellipse(_box(center, radius), fill=255)
    return mask.reduce(_FINEST)


@lru_cache(maxsize=4096)
def _sign(polygons: tuple[Polygon, ...], radius: float, sixteenths: int = 16) -> Image.Image:
    """Filled polygons with an opacity of `sixteenths` / 16."""
    mask, draw, center = _blank(radius)
    for polygon in polygons:
        draw.polygon([(center + x * radius * _FINEST, center - y * radius * _FINEST) for x, y in polygon], fill=255)
    return mask.reduce(_FINEST).point([value * sixteenths // 16 for value in range(256)])


def _blank(radius: float) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
    side = (2 * math.ceil(max(radius, 0.0) + 1) + 1) * _FINEST
    mask = Image.new("L", (side, side), 0)
    return mask, ImageDraw.Draw(mask), side / 2 - 0.5


def _box(center: float, radius: float) -> tuple[float, float, float, float]:
    r = max(radius, 0.0) * _FINEST
    return center - r, center - r, center + r, center + r
