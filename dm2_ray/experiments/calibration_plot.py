"""A calibration as a picture: one panel per map.

Solid lines are our runs, one per seed; dashed lines are the published curves, and diamonds at the right edge published
final win rates. Bands are shaded: a curve should stay inside a rectangle at the bottom, or cross a bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from dm2_ray.experiments.comparison_plot import COLORS, DEMONSTRATORS_COLOR, short_steps
from dm2_ray.experiments.measured_curves import MeasuredCurve
from dm2_ray.experiments.published_results import AtMost, PublishedResults
from dm2_ray.terminal import shorten

COLUMNS = 3
BAR_HEIGHT = 0.04
LABEL_WIDTH = 40
CAPTION = (
    "solid: our runs, one line per seed (mean of 3 evaluations); dashed: published, real game, mean of 5 seeds; "
    "diamonds: published final win rates of others. Shaded: stay in the rectangle, or cross the bar"
)

LabeledCurves = Sequence[tuple[str, Sequence[MeasuredCurve]]]


def draw_calibration(groups: LabeledCurves, published: PublishedResults, path: Path) -> None:
    """Writes the picture, a PNG file.

    Args:
        groups: The label and the seeds of each group; a map's groups share a panel.
        published: Published curves and bands.
        path: The file.
    """
    maps = list(dict.fromkeys(curves[0].map for _, curves in groups))
    algorithms = list(dict.fromkeys(curves[0].algorithm for _, curves in groups))
    columns = min(COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(max(6.0, 4.2 * columns), 3.3 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[len(maps) :]:
        panel.set_visible(False)
    for panel, map_name in zip(panels, maps, strict=False):
        own = [(label, curves) for label, curves in groups if curves[0].map == map_name]
        _draw_panel(panel, map_name, own, algorithms, published)
    figure.supxlabel(CAPTION, fontsize=7.0, color=DEMONSTRATORS_COLOR, wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)


def _draw_panel(
    axes: Axes, map_name: str, groups: LabeledCurves, algorithms: Sequence[str], published: PublishedResults
) -> None:
    horizon = float(max(curve.env_steps[-1] for _, curves in groups for curve in curves))
    drawn = set()
    for index, (label, curves) in enumerate(groups):
        algorithm = curves[0].algorithm
        color = COLORS[algorithms.index(algorithm) % len(COLORS)]
        # Several groups of an algorithm (other settings, other engines) differ in their lines.
        style = "-" if algorithm not in drawn else (0, (3, 1, 1, 1))
        for curve in curves:
            axes.plot((0, *curve.env_steps), (0.0, *curve.greedy_win_rates), color=color, linestyle=style,
                      linewidth=1.4, zorder=4 + index)  # fmt: skip
        axes.plot([], [], color=color, linestyle=style, label=shorten(label, LABEL_WIDTH))
        if algorithm in drawn:
            continue
        drawn.add(algorithm)
        for band in published.bands_of(map_name, algorithm):
            horizon = max(horizon, band.horizon)
            if isinstance(band, AtMost):
                corner, width, height = (0.0, 0.0), band.until, band.win_rate
            else:
                corner = (band.earliest, band.win_rate - BAR_HEIGHT / 2)
                width, height = band.latest - band.earliest, BAR_HEIGHT
            axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor=color, alpha=0.13, zorder=1))
        reference = published.curve(map_name, algorithm)
        if reference is not None:
            axes.plot((0, *reference.env_steps), (0.0, *reference.win_rates), color=color, linestyle="--",
                      linewidth=1.3, alpha=0.8, zorder=3)  # fmt: skip
        finals = [final.win_rate for final in published.finals_of(map_name, algorithm)]
        axes.plot([1.0] * len(finals), finals, "D", color=color, markersize=4, alpha=0.7, clip_on=False, zorder=3,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(title=map_name, xlabel="env steps", ylabel="greedy win rate", ylim=(-0.02, 1.02), xlim=(0, horizon * 1.02))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_steps(value)))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(framealpha=0.7, edgecolor="none", fontsize=7.5)
