"""Copies a run to another location during training, in a background thread, one copy at a time.

    checkpoint ─► (no copy running?) ─► config, metrics ─► missing checkpoints ─► prune superfluous ones

A failed copy is a warning; the next copy includes what is missing.
"""

from __future__ import annotations

import logging
import threading
import time

import pyarrow as pa

from dm2_ray.checkpoints import Checkpoint, CheckpointError
from dm2_ray.checkpoints.checkpoint import listed_checkpoints
from dm2_ray.checkpoints.remote_copy import RemoteCopy, call_or_refuse, uri_join
from dm2_ray.checkpoints.retention import prunable_checkpoints
from dm2_ray.config.schema import CheckpointSettings
from dm2_ray.runs.run_directory import ENGINE_FILE, RunDirectory, RunDirectoryError
from dm2_ray.runs.run_lock import GENERATION_FILE, RunGeneration, RunLock, RunSuperseded
from dm2_ray.terminal import one_line

logger = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 120.0
"""At the end of a run, for the running copy and the last one together."""
PLAIN_FILES = ("config.yaml", ENGINE_FILE, "wandb_run_id", "summary.json")


class Uploads:
    """Keeps the copy of a run up to date.

    Args:
        run: The run's directory.
        settings: Location of the copies, and which checkpoints are kept there.
        lock: The lock on the run; it is also lost if another driver has resumed the run from the copy.

    Raises:
        RemoteCopyError: The location cannot be used.
        RunDirectoryError: The copy there belongs to another run, or was continued elsewhere.
    """

    def __init__(self, run: RunDirectory, settings: CheckpointSettings, lock: RunLock) -> None:
        assert settings.uri is not None
        self._run = run
        self._settings = settings
        self._lock = lock
        self._thread: threading.Thread | None = None
        self._names: set[str] = set()
        uri = uri_join(settings.uri, run.copy_name())
        self.remote = call_or_refuse(uri, lambda: RemoteCopy(uri))
        call_or_refuse(self.remote.uri, self._take_over)

    @property
    def being_copied(self) -> set[str]:
        """Names of the checkpoints that the running copy may still read."""
        return self._names if self._thread is not None and self._thread.is_alive() else set()

    def start(self) -> None:
        """Starts a copy of the run's present state, unless a copy is running."""
        if self._thread is not None and self._thread.is_alive():
            return
        checkpoints = listed_checkpoints(self._run.checkpoints)
        self._names = {checkpoint.path.name for checkpoint in checkpoints}
        size = self._run.metrics.stat().st_size if self._run.metrics.exists() else 0
        self._thread = threading.Thread(target=self._copy, args=(checkpoints, size), name="uploads", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits for the running copy and makes a last one; gives up after FINISH_TIMEOUT_S with a warning."""
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        for begin in (lambda: None, self.start):
            begin()
            if self._thread is not None:
                self._thread.join(max(0.0, deadline - time.monotonic()))
                if self._thread.is_alive():
                    logger.warning(
                        f"{self.remote.uri}: not finished after {FINISH_TIMEOUT_S:.0f} s; this copy is older than "
                        f"{self._run.path}"
                    )
                    return

    def _take_over(self) -> None:
        newest = self._generation()
        if newest is not None and newest.number >= self._lock.generation.number:
            raise RunDirectoryError(
                f"{self.remote.uri} contains {newest} of another run, or of a continuation of this one: resume that "
                f"(dm2 resume {self.remote.uri} --run-dir DIR), or choose another --run-dir or checkpoint.uri"
            )
        self.remote.write(GENERATION_FILE, self._lock.generation.to_bytes())

    def _copy(self, checkpoints: list[Checkpoint], metrics_bytes: int) -> None:
        try:
            self._check()
            for name in PLAIN_FILES:
                if (path := self._run.path / name).exists():
                    self.remote.write(name, path.read_bytes())
            if metrics_bytes:
                with open(self._run.metrics, "rb") as file:
                    self.remote.write(self._run.metrics.name, file.read(metrics_bytes))
            for checkpoint in sorted(checkpoints, key=lambda entry: -entry.iteration):
                self.remote.copy_checkpoint(checkpoint, self._check)
            if checkpoints:
                self._prune(max(entry.iteration for entry in checkpoints))
        except RunSuperseded:
            pass  # The lock remembers it, and raises in the driver before its next record.
        except (OSError, pa.ArrowException, CheckpointError, RunDirectoryError) as error:
            logger.warning(f"{self.remote.uri}: copy not updated ({one_line(error)}); retried with the next checkpoint")

    def _prune(self, newest_iteration: int) -> None:
        copied = [entry for entry in self.remote.checkpoints() if entry.iteration <= newest_iteration]
        for entry in prunable_checkpoints(copied, keep=self._settings.keep, keep_best=self._settings.keep_best):
            self._check()
            self.remote.remove_checkpoint(entry.path.name)

    def _check(self) -> None:
        self._lock.check()
        newest = self._generation()
        if newest is not None:
            self._lock.check_generation(newest)

    def _generation(self) -> RunGeneration | None:
        content = self.remote.read(GENERATION_FILE)
        return None if content is None else RunGeneration.from_bytes(content, f"{self.remote.uri}/{GENERATION_FILE}")
