"""Maps as text: a drawing of the ground and the starting positions, and a list of the units."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.scenario_checks import starting_positions

_PLURALS = {"colossus": "colossi", "spinecrawler": "spine crawlers"}
_SINGULARS = {"spinecrawler": "spine crawler"}
_RULER_STEP = 5


def draw_map(spec: MapSpec) -> str:
    """The map from north to south, one character per cell: `.` can be walked on, `#` cannot, `A` and `E` are cells in
    which agents and enemies start (`*`: both); coordinates are at the left and below."""
    cells = np.where(spec.walkable, ".", "#")
    positions = starting_positions(spec).astype(np.int64)
    for index, (x, y) in enumerate(positions):
        mark = "A" if index < spec.num_agents else "E"
        cells[x, y] = "*" if cells[x, y] in "AE" and cells[x, y] != mark else mark
    width, height = cells.shape
    margin = len(str(height - 1))
    lines = [f"{y:{margin}} {''.join(cells[:, y])}" for y in reversed(range(height))]
    ruler = "".join(f"{x:<{_RULER_STEP}}" for x in range(0, width, _RULER_STEP))
    return "\n".join([*lines, f"{'':{margin}} {ruler.rstrip()}"])


def count_units(kinds: Iterable[str]) -> str:
    """Numbers of units per kind, in the order of first appearance: "2 stalkers, 3 zealots"."""
    names = list(kinds)
    parts = []
    for kind in dict.fromkeys(names):
        count = names.count(kind)
        name = _SINGULARS.get(kind, kind) if count == 1 else _PLURALS.get(kind, f"{kind}s")
        parts.append(f"{count} {name}")
    return ", ".join(parts)
