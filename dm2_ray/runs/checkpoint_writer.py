"""What a run keeps of itself: checkpoints in its directory, and a copy of the run elsewhere.

A checkpoint that cannot be written is a warning as long as the run goes on: the earlier ones are intact, and the next
one is tried in its turn. At the end of the run it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dm2_ray.checkpoints import Checkpoint, CheckpointError, prune_checkpoints, save_checkpoint
from dm2_ray.checkpoints.checkpoint import directories, read_manifest
from dm2_ray.checkpoints.saving import note_win_rate
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import RunFailed
from dm2_ray.files import fsync_path
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.runs.run_lock import RunLock, RunSuperseded

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from dm2_ray.runs.uploads import Uploads


class NotSaved(RunFailed, RuntimeError):
    """A run ends whose last state could not be written."""


class CheckpointWriter:
    """Saves a run's states.

    Args:
        run: The run's directory.
        experiment: Its configuration.
        sizes: Agents, observation size, actions.
        claim: The right to write there.
        iteration: That the run goes on from; 0 for a new one.

    Raises:
        RemoteCopyError: The place for copies cannot be used.
        RunDirectoryError: The copy there is another run's, or has been gone on with elsewhere.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        sizes: tuple[int, int, int],
        claim: RunLock,
        *,
        iteration: int,
    ) -> None:
        self._run = run
        self._experiment = experiment
        self._sizes = sizes
        self._claim = claim
        self._newest: Checkpoint | None = None
        self._uploads: Uploads | None = None
        if experiment.checkpoint.uri is not None:
            from dm2_ray.runs.uploads import Uploads

            self._uploads = Uploads(run, experiment.checkpoint, claim)
        earlier = [entry for entry in map(read_manifest, directories(run.checkpoints)) if entry is not None]
        rates = [entry.win_rate for entry in earlier if entry.iteration <= iteration and entry.win_rate is not None]
        self._best = max(rates, default=None)

    def due(self, iteration: int, win_rate: float | None) -> bool:
        """Whether a checkpoint is to be saved now: every so many iterations, and with a new best evaluation."""
        settings = self._experiment.checkpoint
        if settings.every_iterations == 0:
            return False
        return iteration % settings.every_iterations == 0 or (settings.keep_best > 0 and self._is_best(win_rate))

    def save(self, learning_state: Mapping[str, Any], win_rate: float | None, *, last: bool = False) -> bool:
        """Saves a checkpoint, verifies it, and then removes what need not be kept.

        Args:
            learning_state: `learning_state()` of the algorithm.
            win_rate: Of an evaluation of just these agents, if there was one.
            last: The run ends here: a failure is an error.

        Returns:
            Whether it was saved; if not, a line has said why.

        Raises:
            NotSaved: It could not be written, and the run ends.
            RunSuperseded: Another driver has taken over the run.
        """
        try:
            # The records of the iterations that the checkpoint comes after have to be as durable as it is.
            if self._run.metrics.exists():
                fsync_path(self._run.metrics)
            self._newest = save_checkpoint(
                self._run.checkpoints,
                self._experiment,
                learning_state,
                sizes=self._sizes,
                win_rate=win_rate,
                fence=self._claim.check,
            )
        except (OSError, CheckpointError) as error:
            # Where another driver has taken over, that is why: it removes what this one was writing.
            self._claim.check()
            problem = f"{self._run.path}: checkpoint not saved ({error}); earlier ones are as they were"
            if last:
                raise NotSaved(f"{problem}: cure it, then go on with: dm2 resume {self._run.path}") from error
            logger.warning(f"{problem}, the run goes on")
            return False
        if self._is_best(win_rate):
            self._best = win_rate
        self._remove_superfluous(self._newest)
        if self._uploads is not None:
            self._uploads.start()
        return True

    def evaluated(self, win_rate: float) -> None:
        """Notes in the newest checkpoint how its agents did in the evaluation at the end of the run."""
        if self._newest is None:
            return
        self._claim.check()
        try:
            note_win_rate(self._newest, win_rate)
        except OSError as error:
            logger.warning(f"{self._newest.path}: win rate not noted ({error})")

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that was taken over has nothing more to say, and whoever stops it a second time does not want to wait.
        if self._uploads is not None and (error is None or isinstance(error, Exception)):
            if not isinstance(error, RunSuperseded):
                self._uploads.finish()

    def _remove_superfluous(self, newest: Checkpoint) -> None:
        settings, copied = self._experiment.checkpoint, self._uploads.being_copied if self._uploads else ()
        try:
            prune_checkpoints(
                self._run.checkpoints, newest, keep=settings.keep, keep_best=settings.keep_best, spared=copied
            )
        except OSError as error:
            self._claim.check()
            logger.warning(f"{self._run.checkpoints}: an older checkpoint could not be removed ({error})")

    def _is_best(self, win_rate: float | None) -> bool:
        return win_rate is not None and (self._best is None or win_rate > self._best)
