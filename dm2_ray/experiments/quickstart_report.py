"""Result of the quickstart: a table and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dm2_ray.experiments.comparison import Comparison, ConditionResults, Demonstrators
from dm2_ray.experiments.comparison_plot import draw_comparison
from dm2_ray.experiments.learning_curve import SMOOTHING, LearningCurve
from dm2_ray.terminal import format_markdown_table

THRESHOLDS = (0.5, 0.8)
_LABELS = {"dm2": "DM²", "ippo": "IPPO"}


def summary_rows(curves: Sequence[LearningCurve]) -> list[dict[str, Any]]:
    """One row per variant: medians over its seeds. A seed that never reaches a win rate counts as infinity."""
    rows = []
    for variant in dict.fromkeys(curve.variant for curve in curves):
        own = [curve for curve in curves if curve.variant == variant]
        reached = {
            threshold: statistics.median(
                float("inf") if (steps := curve.env_steps_to(threshold)) is None else steps for curve in own
            )
            for threshold in THRESHOLDS
        }
        rows.append(
            {
                "variant": variant,
                "seeds": len(own),
                **{f"env_steps_to_{threshold}": reached[threshold] for threshold in THRESHOLDS},
                "final_win_rate": statistics.median(curve.last_win_rate for curve in own),
                "minutes": statistics.median(curve.minutes for curve in own),
            }
        )
    return rows


def quickstart_table(curves: Sequence[LearningCurve], demonstration_win_rates: Sequence[float]) -> str:
    """The summary rows as a Markdown table."""
    header = ["", "seeds", "env steps to win rate 0.5", "to 0.8", "final greedy win rate", "minutes"]
    rows = []
    for row in summary_rows(curves):
        reached = [_steps(row[f"env_steps_to_{threshold}"]) for threshold in THRESHOLDS]
        rows.append(
            [
                row["variant"].upper(),
                str(row["seeds"]),
                *reached,
                f"{row['final_win_rate']:.2f}",
                f"{row['minutes']:.1f}",
            ]
        )
    shown = ", ".join(f"{rate:.2f}" for rate in demonstration_win_rates)
    return (
        f"{format_markdown_table(header, rows)}\n\nDemonstrations' own win rate: {shown}. Medians over seeds; "
        f"a win rate is reached when the mean of {SMOOTHING} evaluations reaches it."
    )


def draw_quickstart(
    curves: Sequence[LearningCurve], demonstration_win_rates: Sequence[float], map_name: str, path: Path
) -> None:
    """Draws greedy win rates over env steps, and final win rates."""
    shown = Demonstrators(name="demonstrations", win_rates=tuple(demonstration_win_rates), returns=())
    rows = []
    for variant in dict.fromkeys(curve.variant for curve in curves):
        own = tuple(curve for curve in curves if curve.variant == variant)
        rows.append(
            ConditionResults(
                name=variant,
                label=_LABELS.get(variant, variant),
                curves=own,
                planned=len(own),
                demonstrators=shown if variant == "dm2" else None,
            )
        )
    comparison = Comparison(title="Quickstart", map=map_name, rows=tuple(rows), thresholds=THRESHOLDS)
    draw_comparison(comparison, path)


def _steps(value: float) -> str:
    return "not reached" if value == float("inf") else f"{value:,.0f}"
