"""The training loop of one run: train, evaluate, record, checkpoint, stop.

    for each iteration:  learn ─► record ─► (evaluation) ─► metrics.jsonl, TensorBoard, W&B ─► (checkpoint)

The evaluation at the end goes into summary.json. A record is written before the checkpoint of the same iteration; on
resume, records later than the checkpoint are cut off and written again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dm2_ray.actors.checkpoint import Checkpoint, restored_learning_state, save_checkpoint
from dm2_ray.actors.ray_session import ray_session
from dm2_ray.config import Experiment
from dm2_ray.experiments.algorithms import Plan, TeamAlgorithm, plan_of
from dm2_ray.experiments.run_directory import RunDirectory
from dm2_ray.experiments.teams import TeamResult, result_record
from dm2_ray.progress import Progress
from dm2_ray.tracking import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended."""

    iterations: int
    env_steps: int
    final_win_rate: float | None
    minutes: float
    stopped_by: str
    """`env_steps`, `iterations` or the name of a signal."""


class StopRequest:
    """SIGINT or SIGTERM: the first ends the run after the current iteration, the second at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        print(f"{self.signal.name}: finishing this iteration and saving; once more to stop at once", flush=True)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catches the stop signals for the duration of the block."""
    request = StopRequest()
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(
    run: RunDirectory, experiment: Experiment, *, resume_from: Checkpoint | None = None, address: str | None = None
) -> RunResult:
    """Trains until one of `experiment.stop`'s limits is reached.

    Args:
        run: Where everything is written.
        experiment: What to train; `stop` must set a limit.
        resume_from: Continue from this checkpoint of the same run.
        address: Of a Ray cluster; None runs a local one.

    Raises:
        ClusterUnreachable, NotEnoughResources, DemonstrationError, LearnerLost, RolloutWorkersLost, LearningDiverged:
            Each with one line for the user. The last checkpoint is untouched.
    """
    plan = plan_of(experiment)
    with ray_session(address, needed_cpus=plan.needed_cpus):
        print(f"{experiment.variant} on {experiment.world.map}: {plan.arithmetic}", flush=True)
        algorithm = plan.build()
        try:
            if resume_from is not None:
                algorithm.restore_learning_state(restored_learning_state(resume_from))
            with stop_request() as stop:
                return _loop(run, experiment, plan, algorithm, stop, resumed=resume_from is not None)
        finally:
            algorithm.stop()


def _loop(
    run: RunDirectory,
    experiment: Experiment,
    plan: Plan,
    algorithm: TeamAlgorithm,
    stop: StopRequest,
    *,
    resumed: bool,
) -> RunResult:
    started = time.monotonic()
    iteration, env_steps = algorithm.iteration, algorithm.env_steps
    reason = _limit_reached(experiment, iteration, env_steps)
    progress = Progress(experiment.stop, first_env_steps=env_steps, first_iteration=iteration)
    with Tracker(run.path, experiment, resumed_iteration=iteration if resumed else None) as tracker, closing(progress):
        while reason is None:
            began = time.monotonic()
            record = algorithm.learn()
            iteration, before, env_steps = algorithm.iteration, env_steps, algorithm.env_steps
            reason = stop.signal.name if stop.signal else _limit_reached(experiment, iteration, env_steps)
            # Only what falls due by the counts of env steps and iterations belongs to the record: a run that is stopped
            # here and resumed must write what an undisturbed one writes.
            if _evaluation_due(experiment, iteration, before, env_steps):
                record["evaluation"] = _evaluation(experiment, algorithm)
            record["timing"]["iteration_s"] = time.monotonic() - began
            record["timing"]["wall_s"] = time.monotonic() - started
            tracker.log(record)
            progress.update(record)
            every = experiment.checkpoint.every_iterations
            if reason is not None or (every and iteration % every == 0):
                save_checkpoint(
                    run.checkpoints,
                    experiment,
                    algorithm.learning_state(),
                    sizes=plan.sizes,
                    win_rate=record.get("evaluation", {}).get("win_rate"),
                    keep=experiment.checkpoint.keep,
                )
        final = None if stop.signal else _evaluation(experiment, algorithm)
        outcome = RunResult(
            iterations=iteration,
            env_steps=env_steps,
            final_win_rate=None if final is None else final["win_rate"],
            minutes=(time.monotonic() - started) / 60,
            stopped_by=reason,
        )
        tracker.finish(
            "completed" if stop.signal is None else "interrupted",
            stopped_by=outcome.stopped_by,
            final_evaluation=final,
            faults=algorithm.faults(),
        )
        return outcome


def _evaluation_due(experiment: Experiment, iteration: int, env_steps_before: int, env_steps: int) -> bool:
    """Every so many env steps, and when cloning ends: how good the clones are before their first battle."""
    every = experiment.evaluation.every_env_steps
    if every == 0:
        return False
    return env_steps // every > env_steps_before // every or iteration == experiment.cloning.iterations > 0


def _evaluation(experiment: Experiment, algorithm: TeamAlgorithm) -> dict[str, Any]:
    return result_record(TeamResult.of(algorithm.evaluate_battles(experiment.evaluation.episodes)))


def _limit_reached(experiment: Experiment, iteration: int, env_steps: int) -> str | None:
    limits = experiment.stop
    if limits.env_steps is not None and env_steps >= limits.env_steps:
        return "env_steps"
    if limits.iterations is not None and iteration >= limits.iterations:
        return "iterations"
    return None
