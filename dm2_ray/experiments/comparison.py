"""Compares conditions (groups of runs) on one map: the numbers of result.json, result.md and result.png."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from dm2_ray.experiments.learning_curve import LearningCurve
from dm2_ray.statistics import Estimate, interquartile_mean, probability_of_improvement

METRICS: dict[str, Callable[[LearningCurve], float]] = {
    "final_win_rate": lambda curve: curve.final_win_rate,
    "final_return": lambda curve: curve.final_return,
    "win_rate_area": lambda curve: curve.win_rate_area,
    "return_area": lambda curve: curve.return_area,
}
"""Scores of a run; for all of them, higher is better."""

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstrators:
    """The teams that a condition learns from; `win_rates` and `returns` are those of their demonstrations, per team."""

    name: str
    win_rates: tuple[float, ...]
    returns: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionResults:
    """The runs of one condition on one map.

    Attributes:
        name: Name of the condition.
        label: Name in tables and pictures.
        curves: Learning curves of the runs that have been evaluated.
        planned: Number of runs when the experiment is finished.
        learns: False for a scripted team, which has no learning curve.
        demonstrators: The teams that it learns from.
        uses: Settings that a reader of the numbers must know.
    """

    name: str
    label: str
    curves: tuple[LearningCurve, ...]
    planned: int
    learns: bool = True
    demonstrators: Demonstrators | None = None
    uses: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        return sum(curve.is_finished for curve in self.curves)

    def scores(self, metric: str) -> list[float]:
        """One number per run."""
        return [METRICS[metric](curve) for curve in self.curves]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Conditions on one map; `commands` are those that repeat the runs."""

    title: str
    map: str
    rows: tuple[ConditionResults, ...]
    thresholds: tuple[float, ...]
    paper: str | None = None
    commands: tuple[str, ...] = ()

    @property
    def evaluated(self) -> list[ConditionResults]:
        """Conditions with at least one evaluated run."""
        return [row for row in self.rows if row.curves]

    def record(self) -> dict[str, Any]:
        """The comparison as a JSON object; durations are under `timing`.

        Env steps to a win rate that is never reached are null; their median is null if at least half of the runs never
        reach it.
        """
        return {
            "title": self.title,
            "paper": self.paper,
            "map": self.map,
            "thresholds": list(self.thresholds),
            "rows": [self._row_record(row) for row in self.rows],
            "improvement": [
                {"row": row.name, "over": other.name, "metric": metric, **asdict(estimate)}
                for metric in METRICS
                for (row, other, estimate) in improvements([self], metric)
            ],
            "commands": list(self.commands),
            "timing": {
                row.name: {"minutes": _spread([curve.minutes for curve in row.curves], row.curves)}
                for row in self.evaluated
                if row.learns
            },
        }

    def _row_record(self, row: ConditionResults) -> dict[str, Any]:
        record: dict[str, Any] = {
            "name": row.name,
            "label": row.label,
            "runs": {"planned": row.planned, "evaluated": len(row.curves), "finished": row.finished},
            "demonstrations": None if row.demonstrators is None else asdict(row.demonstrators),
            "uses": row.uses,
        }
        if not row.curves:
            return record
        for metric in METRICS:
            scores = row.scores(metric)
            record[metric] = {**_spread(scores, row.curves), "interquartile_mean": asdict(interquartile_mean([scores]))}
        if row.learns:
            record["env_steps"] = _spread([curve.env_steps[-1] for curve in row.curves], row.curves)
            record["env_steps_to"] = {
                f"{threshold:g}": _spread(env_steps_to(row, threshold), row.curves) for threshold in self.thresholds
            }
        return record


def env_steps_to(row: ConditionResults, threshold: float) -> list[float]:
    """Env steps to a win rate, per run; infinite where it is never reached."""
    reached = [curve.env_steps_to(threshold) for curve in row.curves]
    return [NEVER if steps is None else steps for steps in reached]


def improvements(
    comparisons: Sequence[Comparison], metric: str
) -> list[tuple[ConditionResults, ConditionResults, Estimate]]:
    """Pairs of conditions and the probability that a run of the first scores higher than one of the second, over all
    maps on which both have runs."""
    found = []
    names = list(dict.fromkeys(row.name for comparison in comparisons for row in comparison.evaluated))
    for name, other in combinations(names, 2):
        pairs = []
        for comparison in comparisons:
            rows = {row.name: row for row in comparison.evaluated}
            if name in rows and other in rows:
                pairs.append((rows[name], rows[other]))
        if pairs:
            estimate = probability_of_improvement(
                [first.scores(metric) for first, _ in pairs], [second.scores(metric) for _, second in pairs]
            )
            found.append((*pairs[0], estimate))
    return found


def _spread(values: Sequence[float], curves: Sequence[LearningCurve]) -> dict[str, Any]:
    def finite(value: float) -> float | None:
        return None if value == NEVER else value

    return {
        "median": finite(statistics.median(values)),
        "low": finite(min(values)),
        "high": finite(max(values)),
        "by_seed": {str(curve.seed): finite(value) for curve, value in zip(curves, values, strict=True)},
    }
