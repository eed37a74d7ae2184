"""A sheet of small pictures, one row of four per agent under a header for the whole team.

    title
    header: team panels
    strip:  what colors and lines mean
    agent 0 | enemies | allies | actions over time | survival |     agent 5 | ...
    agent 1 | ...

Places are counted in inches from the top left corner. Shapes: T time bins, A actions, C x C cells around an agent.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.files import write_atomically
from dm2_ray.world.smac.rules import FIRST_TARGET, SHOOT_RANGE, SIGHT_RANGE

SUFFIXES = (".png", ".svg", ".pdf")
"""Of files that can be written."""
DARK = "#3f3f46"
UNKNOWN_COLOUR = "#e4e4e7"
_FAINT = "#71717a"

_MARGIN = 0.45
_MAP = 2.0
_NAMES = 1.35
_ACTIONS = 3.2
_SURVIVAL = 2.3
_GAP = 0.4
_ROW = _MAP + 0.62
_AXIS = 0.5
_TITLE = 1.0
_HEADER = 2.0
_STRIP = 1.05
_LINE_HEIGHT = 0.115
_ROWS_OF_ONE_BLOCK = 6
"""More agents stand in two blocks side by side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Which color a number has."""

    colors: Any
    """A matplotlib color map."""
    norm: Any
    label: str
    ticks: Sequence[float] | None = None
    tick_labels: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A quantity over time, [T]."""

    values: npt.NDArray[np.float64]
    color: str
    style: str = "-"
    filled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentPanels:
    """What is drawn of one agent."""

    heading: str
    """Stands above the row."""
    enemies: npt.NDArray[np.float64] | None
    """[C, C]; None is said in words."""
    allies: npt.NDArray[np.float64] | None
    actions: npt.NDArray[np.float64]
    """[T, A]; NaN where nothing is known."""
    action_names: Sequence[str]
    lines: Sequence[Line]


