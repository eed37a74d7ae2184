"""Copies a run to another place while it goes on: one copy at a time, in a thread of its own.

    checkpoint ─► (nothing under way?) ─► generation, config, metrics ─► missing checkpoints ─► superfluous ones go

A copy that fails is a warning; what it did not bring along comes with the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pyarrow as pa

from dm2_ray.checkpoints import Checkpoint, CheckpointError
from dm2_ray.checkpoints.checkpoint import directories, read_manifest
from dm2_ray.checkpoints.remote_copy import RemoteCopy, call_or_refuse, uri_join
from dm2_ray.checkpoints.retention import prunable_checkpoints
from dm2_ray.config.schema import CheckpointSettings
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.runs.run_lock import GENERATION_FILE, RunGeneration, RunLock, RunSuperseded
from dm2_ray.terminal import one_line

# At the end of a run, for the copy under way and the last one together.
logger = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 120.0
PLAIN_FILES = ("config.yaml", "wandb_run_id", "summary.json")


class Uploads:
    """Keeps the copy of a run up to date.

    Args:
        run: The run's directory.
        settings: Where to, and what is kept there.
        claim: The right to write; it is lost, too, where another driver has gone on from the copy.

    Raises:
        RemoteCopyError: The place cannot be used.
        RunDirectoryError: The copy there is another run's, or has been gone on with elsewhere.
    """

    def __init__(self, run: RunDirectory, settings: CheckpointSettings, claim: RunLock) -> None:
        assert settings.uri is not None
        self._run = run
        self._settings = settings
        self._claim = claim
        self._thread: threading.Thread | None = None
        self._names: set[str] = set()
        uri = uri_join(settings.uri, run.copy_name())
        self.remote = call_or_refuse(uri, lambda: RemoteCopy(uri))
        call_or_refuse(self.remote.uri, self._take_over)

    @property
    def being_copied(self) -> set[str]:
        """Names of the checkpoints that a copy under way may still read."""
        return self._names if self._thread is not None and self._thread.is_alive() else set()

    def start(self) -> None:
        """Begins to copy what is there now, unless a copy is under way."""
        if self._thread is not None and self._thread.is_alive():
            return
        entries = [entry for entry in map(read_manifest, directories(self._run.checkpoints)) if entry is not None]
        self._names = {entry.path.name for entry in entries}
        size = self._run.metrics.stat().st_size if self._run.metrics.exists() else 0
        self._thread = threading.Thread(target=self._copy, args=(entries, size), name="uploads", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits for the copy under way and makes a last one; gives up after FINISH_TIMEOUT_S with a warning."""
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        for begin in (lambda: None, self.start):
            begin()
            if self._thread is not None:
                self._thread.join(max(0.0, deadline - time.monotonic()))
                if self._thread.is_alive():
                    logger.warning(
                        f"{self.remote.uri}: not finished after {FINISH_TIMEOUT_S:.0f} s; what lies there is older "
                        f"than {self._run.path}"
                    )
                    return

    def _take_over(self) -> None:
        newest = self._generation()
        if newest is not None and newest.number >= self._claim.generation.number:
            raise RunDirectoryError(
                f"{self.remote.uri} holds {newest} of a run that this one does not come after: go on with that one "
                f"(dm2 resume {self.remote.uri} --run-dir DIR), or choose another --run-dir or checkpoint.uri"
            )
        self.remote.write(GENERATION_FILE, self._claim.generation.content())

    def _copy(self, checkpoints: list[Checkpoint], metrics_bytes: int) -> None:
        try:
            self._check()
            for name in PLAIN_FILES:
                if (path := self._run.path / name).exists():
                    self.remote.write(name, path.read_bytes())
            if metrics_bytes:
                self.remote.write(self._run.metrics.name, _start_of(self._run.metrics, metrics_bytes))
            for checkpoint in sorted(checkpoints, key=lambda entry: -entry.iteration):
                self.remote.copy_checkpoint(checkpoint, self._check)
            if checkpoints:
                self._remove_superfluous(max(entry.iteration for entry in checkpoints))
        except RunSuperseded:
            pass  # The claim knows, and tells the driver before its next record.
        except (OSError, pa.ArrowException, CheckpointError, RunDirectoryError) as error:
            logger.warning(
                f"{self.remote.uri}: copy not updated ({one_line(error)}); tried again with the next checkpoint"
            )

    def _remove_superfluous(self, newest_iteration: int) -> None:
        there = [entry for entry in self.remote.checkpoints() if entry.iteration <= newest_iteration]
        for entry in prunable_checkpoints(there, keep=self._settings.keep, keep_best=self._settings.keep_best):
            self._check()
            self.remote.remove_checkpoint(entry.path.name)

    def _check(self) -> None:
        self._claim.check()
        newest = self._generation()
        if newest is not None:
            self._claim.compare(newest)

    def _generation(self) -> RunGeneration | None:
        content = self.remote.read(GENERATION_FILE)
        return None if content is None else RunGeneration.of_content(content, f"{self.remote.uri}/{GENERATION_FILE}")


def _start_of(path: Path, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)
