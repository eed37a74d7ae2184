"""Learning curves that were measured on the embedded engine and are packaged: data/measured_curves.json.

    for curve in load_measured_curves():
        plt.plot(curve.env_steps, curve.greedy_win_rates, label=f"{curve.map} {curve.algorithm} seed {curve.seed}")

The file is a JSON object; the keys of a curve are the fields of `MeasuredCurve`:

    {"format": "dm2-ray-measured-curves-1", "curves": [
      {"map": "5m_vs_6m", "algorithm": "ippo", "seed": 0, "engine": "embedded 3", "settings": {…}, "command": "dm2 …",
       "env_steps": […], "training_win_rates": […], "greedy_win_rates": […]},
      …
    ]}

`dm2 maps calibrate --from RUN … --save FILE` writes such a file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from dm2_ray.config.errors import ConfigError, format_validation_error
from dm2_ray.config.overrides import flattened
from dm2_ray.config.schema import Experiment, Section
from dm2_ray.experiments.learning_curve import LearningCurve, smoothed
from dm2_ray.files import write_atomically
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory

MOST_POINTS = 60
"""Curves that are saved are thinned to at most so many points."""
EXECUTION_SETTINGS = (
    "rollout.env_runners", "rollout.max_env_runners", "rollout.tasks",
    "rollout.cpus_per_env_runner", "rollout.timeout_s", "learners.", "evaluation.", "diagnostics.", "faults.",
)  # fmt: skip
"""Settings (a dot at the end: whole sections) that decide where a run is computed and how it is watched, not how a team
learns."""

WinRates = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(strict=False)]


class MeasuredCurve(Section):
    """Win rates over the env steps of one run."""

    map: str
    algorithm: str
    """The run's variant, for example ippo or mappo."""
    seed: int = Field(ge=0)
    engine: str | None
    """Backend and version on which the run played, for example "embedded 3"; None if the run does not know it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that differ from those that the algorithm has on this map by default, with dotted keys; without stop,
    checkpoint and tracking, which do not change what is learned."""
    command: str
    """The command that trains the same team."""
    env_steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
    """Env steps at the evaluations, increasing."""
    training_win_rates: WinRates
    """Win rate of all training battles since the previous point; the actions are sampled."""
    greedy_win_rates: WinRates
    """Win rate of the greedy team: mean of the last three evaluations, as in reports."""

    @model_validator(mode="after")
    def _check_lengths(self) -> MeasuredCurve:
        if not len(self.env_steps) == len(self.training_win_rates) == len(self.greedy_win_rates):
            raise ValueError("env_steps, training_win_rates and greedy_win_rates differ in length")
        if any(left >= right for left, right in pairwise(self.env_steps)):
            raise ValueError("env_steps do not increase")
        return self

    @staticmethod
    def of(run: RunDirectory, engine: str | None) -> MeasuredCurve:
        """Reads a run, finished or not; every evaluation is a point.

        Args:
            run: The run.
            engine: Backend and version on which it played.

        Raises:
            NotEvaluated: The run has no evaluation yet.
        """
        curve, experiment = LearningCurve.of(run), run.experiment()
        records = run.records()
        steps = np.array([0, *(record["env_steps"] for record in records)])
        # Battles won up to each iteration: differences give the win rate between two points.
        battles = np.array([0, *(record["episodes"] for record in records)])
        won = np.cumsum([0.0, *(record["win_rate"] or 0.0 for record in records)] * np.diff(battles, prepend=0))
        at = np.searchsorted(steps, curve.env_steps)
        before = np.array([0, *at[:-1]])
        played = np.maximum(battles[at] - battles[before], 1)
        settings = differing_settings(experiment)
        return MeasuredCurve(
            map=experiment.world.map,
            algorithm=experiment.variant,
            seed=experiment.seed,
            engine=engine,
            settings=settings,
            command=_command(experiment, settings, curve.env_steps[-1]),
            env_steps=curve.env_steps,
            training_win_rates=tuple(((won[at] - won[before]) / played).clip(0, 1).tolist()),
            greedy_win_rates=smoothed(curve.win_rates),
        )

    def thinned(self, most: int = MOST_POINTS) -> MeasuredCurve:
        """The same curve with at most `most` points, the last one included, and win rates rounded to four digits."""
        count = len(self.env_steps)
        kept = np.linspace(count - 1, 0, min(most, count)).round().astype(int)[::-1]
        starts = [0, *(kept[:-1] + 1)]
        # Training battles belong to all points; their win rates are averaged, weighted by env steps.
        lengths = np.diff(self.env_steps, prepend=0)
        training = [
            float(np.average(self.training_win_rates[start : end + 1], weights=lengths[start : end + 1] + 1e-9))
            for start, end in zip(starts, kept, strict=True)
        ]
        return self.model_copy(
            update={
                "env_steps": tuple(self.env_steps[index] for index in kept),
                "training_win_rates": tuple(round(rate, 4) for rate in training),
                "greedy_win_rates": tuple(round(self.greedy_win_rates[index], 4) for index in kept),
            }
        )

    @property
    def learner_settings(self) -> dict[str, Any]:
        """The settings that change how the team learns: empty for the map's published settings."""
        return {key: value for key, value in self.settings.items() if not key.startswith(EXECUTION_SETTINGS)}

    def win_rate_at(self, env_steps: float) -> float | None:
        """Greedy win rate after so many env steps, interpolated; None beyond the end of the curve."""
        if env_steps > self.env_steps[-1]:
            return None
        return float(np.interp(env_steps, (0, *self.env_steps), (0.0, *self.greedy_win_rates)))


