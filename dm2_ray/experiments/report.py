"""Runs compared: a table and a picture from their metrics files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dm2_ray.experiments.run_directory import RunDirectory

THRESHOLDS = (0.5, 0.8)
SMOOTHING = 3
"""Evaluations behind "win rate X is reached"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Greedy win rate over the course of one run."""

    variant: str
    seed: int
    env_steps: tuple[int, ...]
    win_rates: tuple[float, ...]
    minutes: float

    @staticmethod
    def of(run: RunDirectory) -> Curve:
        """Reads a run's evaluations.

        Raises:
            ValueError: The run was never evaluated.
        """
        experiment, records = run.experiment(), run.records()
        evaluated = [(record["env_steps"], record["evaluation"]["win_rate"]) for record in records
                     if "evaluation" in record]  # fmt: skip
        summary = json.loads(run.summary.read_text())
        if summary["final_evaluation"] is not None:
            # Instead of an evaluation of the last iteration: the same battles of the same team.
            evaluated = [point for point in evaluated if point[0] < summary["env_steps"]]
            evaluated.append((summary["env_steps"], summary["final_evaluation"]["win_rate"]))
        if not evaluated:
            raise ValueError(f"{run.path} has no evaluation to draw")
        return Curve(
            variant=experiment.variant,
            seed=experiment.seed,
            env_steps=tuple(steps for steps, _ in evaluated),
            win_rates=tuple(rate for _, rate in evaluated),
            minutes=records[-1]["timing"]["wall_s"] / 60,
        )

    def env_steps_to(self, win_rate: float) -> float | None:
        """Env steps at which the moving average first reaches a win rate, interpolated; None if it never does.

        Of SMOOTHING evaluations: a single one of 128 battles is off by 0.04 (standard error), and greedy play swings
        between neighbouring policies.
        """
        previous = (0.0, 0.0)
        for last in range(len(self.env_steps)):
            window = self.win_rates[max(0, last - SMOOTHING + 1) : last + 1]
            point = (float(self.env_steps[last]), sum(window) / len(window))
            if point[1] >= win_rate:
                share = (win_rate - previous[1]) / (point[1] - previous[1])
                return previous[0] + share * (point[0] - previous[0])
            previous = point
        return None

    @property
    def final_win_rate(self) -> float:
        return self.win_rates[-1]


def summary_rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row per variant: medians over its seeds; a seed that never got there counts as infinitely late."""
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
                "final_win_rate": statistics.median(curve.final_win_rate for curve in own),
                "minutes": statistics.median(curve.minutes for curve in own),
            }
        )
    return rows


def table(curves: Sequence[Curve], demonstration_win_rates: Sequence[float]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | seeds | env steps to win rate 0.5 | to 0.8 | final greedy win rate | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary_rows(curves):
        reached = [_steps(row[f"env_steps_to_{threshold}"]) for threshold in THRESHOLDS]
        lines.append(
            f"| {row['variant'].upper()} | {row['seeds']} | {' | '.join(reached)} | "
            f"{row['final_win_rate']:.2f} | {row['minutes']:.1f} |"
        )
    shown = ", ".join(f"{rate:.2f}" for rate in demonstration_win_rates)
    lines.append(
        f"\nDemonstrations' own win rate: {shown}. Medians over seeds; a win rate is reached when the mean "
        f"of {SMOOTHING} evaluations reaches it."
    )
    return "\n".join(lines)


def draw(curves: Sequence[Curve], demonstration_win_rates: Sequence[float], title: str, path: Path) -> None:
    """Greedy win rate over env steps: a thin line per seed, a thick one through their medians."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    colours = {"dm2": "#c2410c", "ippo": "#1d4ed8"}
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), constrained_layout=True)
    for variant in dict.fromkeys(curve.variant for curve in curves):
        own = [curve for curve in curves if curve.variant == variant]
        colour = colours.get(variant)
        for curve in own:
            axes.plot(curve.env_steps, curve.win_rates, color=colour, linewidth=1, alpha=0.35 if len(own) > 1 else 1.0)
        if len(own) > 1:
            steps, medians = median_curve(own)
            axes.plot(steps, medians, color=colour, linewidth=2.5)
        label = {"dm2": "DM²", "ippo": "IPPO"}.get(variant, variant)
        axes.plot([], [], color=colour, linewidth=2.5, label=f"{label} ({len(own)} seed{'s' * (len(own) > 1)})")
    for index, rate in enumerate(demonstration_win_rates):
        name = "the demonstrations' own win rate" if index == 0 else None
        axes.axhline(rate, color="#444444", linestyle="--", linewidth=1.2, alpha=0.8, label=name)
    axes.set(xlabel="env steps", ylabel="greedy win rate", ylim=(-0.02, 1.02), title=title)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:.0f} k"))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def median_curve(curves: Sequence[Curve]) -> tuple[list[float], list[float]]:
    """Median over seeds of the interpolated curves, as far as all of them go."""
    import numpy as np

    last = min(curve.env_steps[-1] for curve in curves)
    steps = np.linspace(0, last, 100)
    rates = [np.interp(steps, (0, *curve.env_steps), (0.0, *curve.win_rates)) for curve in curves]
    return steps.tolist(), np.median(rates, axis=0).tolist()


def _steps(value: float) -> str:
    return "not reached" if value == float("inf") else f"{value:,.0f}"
