"""The directory of one run.

RUN_DIR/
  config.yaml      the resolved configuration
  metrics.jsonl    one object per iteration
  checkpoints/     complete states
  tensorboard/     the same numbers as metrics.jsonl
  summary.json     how the run ended
  run.lock, generation.json    which driver writes here (run_lock.py)
  engine.json      backend and versions of the engine that the run has played on
  copied_as        name of the run's copy below checkpoint.uri, if it has one
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dm2_ray.config.documents import write_yaml
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import UserError
from dm2_ray.files import write_atomically
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world.engine_settings import ENGINE_VERSION

COPY_NAME_FILE = "copied_as"
ENGINE_FILE = "engine.json"


class RunDirectoryError(UserError, ValueError):
    """A directory is already in use, or is not a run directory."""


class RunDirectory:
    """The paths of one run. Nothing is read or written until a method is called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.summary = path / "summary.json"

    @staticmethod
    def create(path: Path, experiment: Experiment) -> RunDirectory:
        """Creates the directory of a new run.

        Raises:
            RunDirectoryError: The directory already contains a run.
        """
        run = RunDirectory(path)
        if run.config.exists() or run.metrics.exists():
            raise RunDirectoryError(
                f"{path} already contains a run: continue it with `dm2 resume {path}`, or choose another --run-dir"
            )
        path.mkdir(parents=True, exist_ok=True)
        write_yaml(experiment, run.config)
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """Opens the directory of an existing run.

        Raises:
            RunDirectoryError: `path` is not a run directory.
        """
        run = RunDirectory(path)
        if not run.config.is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has no config.yaml")
        return run

    def copy_name(self) -> str:
        """Name of the run's copies: that of the directory when the first copy was made, even if it has moved since."""
        path = self.path / COPY_NAME_FILE
        if not path.exists():
            write_atomically(path, self.path.absolute().name.encode() + b"\n")
        return path.read_text().strip()

    def note_engine(self, backend: str) -> None:
        """Stores the engine that the run is about to play on. Called at every start and resume."""
        path = self.path / ENGINE_FILE
        # Of StarCraft II, no version is known before a game has been started.
        current = [ENGINE_VERSION] if backend == "embedded" else []
        versions: list[str] = []
        if self.records():  # what was played before
            versions = json.loads(path.read_text())["versions"] if path.exists() else ["unknown"]
        content = {"backend": backend, "versions": list(dict.fromkeys([*versions, *current]))}
        write_atomically(path, json.dumps(content).encode() + b"\n")

    def engine(self) -> str | None:
        """Backend and version of the engine, for example "embedded 3".

        All versions are named if the run was resumed on another one. None if the run was started by a program that did
        not store them.
        """
        path = self.path / ENGINE_FILE
        if not path.exists():
            return None
        content = json.loads(path.read_text())
        return " ".join([content["backend"], ", ".join(content["versions"])]).strip()

    def experiment(self) -> Experiment:
        """The run's resolved configuration."""
        return load_experiment(self.config)

    def records(self) -> list[dict[str, Any]]:
        """The metrics of all iterations so far."""
        if not self.metrics.exists():
            return []
        with self.metrics.open() as lines:
            return [json.loads(line) for line in lines if line.endswith("\n")]
