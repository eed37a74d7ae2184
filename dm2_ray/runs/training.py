"""The training loop of one run: train, evaluate, record, checkpoint, stop.

    for each iteration:  learn ─► record ─► (evaluation) ─► metrics.jsonl, TensorBoard, W&B ─► (checkpoint)

The final evaluation goes into summary.json. The record of an iteration is written before its checkpoint; a resume cuts
off the records after the checkpoint and writes them again.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ray

from dm2_ray.checkpoints import Checkpoint, restored_learning_state
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.errors import ExpertsLost, LearnerLost, RolloutWorkersLost
from dm2_ray.distributed.fault_log import fault_summary
from dm2_ray.distributed.learners.diverged_update import UpdateDiverged
from dm2_ray.distributed.memory import MemoryMonitor
from dm2_ray.distributed.ray_session import ray_session
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.errors import RunStopped
from dm2_ray.learning.gradients import LearningDiverged
from dm2_ray.runs.checkpoint_writer import CheckpointWriter
from dm2_ray.runs.evaluation import TeamResult, result_record
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.runs.run_lock import RunLock, lock_run
from dm2_ray.runs.shutdown import ForcedStop, StopRequest, stop_request
from dm2_ray.runs.trainables import TeamAlgorithm, build_algorithm, validated_spec
from dm2_ray.runs.training_progress import Progress
from dm2_ray.tracking import Tracker
from dm2_ray.tracking.tracker import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        stopped_by: `env_steps`, `iterations` or the name of a signal.
    """

    iterations: int
    env_steps: int
    final_win_rate: float | None
    minutes: float
    stopped_by: str


class RunEnded(RunStopped, RuntimeError):
    """A fault ended the run; its last complete state is saved."""


ENDING_FAULTS = (LearnerLost, RolloutWorkersLost, ExpertsLost, LearningDiverged)
"""Faults that a run cannot recover from by itself."""


def train(
    run: RunDirectory, experiment: Experiment, *, resume_from: Checkpoint | None = None, address: str | None = None
) -> RunResult:
    """Trains until one of the limits in `experiment.stop` is reached.

    Args:
        run: The directory that everything is written to.
        experiment: What to train; `stop` must set a limit.
        resume_from: The checkpoint of the same run to continue from.
        address: Address of a Ray cluster; None starts a local one.

    Raises:
        ClusterUnreachable, NotEnoughResources, DemonstrationError, LearnerLost, ExpertsLost: The run could not start.
        RunEnded: The run lost something that it needs; the state after its last complete iteration is saved.
        RunDirectoryError: Another driver is training the run.
        RunSuperseded: Another driver has taken over the run.
        NotSaved: The last checkpoint could not be written.
    """
    spec = validated_spec(experiment)
    with lock_run(run.path) as lock, ray_session(address, needed_cpus=spec.resources.total.get("CPU", 0.0)):
        log.info("%s on %s: %s", experiment.variant, experiment.world.map, spec.resources.arithmetic())
        algorithm = build_algorithm(experiment)
        run.note_engine(experiment.world.backend)
        try:
            if resume_from is not None:
                algorithm.restore_learning_state(restored_learning_state(resume_from))
            with stop_request(experiment.faults.stop_grace_s) as stop:
                return _Loop(run, spec, algorithm, stop, lock).run(resumed=resume_from is not None)
        finally:
            algorithm.stop()


