"""Writes a run's metrics to all outputs, from the driver only.

record of an iteration ─► metrics.jsonl   always; read by reports, resume and comparisons
                       ├► tensorboard/    the same numbers, flat
                       └► W&B             the same numbers, flat
end of the run ─────────► summary.json    how it ended, its last and best results
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from dm2_ray.config.documents import experiment_hash
from dm2_ray.config.schema import Experiment
from dm2_ray.files import write_atomically
from dm2_ray.tracking.metrics_log import MetricsLog, Record, flatten

Status = Literal["completed", "interrupted", "failed"]


class Tracker:
    """The records of one run.

    A record is a mapping with at least `iteration` and `env_steps`. Numbers per agent are under `agents`, results of an
    evaluation under `evaluation`, and whatever depends on the clock or the machine under `timing`.

    Args:
        run_dir: Directory of the run.
        experiment: The run's configuration.
        resumed_iteration: The iteration after which an interrupted run continues; None for a new run.
        fence: Called before anything is written; raises if another process has taken over the run.

    Raises:
        TrackingError: `run_dir` contains records that this run cannot continue.
    """

    def __init__(
        self,
        run_dir: Path,
        experiment: Experiment,
        *,
        resumed_iteration: int | None = None,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        fence()
        self._fence = fence
        self._run_dir = run_dir
        self._experiment = experiment
        self._started = time.monotonic()
        self._log = MetricsLog(run_dir / "metrics.jsonl", resumed_iteration)
        self._last: Record = {}
        self._evaluations: list[Record] = []
        for record in self._log.records:
            self._remember(record)
        self._tensorboard = None
        if experiment.tracking.tensorboard:
            # Takes 1.4 s to import, which a run without it need not wait for; wandb takes 0.6 s.
            from dm2_ray.tracking.tensorboard_events import TensorBoardEvents

            # Removes the events of repeated iterations from the curves.
            purge_step = None if resumed_iteration is None else self._last.get("env_steps", -1) + 1
            self._tensorboard = TensorBoardEvents(run_dir / "tensorboard", purge_step)
        self._wandb = None
        if experiment.tracking.wandb != "disabled":
            from dm2_ray.tracking.wandb_run import WandbRun

            earlier = {record["iteration"]: dict(flatten(record)) for record in self._log.records}
            self._wandb = WandbRun(run_dir, experiment, earlier=earlier)

    def log(self, record: Mapping[str, Any]) -> None:
        """Writes the record of an iteration to all outputs.

        Raises:
            ValueError: Its `iteration` is not greater than that of the last record.
            OSError: The run directory cannot be written to.
        """
        self._fence()
        written = self._log.append(record)
        self._remember(written)
        values = dict(flatten(written))
        if self._tensorboard is not None:
            self._tensorboard.log(written["env_steps"], values)
        if self._wandb is not None:
            self._wandb.log(written["iteration"], values)

    def finish(self, status: Status, **extra: Any) -> Record:
        """Writes summary.json, closes all outputs, and returns the summary, to which `extra` is added."""
        summary = {
            "status": status,
            "map": self._experiment.world.map,
            "variant": self._experiment.variant,
            "seed": self._experiment.seed,
            "experiment": experiment_hash(self._experiment),
            "iterations": self._last.get("iteration", 0),
            **{name: self._last.get(name) for name in ("env_steps", "episodes", "win_rate", "return_mean")},
            "evaluation": self._evaluations[-1] if self._evaluations else None,
            # The earliest in a tie.
            "best_evaluation": max(self._evaluations, key=lambda entry: entry["win_rate"], default=None),
            **extra,
            "timing": {"wall_s": time.monotonic() - self._started},
        }
        self._fence()
        write_atomically(self._run_dir / "summary.json", json.dumps(summary, indent=2).encode() + b"\n")
        self._close(exit_code=0 if status == "completed" else 1)
        return summary

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(exit_code=0 if error is None else 1)

    def _remember(self, record: Record) -> None:
        self._last = record
        if evaluation := record.get("evaluation"):
            where = {name: record[name] for name in ("iteration", "env_steps")}
            self._evaluations.append({**where, **evaluation})

    def _close(self, exit_code: int) -> None:
        self._log.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code)
