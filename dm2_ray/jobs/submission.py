"""Submits a run to a cluster as a Ray job.

    experiment.yaml (resolved) ─► working directory of the job ─► dm2 train experiment.yaml --address auto

The package must be installed on every node (by the image or a virtual environment); `package=True` sends the source of
this checkout instead. Everything in a submission (entrypoint, metadata, environment) can be read by everybody who has
the cluster's token, and is logged on every node, so it must not contain secrets. Keys come from the environment of the
nodes.

Ray's client is only used to upload a job's files and to stream a job's output.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dm2_ray.config.documents import write_yaml
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.credentials import check_no_credentials
from dm2_ray.jobs.dashboard import ClusterError, Dashboard
from dm2_ray.jobs.job_record import STOP_WAIT, JobRecord

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

EXPERIMENT_FILE = "experiment.yaml"
RUNS_ON_CLUSTER = "dm2-runs"
"""Default directory of runs, below the home directory of the user that Ray runs as."""
SAVE_MARGIN_S = 30.0
"""Time to write the checkpoint, copy it and finish W&B, after the current iteration has ended or been dropped."""
WANDB_SETTINGS = ("WANDB_MODE", "WANDB_ENTITY", "WANDB_BASE_URL")
"""Variables that a job gets from the environment of `dm2 submit`; the project is `tracking.project`."""

RESUMED_GRACE_S = 120.0
"""Assumed `faults.stop_grace_s` of a resumed run, whose configuration only the cluster has."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What is sent to a cluster.

    Attributes:
        job_id: Name of the job.
        entrypoint: Shell command of the job.
        env_vars: Environment variables of the job.
        metadata: What `dm2 jobs` shows.
        run_dir: Run directory on the cluster, quoted for the entrypoint's shell.
        experiment: What to train; None resumes a run that the cluster has.
        package: Whether this package's source is sent, too.
    """

    job_id: str
    entrypoint: str
    env_vars: Mapping[str, str]
    metadata: Mapping[str, str]
    run_dir: str
    experiment: Experiment | None
    package: bool = False


def new_run(
    experiment: Experiment, *, job_id: str | None = None, run_dir: str | None = None, package: bool = False
) -> Submission:
    """A job that trains.

    Args:
        experiment: What to train.
        job_id: Name of the job; None makes one from variant, map, seed and time.
        run_dir: Run directory on the cluster; a relative path is below the home directory there. None takes
            dm2-runs/JOB_ID.
        package: Send this package's source, too.

    Raises:
        ClusterError: The name is not valid, or the submission would contain a secret.
    """
    chosen = job_id or _new_job_id(f"{experiment.variant}-{experiment.world.map}-{experiment.seed}")
    _check_name(chosen)
    if experiment.checkpoint.uri is not None:
        check_no_credentials(experiment.checkpoint.uri, "checkpoint.uri", ClusterError)
    directory = _cluster_path(run_dir or f"{RUNS_ON_CLUSTER}/{chosen}")
    described = {"variant": experiment.variant, "map": experiment.world.map, "seed": str(experiment.seed)}
    return Submission(
        job_id=chosen,
        # Without `exec`, Ray's signals would reach a shell instead of the driver.
        entrypoint=f"exec python3 -m dm2_ray.cli train {EXPERIMENT_FILE} --run-dir {directory} --address auto",
        env_vars=_environment(experiment.faults.stop_grace_s),
        metadata={**described, "env_runners": str(experiment.rollout.env_runners), **_origin(directory)},
        run_dir=directory,
        experiment=experiment,
        package=package,
    )


def resumed_run(
    run: str,
    *,
    job_id: str | None = None,
    run_dir: str | None = None,
    iterations: int | None = None,
    env_steps: int | None = None,
    package: bool = False,
) -> Submission:
    """A job that resumes a run of the cluster.

    Args:
        run: Directory of the run on the cluster, or URI of its copy.
        job_id: As for `new_run`.
        run_dir: Directory on the cluster into which the copy is downloaded first.
        iterations: New limit, as for `dm2 resume`.
        env_steps: New limit, as for `dm2 resume`.
        package: As for `new_run`.

    Raises:
        ClusterError: The name is not valid, or the submission would contain a secret.
    """
    last = re.sub("[^A-Za-z0-9_.-]+", "-", run.rstrip("/").rpartition("/")[2])
    chosen = job_id or _new_job_id(f"resume-{last}")
    _check_name(chosen)
    if "://" in run:
        check_no_credentials(run, "--resume", ClusterError)
        directory = _cluster_path(run_dir or f"{RUNS_ON_CLUSTER}/{chosen}")
        words = [shlex.quote(run), "--run-dir", directory]
    elif run_dir is not None:
        raise ClusterError("--run-dir is where a run's copy is downloaded to: with it, --resume must be a URI")
    else:
        directory = _cluster_path(run)
        words = [directory]
    limits = (("--iterations", iterations), ("--env-steps", env_steps))
    words += [f"{name} {value}" for name, value in limits if value is not None]
    return Submission(
        job_id=chosen,
        entrypoint=f"exec python3 -m dm2_ray.cli resume {' '.join(words)} --address auto",
        env_vars=_environment(RESUMED_GRACE_S),
        metadata=_origin(directory),
        run_dir=directory,
        experiment=None,
        package=package,
    )


def submit(dashboard: Dashboard, submission: Submission) -> None:
    """Submits the job; it is queued when this returns.

    Raises:
        ClusterError: The name is taken, or the cluster does not accept the job.
    """
    refuse_duplicate(dashboard, submission.job_id)
    with tempfile.TemporaryDirectory(prefix="dm2-submit-") as place:
        working_dir = Path(place)
        if submission.experiment is not None:
            write_yaml(submission.experiment, working_dir / EXPERIMENT_FILE)
        if submission.package:
            _copy_package(working_dir)
        runtime_env: dict[str, Any] = {"env_vars": dict(submission.env_vars)}
        if any(working_dir.iterdir()):
            runtime_env["working_dir"] = place
        try:
            ray_client(dashboard).submit_job(
                entrypoint=submission.entrypoint,
                submission_id=submission.job_id,
                runtime_env=runtime_env,
                metadata=dict(submission.metadata),
            )
        except (RuntimeError, ValueError, OSError) as error:
            # The error contains the whole traceback of the server; the reason is in the last line.
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
            reason = lines[-1][:300] if lines else type(error).__name__
            raise ClusterError(f"{dashboard.address} does not accept the job {submission.job_id}: {reason}") from error


def refuse_duplicate(dashboard: Dashboard, job_id: str) -> None:
    """Raises ClusterError if the cluster has a job with this name: Ray never allows a name twice."""
    details = dashboard.job(job_id)
    if details is not None:
        status = JobRecord.of(details).status
        raise ClusterError(
            f"there is already a job {job_id} ({status}): choose another --name, or see `dm2 jobs {job_id}`"
        )


def _check_name(job_id: str) -> None:
    if not _ID.fullmatch(job_id):
        raise ClusterError(f"--name {job_id!r}: a job's name has 1 to 100 letters, digits, '_', '.' and '-'")


def _environment(stop_grace_s: float) -> dict[str, str]:
    env_vars = {STOP_WAIT: str(math.ceil(stop_grace_s + SAVE_MARGIN_S))}
    for name in WANDB_SETTINGS:
        value = os.environ.get(name)
        if not value:
            continue
        check_no_credentials(value, f"${name}", ClusterError)
        env_vars[name] = value
    return env_vars


def _origin(directory: str) -> dict[str, str]:
    try:
        installed = version("dm2-ray")
    except PackageNotFoundError:
        installed = "unknown"
    return {"run_dir": directory, "dm2_ray": installed}


def _cluster_path(run_dir: str) -> str:
    """The directory, quoted for the shell of the job."""
    run_dir = run_dir.removeprefix("~/")
    if Path(run_dir).is_absolute() or "://" in run_dir:
        return shlex.quote(run_dir)
    # Not below the job's working directory, which Ray removes with the job.
    return f'"$HOME"/{shlex.quote(run_dir)}'


def _new_job_id(what: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", what)[:70]
    return f"dm2-{name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _copy_package(working_dir: Path) -> None:
    """Copies the source next to the experiment: the working directory comes first on the Python path of a job."""
    source = Path(__file__).resolve().parents[1]
    no_leftovers = shutil.ignore_patterns("__pycache__", "*.pyc", "*.nbi", "*.nbc")
    shutil.copytree(source, working_dir / "dm2_ray", ignore=no_leftovers)
    shutil.copytree(configs_dir(), working_dir / "dm2_ray" / "configs", ignore=no_leftovers, dirs_exist_ok=True)


def ray_client(dashboard: Dashboard) -> JobSubmissionClient:
    """Ray's client of a cluster, which has answered and accepted the token before.

    Raises:
        RuntimeError, OSError: The cluster does not answer anymore.
    """
    # Ray takes 0.5 s to import; a refused job does not need it.
    from ray.job_submission import JobSubmissionClient

    # They log a line for every uploaded file and every closed connection.
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with dashboard.ray_address_environment():
        return JobSubmissionClient(dashboard.address, headers=dashboard.headers)
