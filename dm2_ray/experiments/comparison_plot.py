"""A comparison as a picture: win rates over env steps, and final win rates.

Left: every condition's median over seeds, with a band from the lowest to the highest seed. Right: a dot for each run's
final win rate, and the interquartile mean with its interval; the labels on the right explain the colors of both sides.
Dashed lines are the demonstrations' own win rates, dotted lines are teams that do not learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dm2_ray.experiments.comparison import Comparison, ConditionResults
from dm2_ray.experiments.learning_curve import SMOOTHING, LearningCurve, smoothed
from dm2_ray.statistics import interquartile_mean

# Okabe and Ito's colors, which color-blind people can distinguish, ordered so that the first ones contrast most.
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c6d31")
DEMONSTRATORS_COLOR = "#555555"
GRID_POINTS = 200
CAPTION = (
    f"left: median over seeds of the mean of {SMOOTHING} evaluations, band from the lowest to the highest seed; "
    "dotted: does not learn. right: a dot per run; bar: interquartile mean with its 95 % interval"
)

Floats = npt.NDArray[np.float64]


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Writes the picture, a PNG file.

    Raises:
        ValueError: No run has been evaluated yet.
    """
    rows = comparison.evaluated
    if not rows:
        raise ValueError("no run has been evaluated yet")
    height = max(3.8, 1.6 + 0.42 * len(rows))
    figure = Figure(figsize=(11, height), layout="constrained")
    course, ends = figure.subplots(1, 2, width_ratios=(1.55, 1))
    colors = {row.name: COLORS[index % len(COLORS)] for index, row in enumerate(rows)}
    has_course = False
    for index, row in enumerate(rows):
        has_course |= draw_course(course, row, colors[row.name], order=len(rows) - index)
    for place, row in enumerate(reversed(rows)):
        _draw_ends(ends, row, place, colors[row.name])
    _draw_demonstrators(course, ends, rows, colors)
    course.set(xlabel="env steps", ylabel="greedy win rate", ylim=(-0.02, 1.02))
    course.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_steps(value)))
    course.set_xlim(left=0)
    if not has_course:
        course.set_xticks([])
    ends.set(xlabel="final greedy win rate", xlim=(-0.02, 1.02), ylim=(-0.6, len(rows) - 0.4))
    ends.set_yticks(range(len(rows)), [row.label for row in reversed(rows)])
    ends.tick_params(axis="y", length=0)
    for label, row in zip(ends.get_yticklabels(), reversed(rows), strict=True):
        label.set_color(colors[row.name])
        label.set_fontweight("bold")
    for axes in (course, ends):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(CAPTION, fontsize=7.5, color=DEMONSTRATORS_COLOR)
    figure.suptitle(f"{comparison.title}, {comparison.map}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)


def band(curves: Sequence[LearningCurve]) -> tuple[Floats, Floats, Floats, Floats]:
    """Env steps, and the lowest, median and highest smoothed curve, over the range that all curves cover."""
    first = max(curve.env_steps[0] for curve in curves)
    last = min(curve.env_steps[-1] for curve in curves)
    steps = np.linspace(min(first, last), last, GRID_POINTS)
    rates = np.stack([np.interp(steps, curve.env_steps, smoothed(curve.win_rates)) for curve in curves])
    return steps, rates.min(axis=0), np.median(rates, axis=0), rates.max(axis=0)


def draw_course(axes: Axes, row: ConditionResults, color: str, *, order: int) -> bool:
    """Draws a condition's learning curve; returns whether there is one."""
    if not row.learns or max(curve.env_steps[-1] for curve in row.curves) == 0:
        level = float(np.median(row.scores("final_win_rate")))
        axes.axhline(level, color=color, linestyle=":", linewidth=1.8, zorder=2)
        return False
    steps, low, middle, high = band(row.curves)
    if len(row.curves) > 1:
        # A pale band with thin edges: where several bands overlap, the edges still tell them apart.
        axes.fill_between(steps, low, high, color=color, alpha=0.08, linewidth=0, zorder=1)
        for edge in (low, high):
            axes.plot(steps, edge, color=color, linewidth=0.6, alpha=0.55, zorder=2)
    axes.plot(steps, middle, color=color, linewidth=2.0, zorder=3 + order)
    return True


def _draw_ends(axes: Axes, row: ConditionResults, place: int, color: str) -> None:
    scores = row.scores("final_win_rate")
    estimate = interquartile_mean([scores])
    axes.plot([estimate.low, estimate.high], [place, place], color=color, linewidth=5, alpha=0.3, zorder=2,
              solid_capstyle="butt")  # fmt: skip
    axes.plot(estimate.value, place, marker="|", markersize=22, markeredgewidth=2.2, color=color, zorder=3)
    axes.scatter(scores, [place] * len(scores), s=26, color=color, edgecolors="white", linewidths=0.6, zorder=4)


def _draw_demonstrators(course: Axes, ends: Axes, rows: Sequence[ConditionResults], colors: dict[str, str]) -> None:
    """Draws one set as a gray line, several sets in the colors of the conditions that learn from them."""
    users: dict[str, list[ConditionResults]] = {}
    for row in rows:
        if row.demonstrators is not None:
            users.setdefault(row.demonstrators.name, []).append(row)
    for name, those in users.items():
        who = those[0].demonstrators
        assert who is not None
        level = float(np.mean(who.win_rates))
        color = colors[those[0].name] if len(users) > 1 and len(those) == 1 else DEMONSTRATORS_COLOR
        label = f"demonstrations: {name}" if len(users) > 1 else "the demonstrations' own win rate"
        if len(who.win_rates) > 1:
            label += f" (mean of {len(who.win_rates)} teams)"
        course.axhline(level, color=color, linestyle="--", linewidth=1.3, alpha=0.9, zorder=2, label=label)
        places = [len(rows) - 1 - rows.index(row) for row in those]
        for place in places:
            ends.plot([level] * 2, [place - 0.4, place + 0.4], color=color, linestyle="--", linewidth=1.3, zorder=2)
    if users:
        # Above the axes, because curves may be anywhere inside them.
        course.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8, borderpad=0.1)


def short_steps(value: float) -> str:
    """A number of env steps for an axis: 250 k, 1.5 M."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value else "0"
