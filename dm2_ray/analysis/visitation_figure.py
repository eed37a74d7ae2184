"""One figure about what agents visit: a header of panels for the whole team, then a row of four panels per agent.

    title
    header: panels of the whole team
    agent 0 | enemies | allies | actions over time | survival |     agent 5 | ...
    agent 1 | ...                                                   agent 6 | ...

Shapes: T time bins, A actions, C x C cells around an agent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle

from dm2_ray.files import write_atomically
from dm2_ray.world.smac.rules import FIRST_TARGET, SHOOT_RANGE, SIGHT_RANGE

SUFFIXES = (".png", ".svg", ".pdf")
"""File formats that can be written."""
DARK = "#3f3f46"
UNKNOWN_COLOR = "#e4e4e7"
_FAINT = "#71717a"
_EDGE = "#a1a1aa"
_NOTE = (
    "Maps: where living enemies and allies stand around the agent (+), in the game's units of length, at the steps in "
    "which it lives; circles: sight (9) and shooting range (6). Gray: too few steps."
)

_BLOCK_INCHES = 12.8
_HEADER_INCHES = 4.0
_LEGEND_INCHES = 1.1
_ROW_INCHES = 2.55
_MAX_ROWS_PER_BLOCK = 6
"""More agents are drawn in two blocks side by side."""
_MAX_TARGET_LABELS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Maps numbers to colors.

    Attributes:
        colors: The colors.
        norm: Maps numbers to the range of `colors`.
        label: Text above the color bar.
        ticks: Numbers that are marked on it.
        tick_labels: Their labels.
    """

    colors: Colormap
    norm: Normalize
    label: str
    ticks: Sequence[float]
    tick_labels: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSeries:
    """A curve over time.

    Attributes:
        values: [T] values.
        label: Text in the legend.
        color: Color of the curve.
        style: Line style of Matplotlib.
        filled: Whether the area below is filled instead.
    """

    values: npt.NDArray[np.float64]
    label: str
    color: str
    style: str = "-"
    filled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentPanels:
    """The row of panels of one agent.

    Attributes:
        heading: Text above the row.
        enemies: [C, C] values around the agent; None is drawn as "not known".
        allies: The same for allies.
        actions: [T, A] values over time; NaN where nothing is known.
        action_names: [A] names of the actions.
        survival: Curves of the last panel.
    """

    heading: str
    enemies: npt.NDArray[np.float64] | None
    allies: npt.NDArray[np.float64] | None
    actions: npt.NDArray[np.float64]
    action_names: Sequence[str]
    survival: Sequence[TimeSeries]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderPanel:
    """One panel about the whole team; its `width` is relative to the other panels."""

    title: str
    draw: Callable[[Axes], None]
    width: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitationFigure:
    """The content of the figure.

    Attributes:
        title: The first line is drawn large, the others small.
        header: Panels about the whole team.
        enemies: Scale of the enemies' panels.
        allies: Scale of the allies' panels.
        actions: Scale of the actions' panels.
        agents: Panels of the agents.
        duration: Number of env steps on the time axes.
    """

    title: str
    header: Sequence[HeaderPanel]
    enemies: Scale
    allies: Scale
    actions: Scale
    agents: Sequence[AgentPanels]
    duration: int

    def save(self, path: Path, *, dots_per_inch: int = 110) -> None:
        """Writes the file in the format that the suffix names; it appears whole or not at all.

        Raises:
            OSError: It cannot be written.
            ValueError: Unknown suffix.
        """
        content = io.BytesIO()
        self._figure().savefig(content, dpi=dots_per_inch, format=path.suffix.removeprefix(".").lower())
        write_atomically(path, content.getvalue())

    def _figure(self) -> Figure:
        blocks = 1 if len(self.agents) <= _MAX_ROWS_PER_BLOCK else 2
        rows = -(-len(self.agents) // blocks)
        heights = _HEADER_INCHES, _LEGEND_INCHES + rows * _ROW_INCHES
        figure = Figure(
            figsize=(blocks * _BLOCK_INCHES, sum(heights)), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
        )
        head, *rest = self.title.split("\n")
        figure.suptitle(head, x=0.01, ha="left", size=15, weight="bold", color=DARK)
        (header,), (body,) = figure.subfigures(2, 1, height_ratios=heights, hspace=0.03, squeeze=False)
        header.suptitle("\n".join(rest), x=0.01, ha="left", size=10.5, color=_FAINT)
        widths = [panel.width for panel in self.header]
        axes_of_header = header.subplots(1, len(self.header), width_ratios=widths, squeeze=False)[0]
        for axes, panel in zip(axes_of_header, self.header, strict=True):
            _plain_axes(axes)
            axes.set_title(panel.title, size=10, loc="left", color=DARK)
            panel.draw(axes)
        body.suptitle(_NOTE, x=0.01, ha="left", size=8.5, color=_FAINT)
        for block, subfigure in enumerate(body.subfigures(1, blocks, squeeze=False, wspace=0.02)[0]):
            self._draw_block(subfigure, self.agents[block * rows : (block + 1) * rows], rows)
        return figure

    def _draw_block(self, figure: SubFigure, agents: Sequence[AgentPanels], rows: int) -> None:
        grid = figure.subplots(rows, 4, width_ratios=(2, 2, 3.2, 2.3), squeeze=False)
        scales = self.enemies, self.allies, self.actions
        for column, scale in enumerate(scales):
            bar = figure.colorbar(
                ScalarMappable(scale.norm, scale.colors), ax=grid[:, column], location="top", shrink=0.9, aspect=20
            )
            bar.set_ticks(scale.ticks, labels=scale.tick_labels, size=7.5)
            bar.set_label(scale.label, size=8.5, color=DARK, loc="left")
            bar.outline.set_edgecolor(_EDGE)
        for row, axes_of_row in enumerate(grid):
            if row >= len(agents):
                for axes in axes_of_row:
                    axes.set_axis_off()
                continue
            panels, is_last = agents[row], row == len(agents) - 1
            enemies, allies, actions, survival = axes_of_row
            enemies.set_title(panels.heading, size=10.5, weight="bold", loc="left", color=DARK)
            _draw_surroundings(enemies, panels.enemies, self.enemies)
            _draw_surroundings(allies, panels.allies, self.allies)
            self._draw_actions(actions, panels)
            self._draw_survival(survival, panels.survival)
            enemies.set_ylabel("to the north", size=8.5, color=DARK)
            allies.tick_params(labelleft=False)
            labels = ("to the east", "to the east", "env step", "env step")
            for axes, label in zip(axes_of_row, labels, strict=True):
                axes.tick_params(labelbottom=is_last)
                if is_last:
                    axes.set_xlabel(label, size=8.5, color=DARK)
        handles, names = grid[0, 3].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper right", fontsize=8.5, frameon=False, labelspacing=0.25)

    def _draw_actions(self, axes: Axes, panels: AgentPanels) -> None:
        # A dead agent has no choice: action 0 is left out.
        values, names = panels.actions[:, 1:], list(panels.action_names)[1:]
        num_moves = min(FIRST_TARGET - 1, len(names))
        # The rows of stop and the moves stay readable with any number of targets.
        heights = np.ones(len(names))
        heights[:num_moves] = max(1.0, len(names) / 14)
        edges = np.append(0.0, np.cumsum(heights))
        axes.set_facecolor(UNKNOWN_COLOR)
        axes.pcolormesh(
            np.linspace(0, self.duration, len(values) + 1), edges, np.ma.masked_invalid(values.T),
            cmap=self.actions.colors, norm=self.actions.norm, rasterized=True,
        )  # fmt: skip
        axes.set(xlim=(0, self.duration), ylim=(edges[-1], 0))
        every = max(1, -(-(len(names) - num_moves) // _MAX_TARGET_LABELS))
        labeled = [*range(num_moves), *range(num_moves, len(names), every)]
        axes.set_yticks((edges[labeled] + heights[labeled] / 2).tolist(), labels=[names[place] for place in labeled])
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0, labelsize=8 if len(names) <= 14 else 7)

    def _draw_survival(self, axes: Axes, series: Sequence[TimeSeries]) -> None:
        for one in series:
            times = (np.arange(len(one.values)) + 0.5) * self.duration / len(one.values)
            if one.filled:
                axes.fill_between(times, one.values, color=one.color, linewidth=0, label=one.label)
            else:
                axes.plot(times, one.values, color=one.color, linestyle=one.style, linewidth=1.8, label=one.label)
        axes.set(xlim=(0, self.duration), ylim=(0, 1.02), yticks=(0, 0.5, 1))
        _plain_axes(axes)


def _draw_surroundings(axes: Axes, values: npt.NDArray[np.float64] | None, scale: Scale) -> None:
    limits, ticks = (-SIGHT_RANGE, SIGHT_RANGE), (-6, 0, 6)
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks, aspect="equal")
    axes.tick_params(labelsize=8)
    if values is None:
        axes.text(0, 0, "not known", ha="center", va="center", size=9, color=_FAINT)
        axes.set_facecolor(UNKNOWN_COLOR)
        return
    sight = Circle((0, 0), SIGHT_RANGE, facecolor="none", edgecolor=_EDGE, linewidth=0.8)
    image = axes.imshow(values.T, origin="lower", extent=(*limits, *limits), cmap=scale.colors, norm=scale.norm)
    axes.add_patch(sight)
    image.set_clip_path(sight)
    axes.add_patch(Circle((0, 0), SHOOT_RANGE, facecolor="none", edgecolor=_FAINT, linewidth=0.8, linestyle=":"))
    axes.plot(0, 0, marker="+", color="black", markersize=7, markeredgewidth=1.2)


def _plain_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
