"""The evaluations of one run over its env steps, and the scores that are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dm2_ray.errors import UserError
from dm2_ray.runs.run_directory import RunDirectory

SMOOTHING = 3
"""Number of evaluations in the averages for "win rate X is reached" and for the final win rate."""


class NotEvaluated(UserError, ValueError):
    """A run has no evaluation yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """Greedy win rate and return over one run.

    Attributes:
        variant: Variant of the run.
        seed: Seed of the run.
        env_steps: Env steps at each evaluation.
        win_rates: Win rate of each evaluation.
        returns: Mean return of each evaluation.
        minutes: Duration of all iterations.
        is_finished: Whether the run has reached its limit.
    """

    variant: str
    seed: int
    env_steps: tuple[int, ...]
    win_rates: tuple[float, ...]
    returns: tuple[float, ...] = ()
    minutes: float = 0.0
    is_finished: bool = True

    @staticmethod
    def of(run: RunDirectory) -> LearningCurve:
        """Reads a run's evaluations, also of a run that is not finished.

        Raises:
            NotEvaluated: There is none yet.
        """
        experiment, records = run.experiment(), run.records()
        evaluated = [(record["env_steps"], record["evaluation"]) for record in records if "evaluation" in record]
        summary = json.loads(run.summary.read_text()) if run.summary.exists() else {}
        reached = records[-1]["env_steps"] if records else 0
        # A finished run that was resumed still has the summary of its first end.
        is_newest = bool(records) and summary.get("iterations") == records[-1]["iteration"]
        if is_newest and summary["final_evaluation"] is not None:
            # It replaces the last iteration's evaluation, which is of the same team in the same battles.
            evaluated = [point for point in evaluated if point[0] < reached]
            evaluated.append((reached, summary["final_evaluation"]))
        if not evaluated:
            raise NotEvaluated(f"{run.path} has not been evaluated yet")
        return LearningCurve(
            variant=experiment.variant,
            seed=experiment.seed,
            env_steps=tuple(steps for steps, _ in evaluated),
            win_rates=tuple(result["win_rate"] for _, result in evaluated),
            returns=tuple(result["return_mean"] for _, result in evaluated),
            # Summed over iterations, because wall_s restarts when a run is resumed.
            minutes=sum(record["timing"]["iteration_s"] for record in records) / 60,
            is_finished=is_newest and summary["status"] == "completed",
        )

    def env_steps_to(self, win_rate: float) -> float | None:
        """Env steps at which the moving average first reaches a win rate, interpolated; None if it never does.

        The average is over SMOOTHING evaluations: a single one of 128 battles has a standard error of 0.04, and greedy
        win rates vary between one policy and the next.
        """
        return first_reaching(self.env_steps, smoothed(self.win_rates), win_rate)

    @property
    def last_win_rate(self) -> float:
        """Win rate in the last evaluation."""
        return self.win_rates[-1]

    @property
    def final_win_rate(self) -> float:
        """Mean of the last SMOOTHING evaluations."""
        return _mean(self.win_rates[-SMOOTHING:])

    @property
    def final_return(self) -> float:
        """Mean of the last SMOOTHING evaluations."""
        return _mean(self.returns[-SMOOTHING:])

    @property
    def win_rate_area(self) -> float:
        """Area under the curve of win rates, divided by the run's env steps: the mean over the whole run."""
        return _area(self.env_steps, self.win_rates)

    @property
    def return_area(self) -> float:
        """The same for returns."""
        return _area(self.env_steps, self.returns)


def smoothed(values: Sequence[float]) -> tuple[float, ...]:
    """Moving average: each value becomes the mean of the last SMOOTHING values."""
    return tuple(_mean(values[max(0, end - SMOOTHING) : end]) for end in range(1, len(values) + 1))


def first_reaching(env_steps: Sequence[float], win_rates: Sequence[float], win_rate: float) -> float | None:
    """Env steps at which a curve that begins at 0 first reaches a win rate, interpolated; None if it never does."""
    previous = (0.0, 0.0)
    for point in zip(map(float, env_steps), win_rates, strict=True):
        if point[1] >= win_rate:
            share = (win_rate - previous[1]) / (point[1] - previous[1])
            return previous[0] + share * (point[0] - previous[0])
        previous = point
    return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _area(env_steps: Sequence[int], values: Sequence[float]) -> float:
    """Trapezoidal rule; before the first evaluation, its value is assumed."""
    if env_steps[-1] == 0:
        return values[-1]
    points = [(0, values[0]), *zip(env_steps, values, strict=True)]
    area = sum((right - left) * (first + second) / 2 for (left, first), (right, second) in pairwise(points))
    return area / env_steps[-1]