class _Loop:
    """The iterations of one run, from the first (or the first after a resume) to the last."""

    def __init__(
        self,
        run: RunDirectory,
        spec: RunSpec,
        algorithm: TeamAlgorithm,
        stop: StopRequest,
        lock: RunLock,
    ) -> None:
        self._run = run
        self._spec = spec
        self._experiment = spec.experiment
        self._algorithm = algorithm
        self._stop = stop
        self._lock = lock
        self._memory = MemoryMonitor()
        self._started = time.monotonic()
        # After the last recorded iteration; saved if the next one cannot be finished.
        self._iteration, self._env_steps = algorithm.iteration, algorithm.env_steps
        self._state: dict[str, Any] | None = None

    def run(self, *, resumed: bool) -> RunResult:
        """Trains to the end; see `train`."""
        experiment, first = self._experiment, self._iteration
        progress = Progress(experiment.stop, first_env_steps=self._env_steps, first_iteration=first)
        writer = CheckpointWriter(self._run, experiment, self._spec.sizes, self._lock, iteration=first)
        # A run that ended before its first checkpoint starts again and replaces the records that it left.
        resumed_iteration = first if resumed or self._run.metrics.exists() else None
        tracker = Tracker(self._run.path, experiment, resumed_iteration=resumed_iteration, fence=self._lock.check)
        with writer, tracker, closing(progress):
            final = None
            try:
                reason = self._train(writer, tracker, progress)
                if self._stop.signal is None:
                    with self._stop.interruptible():
                        final = self._evaluation()
                    writer.note_evaluation(final["win_rate"])
            except ForcedStop:
                self._save_pending_state(writer)
                assert self._stop.signal is not None
                reason = self._stop.signal.name
            except ENDING_FAULTS as error:
                raise self._end_after_fault(error, writer, tracker) from error
            outcome = RunResult(
                iterations=self._iteration,
                env_steps=self._env_steps,
                final_win_rate=None if final is None else final["win_rate"],
                minutes=(time.monotonic() - self._started) / 60,
                stopped_by=reason,
            )
            status: Status = "completed" if self._stop.signal is None else "interrupted"
            tracker.finish(status, stopped_by=reason, final_evaluation=final, faults=self._faults())
            return outcome

    def _train(self, writer: CheckpointWriter, tracker: Tracker, progress: Progress) -> str:
        """Iterates, records and saves until there is a reason to end, which it returns."""
        algorithm = self._algorithm
        reason = _limit_reached(self._experiment, self._iteration, self._env_steps)
        while reason is None:
            with self._stop.interruptible():
                record = self._iterate()
            tracker.log(record)
            progress.update(record)
            self._iteration, self._env_steps = algorithm.iteration, algorithm.env_steps
            self._state = algorithm.learning_state()
            reason = self._reason_to_end()
            win_rate = record.get("evaluation", {}).get("win_rate")
            if reason is not None or writer.is_due(self._iteration, win_rate):
                saved = writer.save(self._state, win_rate, last=reason is not None)
                self._state = None if saved else self._state
        return reason

    def _iterate(self) -> dict[str, Any]:
        """Runs one iteration, with an evaluation if it is due; returns its record."""
        began = time.monotonic()
        algorithm, before = self._algorithm, self._env_steps
        record = algorithm.learn()
        # Whether an evaluation is due depends only on the counts of env steps and iterations: a run that is stopped and
        # resumed must write the same records as an uninterrupted one.
        if _evaluation_due(self._experiment, algorithm.iteration, before, algorithm.env_steps):
            record["evaluation"] = self._evaluation()
        record["timing"]["iteration_s"] = time.monotonic() - began
        record["timing"]["wall_s"] = time.monotonic() - self._started
        if memory := self._memory.sample():
            record["timing"]["memory"] = memory
        if events := algorithm.faults.take_events():
            record["timing"]["faults"] = events
        return record

    def _evaluation(self) -> dict[str, Any]:
        statistics = self._algorithm.evaluate_battles(self._experiment.evaluation.episodes)
        return result_record(TeamResult.from_statistics(statistics))

    def _reason_to_end(self) -> str | None:
        signaled = self._stop.signal
        return signaled.name if signaled else _limit_reached(self._experiment, self._iteration, self._env_steps)

    def _save_pending_state(self, writer: CheckpointWriter) -> None:
        """Saves the state after the last recorded iteration, unless a checkpoint already has it."""
        if self._state is not None:
            writer.save(self._state, None, last=True)
            self._state = None

    def _end_after_fault(self, error: Exception, writer: CheckpointWriter, tracker: Tracker) -> RunEnded:
        """Saves everything; returns the error that tells the user how to continue."""
        message = str(error)
        if isinstance(error, UpdateDiverged):
            try:
                message += f"; its data are in {error.write(self._run.path / 'diverged')}"
            except (OSError, ray.exceptions.RayError) as problem:
                message += f"; its data could not be written ({problem})"
        self._save_pending_state(writer)
        tracker.finish("failed", stopped_by=type(error).__name__, error=str(error), faults=self._faults())
        if self._iteration == 0:
            return RunEnded(f"{message}. The run ended in its first iteration; there is nothing to save")
        return RunEnded(
            f"{message}. The run ended after iteration {self._iteration}, which is saved. Once the cause is fixed, "
            f"run: dm2 resume {self._run.path}"
        )

    def _faults(self) -> dict[str, dict[str, Any]]:
        """Summary of the faults of the whole run, including those under earlier drivers."""
        recorded = [event for record in self._run.records() for event in record["timing"].get("faults", ())]
        return fault_summary([*recorded, *self._algorithm.faults.take_events(), *self._algorithm.faults.open_faults()])


def _evaluation_due(experiment: Experiment, iteration: int, env_steps_before: int, env_steps: int) -> bool:
    """Whether an evaluation is due: at the configured interval, and once when cloning ends."""
    every = experiment.evaluation.every_env_steps
    if every == 0:
        return False
    return env_steps // every > env_steps_before // every or iteration == experiment.cloning.iterations > 0


def _limit_reached(experiment: Experiment, iteration: int, env_steps: int) -> str | None:
    limits = experiment.stop
    if limits.env_steps is not None and env_steps >= limits.env_steps:
        return "env_steps"
    if limits.iterations is not None and iteration >= limits.iterations:
        return "iterations"
    return None
