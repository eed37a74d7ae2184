"""A submitted job, as the cluster's dashboard describes it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dm2_ray.jobs.dashboard import ClusterError, Dashboard
from dm2_ray.terminal import format_duration, format_table

TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
EXIT_STOPPED = 130
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
_RAY_STOP_WAIT_S = 3.0
"""Ray's default for STOP_WAIT."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """Status and metadata of a job.

    Attributes:
        id: The job's id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: Ray's last message about the job, in one line.
        driver_exit_code: Exit code of the driver; None if it has none yet.
        started_s: Start in seconds since 1970.
        ended_s: End in seconds since 1970.
        metadata: What `dm2 submit` stored with the job.
        stop_wait_s: How long the job may take to end after it was asked to stop.
    """

    id: str
    status: str
    message: str
    driver_exit_code: int | None
    started_s: float | None
    ended_s: float | None
    metadata: Mapping[str, str]
    stop_wait_s: float

    @staticmethod
    def of(details: Mapping[str, Any]) -> JobRecord:
        """Reads the dashboard's answer."""
        env_vars = (details.get("runtime_env") or {}).get("env_vars") or {}
        try:
            stop_wait_s = float(env_vars.get(STOP_WAIT, _RAY_STOP_WAIT_S))
        except ValueError:
            stop_wait_s = _RAY_STOP_WAIT_S
        return JobRecord(
            id=details["submission_id"],
            status=details["status"],
            message=" ".join((details.get("message") or "").split())[:300],
            driver_exit_code=details.get("driver_exit_code"),
            started_s=_seconds(details.get("start_time")),
            ended_s=_seconds(details.get("end_time")),
            metadata=details.get("metadata") or {},
            stop_wait_s=stop_wait_s,
        )

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def exit_code(self) -> int | None:
        """The exit code of the job; None if it has not ended.

        A stopped job has 130 and never 0, because it did not finish. A driver that was ended by a signal has 128 + the
        signal's number, as in a shell. A job that failed before its driver started has 1.
        """
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return EXIT_STOPPED
        if self.status != "FAILED":
            return None
        code = self.driver_exit_code
        return 1 if not code else code if code > 0 else 128 - code

    @property
    def duration_s(self) -> float | None:
        """Time from the start to the end, or until now."""
        if self.started_s is None:
            return None
        return max(0.0, (self.ended_s or time.time()) - self.started_s)

    def record(self) -> dict[str, Any]:
        """The job for `--json`."""
        return {
            "id": self.id,
            "status": self.status,
            "exit_code": self.exit_code,
            "started_s": self.started_s,
            "duration_s": self.duration_s,
            "metadata": dict(self.metadata),
            "message": self.message,
        }


def find_job(dashboard: Dashboard, job_id: str) -> JobRecord:
    """The job with this id.

    Raises:
        ClusterError: There is no such job.
    """
    details = dashboard.job(job_id)
    if details is None or details.get("submission_id") is None:
        raise ClusterError(f"there is no job {job_id} at {dashboard.address}; `dm2 jobs` lists them")
    return JobRecord.of(details)


def job_table(jobs: Sequence[JobRecord]) -> str:
    """A table with one line per job, the newest first."""
    rows = [("ID", "STATUS", "EXIT", "RUN", "STARTED", "TOOK")]
    for job in sorted(jobs, key=lambda job: job.started_s or 0.0, reverse=True):
        started = "-" if job.started_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started_s))
        words = (job.metadata.get(name) for name in ("variant", "map", "seed"))
        run = " ".join(word for word in words if word) or "-"
        took = "-" if job.duration_s is None else format_duration(job.duration_s)
        code = "-" if job.exit_code is None else str(job.exit_code)
        rows.append((job.id, job.status, code, run, started, took))
    return format_table(rows)


def _seconds(milliseconds: int | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000