def load_measured_curves(path: Path | None = None) -> tuple[MeasuredCurve, ...]:
    """The packaged curves, or those of another file, ordered by map, algorithm and seed.

    Raises:
        ConfigError: The file cannot be read, or is not such a file.
    """
    source = resources.files("dm2_ray.experiments").joinpath("data/measured_curves.json") if path is None else path
    name = "data/measured_curves.json" if path is None else str(path)
    try:
        content = _CurvesFile.model_validate_json(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from None
    except ValidationError as refusal:
        problem = format_validation_error(refusal.errors(include_url=False)[0], _CurvesFile)
        raise ConfigError(f"{name}: {problem}") from None
    return _in_order(content.curves)


def write_measured_curves(curves: Iterable[MeasuredCurve], path: Path) -> None:
    """Writes curves to a file, thinned, one per line; a curve that the file already has is replaced.

    Raises:
        ConfigError: The file exists and is not such a file.
    """
    old = load_measured_curves(path) if path.exists() else ()
    merged = {_identity(curve): curve for curve in (*old, *(curve.thinned() for curve in curves))}
    lines = [json.dumps(curve.model_dump(mode="json"), ensure_ascii=False) for curve in _in_order(merged.values())]
    body = ",\n".join(lines)
    write_atomically(path, f'{{"format": "{_FORMAT}", "curves": [\n{body}\n]}}\n'.encode())


def differing_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings of a run that differ from those of its variant on its map, with dotted keys.

    Stop, checkpoint and tracking are left out, and so is the seed.
    """
    ignored = {"seed", "stop", "checkpoint", "tracking"}
    usual = load_experiment(variant=experiment.variant, map_name=experiment.world.map)
    own, others = (flattened(each.model_dump(mode="json", exclude=ignored)) for each in (experiment, usual))
    return {key: own.get(key) for key in sorted({*own, *others}) if own.get(key) != others.get(key)}


_FORMAT = "dm2-ray-measured-curves-1"


class _CurvesFile(Section):
    format: Literal["dm2-ray-measured-curves-1"]
    curves: tuple[MeasuredCurve, ...]


def _command(experiment: Experiment, settings: dict[str, Any], env_steps: int) -> str:
    limit = experiment.stop.env_steps or env_steps
    words = ["dm2", "train", "--variant", experiment.variant, "--map", experiment.world.map]
    words += ["--seed", str(experiment.seed), "--env-steps", str(limit)]
    return shlex.join([*words, *(f"{key}={value if isinstance(value, str) else json.dumps(value)}"
                                 for key, value in settings.items())])  # fmt: skip


def _identity(curve: MeasuredCurve) -> tuple[object, ...]:
    settings = json.dumps(curve.learner_settings, sort_keys=True)
    return curve.map, curve.algorithm, settings, curve.engine, curve.seed


def _in_order(curves: Iterable[MeasuredCurve]) -> tuple[MeasuredCurve, ...]:
    return tuple(sorted(curves, key=lambda curve: tuple(map(str, _identity(curve)[:-1])) + (f"{curve.seed:09d}",)))