class VisitationFigure:
    """A figure being filled.

    Args:
        title: in large letters; further lines are smaller.
        num_agents: rows to come.
        duration: env steps that the time axes span.
    """

    def __init__(self, title: str, num_agents: int, duration: int) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        self._pyplot = pyplot
        self._duration = duration
        self._blocks = 1 if num_agents <= _ROWS_OF_ONE_BLOCK else 2
        self._rows = -(-num_agents // self._blocks)
        block = _MAP + _GAP + _MAP + _NAMES + _ACTIONS + 0.65 + _SURVIVAL
        self._block_pitch = block + 0.9
        self.width = 2 * _MARGIN + block + (self._blocks - 1) * self._block_pitch
        self._first_row = _TITLE + 0.35 + _HEADER + _AXIS + _STRIP + 0.3
        self.height = self._first_row + self._rows * _ROW + _AXIS
        self.figure = pyplot.figure(figsize=(self.width, self.height))
        head, *rest = title.split("\n")
        self.write(_MARGIN, 0.34, head, size=15, weight="bold")
        self.write(_MARGIN, 0.62, "\n".join(rest), size=10.5, color=_FAINT)
        self._placed = 0

    def write(self, x: float, y: float, text: str, *, size: float, weight: str = "normal", color: str = DARK) -> None:
        """Text whose upper left corner is there."""
        place = x / self.width, 1 - y / self.height
        self.figure.text(*place, text, fontsize=size, fontweight=weight, color=color, va="top")

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        axes = self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )
        axes.tick_params(labelsize=8, colors=DARK, length=2.5)
        for spine in axes.spines.values():
            spine.set_color("#a1a1aa")
        return axes

    def header(self, titles: Sequence[str], share: Sequence[float], names: float = 0.3) -> list[Any]:
        """Axes of the team's panels, side by side; widths in proportion to `share`, `names` inches before the first."""
        gap = 0.75
        free = min(self.width - _MARGIN - names, 15.0) - gap * len(titles)
        panels, x = [], _MARGIN + names
        for title, part in zip(titles, share, strict=True):
            width = free * part / sum(share)
            axes = self.axes(x, _TITLE + 0.4, width, _HEADER)
            axes.set_title(title, fontsize=10, loc="left", color=DARK)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            axes.set_axisbelow(True)
            panels.append(axes)
            x += width + gap
        return panels

    def strip(
        self, enemies: Scale, allies: Scale, actions: Scale, lines: Sequence[tuple[Line, str]], note: str
    ) -> None:
        """What colors and lines mean, above the columns of the first block, and what else there is to say."""
        from matplotlib.cm import ScalarMappable

        y = self._first_row - _STRIP
        self.write(_MARGIN, self._first_row - 0.3, note, size=8.5, color=_FAINT)
        for (x, width), scale in zip(self._columns(0)[:3], (enemies, allies, actions), strict=True):
            axes = self.axes(x, y + 0.28, min(width, _MAP), 0.11)
            bar = self.figure.colorbar(ScalarMappable(scale.norm, scale.colors), cax=axes, orientation="horizontal")
            if scale.ticks is not None:
                bar.set_ticks(scale.ticks, labels=scale.tick_labels)
            bar.outline.set_color("#a1a1aa")
            axes.set_title(scale.label, fontsize=8.5, loc="left", color=DARK, pad=4)
            axes.tick_params(labelsize=7.5)
        x, width = self._columns(0)[3]
        axes = self.axes(x, y, width, 0.6)
        axes.set_axis_off()
        for line, name in lines:
            if line.filled:
                axes.fill_between([], [], color=line.color, label=name)
            else:
                axes.plot([], [], color=line.color, linestyle=line.style, linewidth=1.8, label=name)
        axes.legend(
            loc="center left", fontsize=8.5, frameon=False, borderpad=0, labelspacing=0.25, handlelength=1.6,
            bbox_to_anchor=(-0.03, 0.5),
        )  # fmt: skip

    def agent(self, panels: AgentPanels, enemies: Scale, allies: Scale, actions: Scale) -> None:
        """The next agent's row."""
        block, row = divmod(self._placed, self._rows)
        self._placed += 1
        is_last = row == self._rows - 1 or self._placed == self._rows * self._blocks
        columns = self._columns(block)
        y = self._first_row + row * _ROW + 0.3
        self.write(columns[0][0], y - 0.27, panels.heading, size=10.5, weight="bold")
        east, also_east, actions_over_time, survival = (self.axes(x, y, width, _MAP) for x, width in columns)
        self._surroundings(east, panels.enemies, enemies)
        self._surroundings(also_east, panels.allies, allies)
        also_east.set_yticklabels([])
        self._actions(actions_over_time, panels, actions)
        self._survival(survival, panels.lines)
        east.set_ylabel("to the north", fontsize=8.5, color=DARK, labelpad=-6)
        for axes, label in (
            (east, "to the east"), (also_east, "to the east"), (actions_over_time, "env step"), (survival, "env step")
        ):  # fmt: skip
            if is_last:
                axes.set_xlabel(label, fontsize=8.5, color=DARK)
            else:
                axes.set_xticklabels([])

    def save(self, path: Path, *, dots_per_inch: int = 110) -> None:
        """Writes the file that the suffix names, whole or not at all. Raises OSError or ValueError if it cannot."""
        content = io.BytesIO()
        try:
            self.figure.savefig(content, dpi=dots_per_inch, format=path.suffix.removeprefix(".").lower())
        finally:
            self._pyplot.close(self.figure)
        write_atomically(path, content.getvalue())

    def _columns(self, block: int) -> list[tuple[float, float]]:
        """Left edge and width of the four columns."""
        x = _MARGIN + block * self._block_pitch
        columns = []
        for width, gap in ((_MAP, _GAP), (_MAP, _NAMES), (_ACTIONS, 0.65), (_SURVIVAL, 0.0)):
            columns.append((x, width))
            x += width + gap
        return columns

    def _surroundings(self, axes: Any, values: npt.NDArray[np.float64] | None, scale: Scale) -> None:
        from matplotlib.patches import Circle

        axes.set(xlim=(-SIGHT_RANGE, SIGHT_RANGE), ylim=(-SIGHT_RANGE, SIGHT_RANGE), aspect="equal")
        axes.set_xticks([-6, 0, 6])
        axes.set_yticks([-6, 0, 6])
        if values is None:
            axes.text(0, 0, "not known", ha="center", va="center", fontsize=9, color=_FAINT)
            axes.set_facecolor(UNKNOWN_COLOUR)
            return
        field = Circle((0, 0), SIGHT_RANGE, facecolor="none", edgecolor="#a1a1aa", linewidth=0.8)
        image = axes.imshow(
            values.T, origin="lower", extent=(-SIGHT_RANGE, SIGHT_RANGE, -SIGHT_RANGE, SIGHT_RANGE),
            cmap=scale.colors, norm=scale.norm, interpolation="nearest",
        )  # fmt: skip
        axes.add_patch(field)
        image.set_clip_path(field)
        axes.add_patch(Circle((0, 0), SHOOT_RANGE, facecolor="none", edgecolor=_FAINT, linewidth=0.8, linestyle=":"))
        axes.plot(0, 0, marker="+", color="black", markersize=7, markeredgewidth=1.2)

    def _actions(self, axes: Any, panels: AgentPanels, scale: Scale) -> None:
        # Whoever is dead has no choice: action 0 is left out.
        values, names = panels.actions[:, 1:], list(panels.action_names)[1:]
        plain = min(FIRST_TARGET - 1, len(names))
        # Stop and the moves stay readable beside any number of targets.
        heights = np.ones(len(names))
        heights[:plain] = max(1.0, len(names) / 14)
        edges = np.append(0.0, np.cumsum(heights))
        axes.set_facecolor(UNKNOWN_COLOUR)
        axes.pcolormesh(
            np.linspace(0, self._duration, len(values) + 1), edges, np.ma.masked_invalid(values.T),
            cmap=scale.colors, norm=scale.norm, rasterized=True,
        )  # fmt: skip
        axes.set_xlim(0, self._duration)
        axes.set_ylim(edges[-1], 0)
        every = max(1, int(np.ceil(_LINE_HEIGHT * edges[-1] / _MAP)))
        places = [*range(plain), *range(plain, len(names), every)]
        axes.set_yticks(
            [(edges[place] + edges[place + 1]) / 2 for place in places], labels=[names[place] for place in places],
            fontsize=8 if len(names) <= 14 else 7,
        )  # fmt: skip
        axes.tick_params(axis="y", length=0)

    def _survival(self, axes: Any, lines: Sequence[Line]) -> None:
        for line in lines:
            times = (np.arange(len(line.values)) + 0.5) * self._duration / len(line.values)
            if line.filled:
                axes.fill_between(times, line.values, color=line.color, linewidth=0)
            else:
                axes.plot(times, line.values, color=line.color, linestyle=line.style, linewidth=1.8)
        axes.set_xlim(0, self._duration)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.5, 1])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
