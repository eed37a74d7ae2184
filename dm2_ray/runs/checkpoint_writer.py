"""Writes a run's checkpoints into its directory, and starts the copies of the run to another location.

While the run continues, a checkpoint that cannot be written is a warning: the earlier ones are intact, and the next one
is tried when it is due. At the end of the run it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from dm2_ray.checkpoints import Checkpoint, CheckpointError, prune_checkpoints, save_checkpoint
from dm2_ray.checkpoints.checkpoint import listed_checkpoints
from dm2_ray.checkpoints.saving import note_win_rate
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import RunFailed
from dm2_ray.files import fsync_path
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.runs.run_lock import RunLock, RunSuperseded
from dm2_ray.runs.uploads import Uploads

logger = logging.getLogger(__name__)


class NotSaved(RunFailed, RuntimeError):
    """The last state of a run that is ending could not be written."""


class CheckpointWriter:
    """Saves the states of one run.

    Args:
        run: The run's directory.
        experiment: Its configuration.
        sizes: Number of agents, observation size, number of actions.
        lock: The lock on the run, checked before each write.
        iteration: The iteration that the run continues from; 0 for a new run.

    Raises:
        RemoteCopyError: The location for copies cannot be used.
        RunDirectoryError: The copy there belongs to another run, or was continued elsewhere.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        sizes: tuple[int, int, int],
        lock: RunLock,
        *,
        iteration: int,
    ) -> None:
        self._run = run
        self._experiment = experiment
        self._sizes = sizes
        self._lock = lock
        self._newest: Checkpoint | None = None
        self._uploads: Uploads | None = None
        if experiment.checkpoint.uri is not None:
            self._uploads = Uploads(run, experiment.checkpoint, lock)
        earlier = [entry for entry in listed_checkpoints(run.checkpoints) if entry.iteration <= iteration]
        self._best = max((entry.win_rate for entry in earlier if entry.win_rate is not None), default=None)

    def is_due(self, iteration: int, win_rate: float | None) -> bool:
        """Whether to save a checkpoint now: at the configured interval, and after a new best evaluation."""
        settings = self._experiment.checkpoint
        if settings.every_iterations == 0:
            return False
        return iteration % settings.every_iterations == 0 or (settings.keep_best > 0 and self._is_best(win_rate))

    def save(self, learning_state: Mapping[str, Any], win_rate: float | None, *, last: bool = False) -> bool:
        """Saves and verifies a checkpoint, then removes those that need not be kept.

        Args:
            learning_state: The algorithm's `learning_state()`.
            win_rate: Of these agents in an evaluation, if there was one.
            last: Whether the run ends here, so that a failure is an error.

        Returns:
            Whether it was saved; if not, a warning was logged.

        Raises:
            NotSaved: It could not be written, and the run ends.
            RunSuperseded: Another driver has taken over the run.
        """
        try:
            # The records of the iterations up to the checkpoint must be as durable as the checkpoint.
            if self._run.metrics.exists():
                fsync_path(self._run.metrics)
            self._newest = save_checkpoint(
                self._run.checkpoints,
                self._experiment,
                learning_state,
                sizes=self._sizes,
                win_rate=win_rate,
                fence=self._lock.check,
            )
        except (OSError, CheckpointError) as error:
            # If another driver has taken over, it removed what this one was writing: report that instead.
            self._lock.check()
            problem = f"{self._run.path}: checkpoint not saved ({error}); earlier ones are intact"
            if last:
                raise NotSaved(f"{problem}. Fix the cause, then run: dm2 resume {self._run.path}") from error
            logger.warning(f"{problem}, the run continues")
            return False
        if self._is_best(win_rate):
            self._best = win_rate
        self._prune(self._newest)
        if self._uploads is not None:
            self._uploads.start()
        return True

    def note_evaluation(self, win_rate: float) -> None:
        """Adds the win rate of the evaluation at the end of the run to the newest checkpoint."""
        if self._newest is None:
            return
        self._lock.check()
        try:
            note_win_rate(self._newest, win_rate)
        except OSError as error:
            logger.warning(f"{self._newest.path}: win rate not added ({error})")

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No last copy if the run was taken over, nor if the user interrupts a second time and does not want to wait.
        if self._uploads is not None and (error is None or isinstance(error, Exception)):
            if not isinstance(error, RunSuperseded):
                self._uploads.finish()

    def _prune(self, newest: Checkpoint) -> None:
        settings, copied = self._experiment.checkpoint, self._uploads.being_copied if self._uploads else ()
        try:
            prune_checkpoints(
                self._run.checkpoints, newest, keep=settings.keep, keep_best=settings.keep_best, spared=copied
            )
        except OSError as error:
            self._lock.check()
            logger.warning(f"{self._run.checkpoints}: an older checkpoint could not be removed ({error})")

    def _is_best(self, win_rate: float | None) -> bool:
        return win_rate is not None and (self._best is None or win_rate > self._best)
