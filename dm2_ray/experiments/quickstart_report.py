"""Result of the quickstart: a table and a picture, with a packaged curve of a longer IPPO training beside them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dm2_ray.config.schema import Experiment
from dm2_ray.experiments.comparison import NEVER, Comparison, ConditionResults, env_steps_to
from dm2_ray.experiments.comparison_plot import COLORS, DEMONSTRATORS_COLOR, draw_course, short_steps
from dm2_ray.experiments.learning_curve import SMOOTHING, first_reaching
from dm2_ray.experiments.measured_curves import (
    EXECUTION_SETTINGS,
    MeasuredCurve,
    differing_settings,
    load_measured_curves,
)
from dm2_ray.terminal import format_markdown_table
from dm2_ray.world.engine_settings import ENGINE_VERSION

MATCHING_SETTINGS = ("demonstrations.", "discriminator.", "matching.")
"""Sections that mean nothing to a learner without demonstrations."""
TIMES_THE_BUDGET = 10
"""How much longer the packaged IPPO training is that is shown beside the results."""

CAPTION = (
    f"mean of {SMOOTHING} evaluations; of several seeds, the median and a band from the lowest to the highest; "
    "dash-dotted: measured before, not by this command"
)


def longer_run(experiment: Experiment | None) -> MeasuredCurve | None:
    """The packaged curve of the same map, engine and variant that says what more env steps give, if there is one.

    A curve with the experiment's own learning settings is preferred to one with the map's published settings.
    """
    if experiment is None or experiment.world.backend != "embedded":
        return None
    curves = [
        curve
        for curve in load_measured_curves()
        if (curve.map, curve.algorithm, curve.engine)
        == (experiment.world.map, experiment.variant, f"embedded {ENGINE_VERSION}")
    ]
    own = {
        key: value
        for key, value in differing_settings(experiment).items()
        if not key.startswith((*EXECUTION_SETTINGS, *MATCHING_SETTINGS))
    }
    same = [curve for curve in curves if curve.learner_settings == own]
    published = [curve for curve in curves if not curve.learner_settings]
    return next(iter([*same, *published]), None)


def quickstart_table(comparison: Comparison, longer: MeasuredCurve | None) -> str:
    """The results as a Markdown table of medians over seeds, with the packaged curve in the last row."""
    header = ["", "seeds", "env steps"]
    header += [f"to win rate {threshold:g}" for threshold in comparison.thresholds]
    header += ["final greedy win rate", "minutes"]
    rows = []
    for row in comparison.evaluated:
        reached = [statistics.median(env_steps_to(row, threshold)) for threshold in comparison.thresholds]
        rows.append(
            [
                row.label,
                str(len(row.curves)),
                f"{max(curve.env_steps[-1] for curve in row.curves):,}",
                *("not reached" if steps == NEVER else f"{steps:,.0f}" for steps in reached),
                _median_and_range(row.scores("final_win_rate")),
                f"{statistics.median(curve.minutes for curve in row.curves):.1f}",
            ]
        )
    notes = [
        f"Medians over seeds. A win rate is reached when the mean of {SMOOTHING} evaluations reaches it; the final one "
        f"is the mean of the last {SMOOTHING}."
    ]
    demonstrated = [rate for row in comparison.rows if row.demonstrators for rate in row.demonstrators.win_rates]
    if demonstrated:
        notes.insert(0, f"The demonstrations won {statistics.mean(demonstrated):.2f} of their battles.")
    if longer is not None:
        last = _end_of(longer, comparison)
        rates = longer.greedy_win_rates
        steps_to = [first_reaching(longer.env_steps, rates, threshold) for threshold in comparison.thresholds]
        rows.append(
            [
                f"{longer.algorithm.upper()}, longer (packaged curve)",
                f"1 (seed {longer.seed})",
                f"{last:,.0f}",
                *("not reached" if steps is None or steps > last else f"{steps:,.0f}" for steps in steps_to),
                f"{longer.win_rate_at(last):.2f}",
                "",
            ]
        )
        notes.append(f"The packaged curve was measured before with: {longer.command}")
    return "\n\n".join([format_markdown_table(header, rows), " ".join(notes)])


def draw_quickstart(comparison: Comparison, longer: MeasuredCurve | None, path: Path) -> None:
    """Draws greedy win rates over env steps: left the runs, right how the packaged curve goes on after their budget."""
    rows = comparison.evaluated
    budget = _budget(comparison)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    if longer is None:
        course, later = figure.subplots(), None
    else:
        course, later = figure.subplots(1, 2, width_ratios=(1.7, 1), sharey=True)
    for index, row in enumerate(rows):
        draw_course(course, row, COLORS[index], order=len(rows) - index)
        course.plot([], [], color=COLORS[index], linewidth=2.0, label=_legend(row))
    for axes in (course, later):
        if axes is not None:
            _draw_level(axes, comparison)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_steps(value)))
    course.set(xlabel="env steps", ylabel="greedy win rate", xlim=(0, budget), ylim=(-0.02, 1.04))
    course.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=9, borderpad=0.1)
    if longer is not None and later is not None:
        color = next((COLORS[index] for index, row in enumerate(rows) if row.name == longer.algorithm), COLORS[-1])
        _draw_longer(later, longer, comparison, color)
    figure.supxlabel(CAPTION, fontsize=7.5, color=DEMONSTRATORS_COLOR)
    figure.suptitle(f"{comparison.title}: {comparison.map}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)


def _draw_level(axes: Axes, comparison: Comparison) -> None:
    """Draws the demonstrations' own win rate as a dashed line."""
    for row in comparison.rows:
        if row.demonstrators is not None:
            level = statistics.mean(row.demonstrators.win_rates)
            axes.axhline(level, color=DEMONSTRATORS_COLOR, linestyle="--", linewidth=1.3, zorder=2,
                         label=f"demonstrations ({level:.2f})")  # fmt: skip


def _draw_longer(axes: Axes, curve: MeasuredCurve, comparison: Comparison, color: str) -> None:
    budget, last = _budget(comparison), _end_of(curve, comparison)
    steps = np.array([0, *curve.env_steps], float)
    shown = np.linspace(budget, last, 200)
    rates = np.interp(shown, steps, (0.0, *curve.greedy_win_rates))
    axes.plot(shown, rates, color=color, linewidth=2.0, linestyle="-.")
    axes.set_facecolor("#f4f4f4")
    axes.set(xlabel=f"env steps, up to {last / budget:.0f} × the budget", xlim=(budget, last))
    axes.set_title(
        f"{curve.algorithm.upper()} trained longer: packaged curve, 1 seed\n{_settings_of(curve)}", fontsize=8.5
    )


def _settings_of(curve: MeasuredCurve) -> str:
    if not curve.learner_settings:
        return "(the map's published settings)"
    batch = curve.learner_settings.get("rollout.episodes")
    return "(the same settings)" if batch is None else f"(batches of {batch} battles)"


def _legend(row: ConditionResults) -> str:
    seeds = len(row.curves)
    return f"{row.label}, {f'{seeds} seeds' if seeds > 1 else f'seed {row.curves[0].seed}'}"


def _budget(comparison: Comparison) -> float:
    return float(max(curve.env_steps[-1] for row in comparison.evaluated for curve in row.curves))


def _end_of(curve: MeasuredCurve, comparison: Comparison) -> float:
    """Where the packaged curve is cut: at TIMES_THE_BUDGET, or at its own end."""
    return float(min(curve.env_steps[-1], TIMES_THE_BUDGET * _budget(comparison)))


def _median_and_range(values: Sequence[float]) -> str:
    middle, low, high = (f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} [{low}, {high}]"
