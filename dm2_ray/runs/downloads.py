"""Downloads a run's copy, so that the run can be resumed on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

from dm2_ray.checkpoints import CheckpointError
from dm2_ray.checkpoints.checkpoint import best_checkpoints
from dm2_ray.checkpoints.remote_copy import RemoteCopy, RemoteCopyError, call_or_refuse, uri_parent
from dm2_ray.config.documents import write_yaml
from dm2_ray.files import write_atomically
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import COPY_NAME_FILE, ENGINE_FILE, RunDirectory, RunDirectoryError
from dm2_ray.runs.run_lock import GENERATION_FILE
from dm2_ray.terminal import one_line

logger = logging.getLogger(__name__)


def fetch_run(uri: str, run_dir: Path | None) -> RunDirectory:
    """Builds a run directory from a copy: the newest intact checkpoint, the best ones, metrics and configuration.

    Later copies of the run go to the location that this one came from.

    Args:
        uri: URI of the run's copy.
        run_dir: The directory to create; None takes runs/NAME.

    Raises:
        RemoteCopyError: There is no run at `uri`, or the location cannot be used.
        CheckpointError: None of its checkpoints is intact.
        RunDirectoryError: `run_dir` already contains a run.
    """
    location, name = uri_parent(uri)
    run = RunDirectory(run_dir or Path("runs") / name)
    if run.config.exists():
        raise RunDirectoryError(
            f"{run.path} already contains a run: continue it with `dm2 resume {run.path}`, or choose another --run-dir"
        )
    remote = call_or_refuse(uri, lambda: RemoteCopy(uri))
    config = call_or_refuse(uri, lambda: remote.read(run.config.name))
    if config is None:
        raise RemoteCopyError(f"{uri} contains no run (no {run.config.name})")
    try:
        _fetch_checkpoints(remote, run)
        for file in (run.metrics.name, GENERATION_FILE, ENGINE_FILE, "wandb_run_id"):
            if (content := remote.read(file)) is not None:
                write_atomically(run.path / file, content)
    except OSError as error:
        raise RemoteCopyError(f"{uri} cannot be downloaded to {run.path}: {one_line(error)}") from error
    write_atomically(run.path / COPY_NAME_FILE, name.encode() + b"\n")
    # config.yaml comes last, because it marks the directory as a run: an interrupted download is simply repeated.
    fetched = run.path / ".config.yaml.fetched"
    write_atomically(fetched, config)
    experiment = load_experiment(fetched)
    checkpoint = experiment.checkpoint.model_copy(update={"uri": location})
    write_yaml(experiment.model_copy(update={"checkpoint": checkpoint}), fetched)
    fetched.rename(run.config)
    return run


def _fetch_checkpoints(remote: RemoteCopy, run: RunDirectory) -> None:
    available = remote.checkpoints()
    problems = []
    newest = None
    for entry in reversed(available):
        try:
            newest = remote.fetch_checkpoint(entry.path.name, run.checkpoints)
            break
        except CheckpointError as error:
            problems.append(str(error))
    if newest is None:
        raise CheckpointError(problems[0] if problems else f"{remote.uri} contains no checkpoint")
    for problem in problems:
        logger.warning(f"{problem}; skipped, {newest.path.name} is used")
    for entry in best_checkpoints(available)[: newest.experiment().checkpoint.keep_best]:
        if entry.iteration >= newest.iteration:
            continue
        try:
            remote.fetch_checkpoint(entry.path.name, run.checkpoints)
        except CheckpointError as error:
            logger.warning(f"{error}; not downloaded")
