"""`dm2 train` and `dm2 resume`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.experiment_options import (
    check_cloning_alone,
    check_world_and_demonstrations,
    requested_experiment,
)
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import Interrupted, UserError
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.runs.run_lock import check_not_running

if TYPE_CHECKING:
    from dm2_ray.checkpoints import Checkpoint

log = logging.getLogger(__name__)

# Checkpoints need torch, 1.5 s to import, and training needs RLlib, 3 s more: wrong input is refused before that.


def train(options: argparse.Namespace) -> int:
    experiment = requested_experiment(options)
    check_world_and_demonstrations(experiment, options.address)
    _check_place_for_copies(experiment)
    default = f"runs/{experiment.variant}-{experiment.world.map}-{experiment.seed}"
    run = RunDirectory.create(Path(options.run_dir or default), experiment)
    return _run(run, experiment, None, options.address)


def resume(options: argparse.Namespace) -> int:
    if "://" in options.run_dir:
        from dm2_ray.runs.downloads import fetch_run

        run = fetch_run(options.run_dir, options.to)
        log.info("%s downloaded to %s", options.run_dir, run.path)
    elif options.to is not None:
        raise UserError("--run-dir says where a run's copy is downloaded to: give the URI of a copy as the run")
    else:
        run = RunDirectory.open(Path(options.run_dir))
    check_not_running(run.path)
    experiment = run.experiment()
    if options.iterations is not None or options.env_steps is not None:
        limits = {"iterations": options.iterations, "env_steps": options.env_steps}
        stop = experiment.stop.model_copy(update=limits)
        experiment = experiment.model_copy(update={"stop": stop})
    check_cloning_alone(experiment)
    check_world_and_demonstrations(experiment, options.address)
    _check_place_for_copies(experiment)
    from dm2_ray.checkpoints import has_checkpoints, open_checkpoint

    checkpoint = None
    if has_checkpoints(run.checkpoints):
        checkpoint = open_checkpoint(run.checkpoints)
        log.info(
            "resuming %s at iteration %d (%s env steps)", run.path, checkpoint.iteration, f"{checkpoint.env_steps:,}"
        )
    else:
        log.info("resuming %s from its beginning: it ended before its first checkpoint", run.path)
    return _run(run, experiment, checkpoint, options.address)


def _run(run: RunDirectory, experiment: Experiment, checkpoint: Checkpoint | None, address: str | None) -> int:
    from dm2_ray.runs.training import train as run_training

    result = run_training(run, experiment, resume_from=checkpoint, address=address)
    rate = "not evaluated" if result.final_win_rate is None else f"greedy win rate {result.final_win_rate:.2f}"
    print(
        f"{run.path}: {result.iterations} iterations, {result.env_steps:,} env steps, {rate}, {result.minutes:.1f} min"
    )
    if result.stopped_by.startswith("SIG"):
        log.info("stopped by %s; continue with: dm2 resume %s", result.stopped_by, run.path)
        return Interrupted.exit_code
    return 0


def _check_place_for_copies(experiment: Experiment) -> None:
    """Refuses a checkpoint.uri that cannot be written to, before anything starts."""
    if experiment.checkpoint.uri is not None:
        from dm2_ray.checkpoints.remote_copy import check_location

        check_location(experiment.checkpoint.uri)
