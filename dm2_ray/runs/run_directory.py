"""Where a run keeps what it knows.

RUN_DIR/
  config.yaml      the resolved configuration
  metrics.jsonl    one object per iteration
  checkpoints/     complete states
  tensorboard/     the same numbers as metrics.jsonl
  summary.json     how the run ended
  run.lock, generation.json    who writes all this (claim.py)
  copied_as        name of the run's copy below checkpoint.uri, where it has one
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dm2_ray.config.documents import write_yaml
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import UserError
from dm2_ray.files import write_atomically
from dm2_ray.runs.experiment_loading import load_experiment

COPY_NAME_FILE = "copied_as"


class RunDirectoryError(UserError, ValueError):
    """A run directory is in use already, or is not one."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @staticmethod
    def create(path: Path, experiment: Experiment) -> RunDirectory:
        """Starts a new run directory.

        Raises:
            RunDirectoryError: The directory holds a run already.
        """
        run = RunDirectory(path)
        if run.config.exists() or run.metrics.exists():
            raise RunDirectoryError(
                f"{path} holds a run already: continue it with `dm2 resume {path}`, or choose another --run-dir"
            )
        path.mkdir(parents=True, exist_ok=True)
        write_yaml(experiment, run.config)
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """An existing run directory.

        Raises:
            RunDirectoryError: There is none.
        """
        run = RunDirectory(path)
        if not run.config.is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has no config.yaml")
        return run

    def copy_name(self) -> str:
        """Name of the run's copy elsewhere: the directory's, even where the run has moved since it first had one."""
        path = self.path / COPY_NAME_FILE
        if not path.exists():
            write_atomically(path, self.path.absolute().name.encode() + b"\n")
        return path.read_text().strip()

    def experiment(self) -> Experiment:
        """The run's resolved configuration."""
        return load_experiment(self.config)

    def records(self) -> list[dict[str, Any]]:
        """All iterations' metrics so far."""
        if not self.metrics.exists():
            return []
        with self.metrics.open() as lines:
            return [json.loads(line) for line in lines if line.endswith("\n")]
