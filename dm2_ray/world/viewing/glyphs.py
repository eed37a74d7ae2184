"""The symbols of the unit kinds, and the colors: shared by pictures and the HTML replay.

A glyph is a list of polygons in a disc of radius 1, x to the right and y up.
"""

from __future__ import annotations

from math import cos, pi, sin

Polygon = tuple[tuple[float, float], ...]
Color = tuple[int, int, int]

TEAM_COLORS: tuple[Color, Color] = ((58, 146, 240), (238, 136, 34))
"""Agents blue, enemies orange: distinguishable with every common form of color blindness, and in gray by lightness."""
SHIELD_COLOR: Color = (150, 232, 255)
ENERGY_COLOR: Color = (226, 150, 255)
HEAL_COLOR: Color = (120, 240, 170)


def _star(points: int, outer: float, inner: float, turn: float = 0.0) -> Polygon:
    """A star whose first point is at the top, turned counterclockwise by `turn` radians."""
    radii = (outer, inner) * points
    return tuple(
        (-radius * sin(turn + pi * i / points), radius * cos(turn + pi * i / points)) for i, radius in enumerate(radii)
    )


def _chevron(bottom: float, rise: float, thickness: float, half_width: float = 0.56) -> Polygon:
    top = bottom + thickness
    return (
        (-half_width, bottom), (0.0, bottom + rise), (half_width, bottom),
        (half_width, top), (0.0, top + rise), (-half_width, top),
    )  # fmt: skip


def _blade(x: float) -> Polygon:
    return ((x - 0.14, 0.1), (x, 0.68), (x + 0.14, 0.1), (x, -0.62))


def _crescent() -> Polygon:
    outer = [(0.62 * cos(a), 0.62 * sin(a)) for a in (pi * (0.25 + 1.5 * i / 12) for i in range(13))]
    inner = [(0.2 + 0.42 * cos(a), 0.46 * sin(a)) for a in (pi * (1.7 - 1.4 * i / 10) for i in range(11))]
    return (*outer, *inner)


GLYPHS: dict[str, tuple[Polygon, ...]] = {
    "marine": (_chevron(-0.42, 0.5, 0.4),),
    "marauder": (_chevron(-0.62, 0.42, 0.3), _chevron(-0.1, 0.42, 0.3)),
    "medivac": (
        ((-0.2, -0.62), (0.2, -0.62), (0.2, 0.62), (-0.2, 0.62)),
        ((-0.62, -0.2), (0.62, -0.2), (0.62, 0.2), (-0.62, 0.2)),
    ),
    "stalker": (_star(4, 0.74, 0.22),),
    "zealot": (_blade(-0.3), _blade(0.3)),
    "colossus": (_star(4, 0.8, 0.14, pi / 4), _star(4, 0.36, 0.36 * 0.7)),
    "zergling": (((0.0, 0.62), (0.56, -0.48), (0.0, -0.14), (-0.56, -0.48)),),
    "baneling": (_star(8, 0.68, 0.36),),
    "hydralisk": (_crescent(),),
    "spinecrawler": (_star(3, 0.78, 0.24), _star(3, 0.5, 0.24, pi)),
}
_UNKNOWN: tuple[Polygon, ...] = (_star(8, 0.3, 0.3),)


def glyph(kind: str) -> tuple[Polygon, ...]:
    """The polygons of a kind; a dot for an unknown kind."""
    return GLYPHS.get(kind, _UNKNOWN)
