"""Ending a job, and waiting for it no longer than it takes."""

from __future__ import annotations

import time

from dm2_ray.jobs.dashboard import Dashboard
from dm2_ray.jobs.job_record import JobRecord, find_job

POLL_S = 0.5
PENDING_S = 10.0
"""How long a job that has not started is given to start, so that it can be stopped."""
MARGIN_S = 15.0
"""For Ray's own part of it, beyond what the job may take to save."""


def stop_job(dashboard: Dashboard, job: JobRecord, *, wait_s: float | None = None) -> JobRecord:
    """Asks the job to end and waits; returns it as it is then: ended, or not.

    A pending job cannot be stopped: Ray cannot reach a driver that has no place yet. It is waited for a little.

    Args:
        dashboard: Of the cluster.
        job: What to stop.
        wait_s: How long at most; None takes what the job was given to save, and a margin.

    Raises:
        ClusterError: The cluster does not answer.
    """
    limit_s = (PENDING_S if job.status == "PENDING" else job.stop_wait_s + MARGIN_S) if wait_s is None else wait_s
    deadline = time.monotonic() + limit_s
    asked_running = False
    while not job.ended and time.monotonic() < deadline:
        if job.status == "RUNNING" and not asked_running:
            dashboard.stop_job(job.id)
            asked_running = True
            if wait_s is None:
                deadline = time.monotonic() + job.stop_wait_s + MARGIN_S
        time.sleep(POLL_S)
        job = find_job(dashboard, job.id)
    return job
