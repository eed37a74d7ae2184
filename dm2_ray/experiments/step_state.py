"""Progress of a step, read from the files that it wrote."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dm2_ray.config.documents import experiment_hash
from dm2_ray.config.overrides import flattened
from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations import DemonstrationError, JointTrajectories
from dm2_ray.experiments.steps import Step
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.zoo import TeamManifest

# More than the longest line of metrics.jsonl.
_TAIL_BYTES = 2**18


@dataclass(frozen=True, kw_only=True, slots=True)
class StepState:
    """Progress of a step.

    Attributes:
        status: Whether it has started, is finished, or left a damaged demonstration set.
        env_steps: Env steps of the run or the set.
        win_rate: Win rate of a run's last iteration, or of a set.
        teams: Names of packed teams and their greedy win rates.
        greedy_win_rate: Win rate of a run's last evaluation.
        problem: What is wrong with a damaged set.
    """

    status: Literal["new", "started", "finished", "damaged"]
    env_steps: int = 0
    win_rate: float | None = None
    greedy_win_rate: float | None = None
    teams: Mapping[str, float | None] = field(default_factory=dict)
    problem: str | None = None


def state_of(step: Step) -> StepState:
    """Reads a step's state.

    Raises:
        RunDirectoryError: The existing files were written with other settings.
        PackedTeamError: A packed team is damaged.
    """
    if step.kind == "pack":
        return _teams_state(step)
    return _run_state(step) if step.kind == "train" else _set_state(step)


def _run_state(step: Step) -> StepState:
    run, planned = RunDirectory(step.path), step.experiment
    assert planned is not None
    if not run.config.is_file():
        return StepState(status="new")
    check_same_settings(run, planned)
    last = last_record(run.metrics)
    summary = json.loads(run.summary.read_text()) if run.summary.exists() else {}
    evaluation = summary.get("final_evaluation") or last.get("evaluation") or {}
    limits = planned.stop
    is_finished = summary.get("status") == "completed" and (
        (limits.env_steps is not None and summary["env_steps"] >= limits.env_steps)
        or (limits.iterations is not None and summary["iterations"] >= limits.iterations)
    )
    return StepState(
        status="finished" if is_finished else "started",
        env_steps=int(last.get("env_steps", 0)),
        win_rate=last.get("win_rate"),
        greedy_win_rate=evaluation.get("win_rate"),
    )


def _set_state(step: Step) -> StepState:
    assert step.recorded is not None
    if not step.path.exists():
        return StepState(status="new")
    try:
        manifest = JointTrajectories.open(step.path).manifest
    except DemonstrationError as error:
        return StepState(status="damaged", problem=str(error))
    for name, wanted in asdict(step.recorded).items():
        if name == "source" and wanted is None:
            continue
        own = manifest.episodes if name == "episodes" else getattr(manifest.policy, name)
        if own != wanted:
            raise RunDirectoryError(
                f"{step.path} was recorded with {name} {own}, now it is {wanted}: choose another --run-dir, or remove "
                "that set"
            )
    return StepState(status="finished", env_steps=manifest.env_steps, win_rate=manifest.win_rate)


def _teams_state(step: Step) -> StepState:
    if not all(path.exists() for path in step.teams):
        return StepState(status="new")
    manifests = [TeamManifest.read(path) for path in step.teams]
    rates = {manifest.name: manifest.greedy.win_rate if manifest.greedy else None for manifest in manifests}
    return StepState(status="finished", teams=rates)


def check_same_settings(run: RunDirectory, planned: Experiment) -> None:
    """Raises RunDirectoryError if a run was started with settings that give other results than the planned ones."""
    existing = run.experiment()
    if experiment_hash(existing) == experiment_hash(planned):
        return
    ignored = {"stop", "checkpoint", "tracking"}
    old, new = (flattened(experiment.model_dump(mode="json", exclude=ignored)) for experiment in (existing, planned))
    key = next(key for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    raise RunDirectoryError(
        f"{run.path} was started with {key} {old.get(key)!r}, now it is {new.get(key)!r}: choose another --run-dir, or "
        "remove that run"
    )


def last_record(metrics: Path) -> dict[str, Any]:
    """The last complete line of a metrics file; empty if there is none."""
    return next(latest_records(metrics), {})


def latest_records(metrics: Path) -> Iterator[dict[str, Any]]:
    """The last complete lines of a metrics file, newest first."""
    try:
        with open(metrics, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return
    # What follows the last newline is still being written.
    for line in reversed(lines[:-1]):
        # The first of them may have lost its beginning.
        with contextlib.suppress(ValueError):
            yield dict(json.loads(line))
