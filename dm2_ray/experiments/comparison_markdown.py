"""A comparison as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from dm2_ray.experiments.comparison import NEVER, Comparison, ConditionResults, env_steps_to, improvements
from dm2_ray.experiments.learning_curve import SMOOTHING
from dm2_ray.statistics import Estimate, interquartile_mean
from dm2_ray.terminal import format_markdown_table


def markdown(comparison: Comparison) -> str:
    """The whole report of one map."""
    rows = comparison.evaluated
    parts = [f"# {comparison.title}: {comparison.map}"]
    if comparison.paper:
        parts.append(f"The paper: {comparison.paper}")
    if not rows:
        return "\n\n".join([*parts, "No run has been evaluated yet."]) + "\n"
    parts += [_state(comparison), _main_table(comparison, rows)]
    parts.append(
        f"Median over seeds [lowest, highest]. The final win rate is the mean of a run's last {SMOOTHING} evaluations "
        f"of the greedy team; a win rate is reached when the mean of {SMOOTHING} evaluations reaches it; areas are "
        "divided by a run's env steps, so that they are means over the whole run."
    )
    parts += [_estimates_table([comparison]), _demonstrations_table(rows), _uses_table(rows)]
    if comparison.commands:
        parts.append("## The same step by step\n\n```\n" + "\n".join(comparison.commands) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def numbers(comparison: Comparison) -> str:
    """The main table only, for the terminal."""
    rows = comparison.evaluated
    return _main_table(comparison, rows) if rows else "no run has been evaluated yet"


def overall_markdown(comparisons: Sequence[Comparison]) -> str:
    """Statistics over several maps."""
    return f"# Over {', '.join(comparison.map for comparison in comparisons)}\n\n{_estimates_table(comparisons)}\n"


def _state(comparison: Comparison) -> str:
    lines = []
    for row in comparison.rows:
        unfinished = [curve for curve in row.curves if not curve.is_finished]
        missing = row.planned - len(row.curves)
        what = [f"seed {curve.seed} at {curve.env_steps[-1]:,} env steps" for curve in unfinished]
        if missing:
            what.append(f"{missing} without an evaluation")
        if what:
            lines.append(f"- {row.label}: {', '.join(what)}")
    if not lines:
        return ""
    return "Unfinished runs, which count with the evaluations they have:\n" + "\n".join(lines)


def _main_table(comparison: Comparison, rows: Sequence[ConditionResults]) -> str:
    header = ["", "runs", "final win rate"]
    header += [f"env steps to {threshold:g}" for threshold in comparison.thresholds]
    header += ["area, win rate", "area, return", "final return", "minutes"]
    lines = []
    for row in rows:
        cells = [row.label, f"{row.finished}/{row.planned}", _cell(row.scores("final_win_rate"), "{:.2f}".format)]
        for threshold in comparison.thresholds:
            cells.append(_cell(env_steps_to(row, threshold), _steps) if row.learns else "")
        if row.learns:
            cells.append(_cell(row.scores("win_rate_area"), "{:.2f}".format))
            cells.append(_cell(row.scores("return_area"), "{:.1f}".format))
        else:
            cells += ["", ""]
        cells.append(_cell(row.scores("final_return"), "{:.1f}".format))
        cells.append(_cell([curve.minutes for curve in row.curves], "{:.0f}".format) if row.learns else "")
        lines.append(cells)
    return format_markdown_table(header, lines)


def _estimates_table(comparisons: Sequence[Comparison]) -> str:
    """Interquartile means, and for pairs the probability of improvement."""
    labels = {row.name: row.label for comparison in comparisons for row in comparison.evaluated}
    wins = improvements(comparisons, "final_win_rate")
    estimates = {(first.name, second.name): estimate for first, second, estimate in wins}
    names = list(labels)
    lines = []
    for name in names:
        found = [row for comparison in comparisons for row in comparison.evaluated if row.name == name]
        final = interquartile_mean([row.scores("final_win_rate") for row in found])
        area = interquartile_mean([row.scores("win_rate_area") for row in found])
        pairs = []
        for other in names[1:]:
            estimate = estimates.get((name, other))
            pairs.append("" if estimate is None else _estimate(estimate))
        lines.append([labels[name], _estimate(final), _estimate(area), *pairs])
    header = ["", "final win rate", "area, win rate", *(f"P( > {labels[other]})" for other in names[1:])]
    text = "Interquartile means over runs, with 95 % intervals of a stratified bootstrap"
    if len(names) > 1:
        text += "; P( > …) is the probability that a run of the row ends at a higher win rate than a run of the column"
    return f"## Statistics\n\n{text}.\n\n{format_markdown_table(header, lines)}"


def _demonstrations_table(rows: Sequence[ConditionResults]) -> str:
    shown = {row.demonstrators.name: row.demonstrators for row in rows if row.demonstrators is not None}
    if not shown:
        return ""
    lines = [
        [name, str(len(who.win_rates)), ", ".join(f"{rate:.2f}" for rate in who.win_rates),
         ", ".join(f"{value:.1f}" for value in who.returns)]
        for name, who in shown.items()
    ]  # fmt: skip
    return "## Demonstrations\n\n" + format_markdown_table(["set", "teams", "own win rate", "own return"], lines)


def _uses_table(rows: Sequence[ConditionResults]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row.uses))
    if not keys:
        return ""
    lines = [[row.label, *(_plain(row.uses[key]) if key in row.uses else "" for key in keys)] for row in rows]
    return "## Settings of the conditions\n\n" + format_markdown_table(["", *keys], lines)


def _cell(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """Median, and the range if it is not a single value."""
    middle, low, high = shown(statistics.median(values)), shown(min(values)), shown(max(values))
    return middle if low == high else f"{middle} [{low}, {high}]"


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _steps(value: float) -> str:
    if value == NEVER:
        return "never"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:.0f}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
