"""Follows the output of a job until it ends, and stops a job.

A broken connection (a tunnel, a laptop that sleeps) does not disturb the job: the output continues where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

from dm2_ray.jobs.dashboard import ClusterError, Dashboard, DashboardUnreachable, HttpError
from dm2_ray.jobs.job_record import JobRecord, find_job
from dm2_ray.jobs.submission import ray_client

logger = logging.getLogger(__name__)

POLL_S = 1.0
RECONNECT_TIMEOUT_S = 120.0
"""How long the cluster may not answer before `follow` gives up."""
SILENCE_S = 15.0
"""After so long without a new line, the job's status is checked."""
PENDING_NOTICE_S = 30.0
"""A warning is logged when a job has been pending for so long."""
STOP_POLL_S = 0.5
STOP_PENDING_S = 10.0
"""How long `stop_job` waits until a pending job has started and can be stopped."""
STOP_MARGIN_S = 15.0
"""Added to the time that a job may take to save, for what Ray does itself."""


def follow(
    dashboard: Dashboard,
    job_id: str,
    write: Callable[[str], None],
    *,
    reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
) -> JobRecord:
    """Writes the job's output from its beginning, and returns the job when it has ended.

    Args:
        dashboard: The cluster's dashboard.
        job_id: Id of a submitted job.
        write: Called with each piece of the output.
        reconnect_timeout_s: See RECONNECT_TIMEOUT_S.

    Raises:
        ClusterError: There is no such job, or nothing has answered for `reconnect_timeout_s`; the job continues.
    """
    written = 0
    last_answer = started = time.monotonic()
    disconnected = pending_noticed = False
    while True:
        try:
            job = find_job(dashboard, job_id)
            if disconnected:
                logger.info(f"{dashboard.address} answers again")
            last_answer, disconnected = time.monotonic(), False
            if job.status == "PENDING" and not pending_noticed and time.monotonic() - started > PENDING_NOTICE_S:
                logger.warning(
                    f"job {job_id} is still pending after {PENDING_NOTICE_S:g} s: {job.message or 'no reason given'}"
                )
                pending_noticed = True
            if job.status != "PENDING":
                written = asyncio.run(_tail(dashboard, job_id, written, write))
                if not job.ended:
                    job = find_job(dashboard, job_id)
                if job.ended:
                    return job
        except (DashboardUnreachable, HttpError) as problem:
            if time.monotonic() - last_answer > reconnect_timeout_s:
                raise ClusterError(
                    f"{problem}; gave up after {reconnect_timeout_s:g} s, but the job may still be running: "
                    f"`dm2 jobs {job_id} --follow`"
                ) from None
            if not disconnected:
                logger.warning(f"{problem}; trying again")
                disconnected = True
        time.sleep(POLL_S)


def stop_job(dashboard: Dashboard, job: JobRecord, *, wait_s: float | None = None) -> JobRecord:
    """Asks the job to stop, waits, and returns the job as it is then: ended or not.

    A pending job cannot be stopped, because Ray cannot reach a driver that has not started. So it is given
    STOP_PENDING_S to start.

    Args:
        dashboard: The cluster's dashboard.
        job: The job.
        wait_s: Longest time to wait; None takes the time that the job has for saving, and a margin.

    Raises:
        ClusterError: The cluster does not answer.
    """
    first_wait_s = STOP_PENDING_S if job.status == "PENDING" else job.stop_wait_s + STOP_MARGIN_S
    deadline = time.monotonic() + (first_wait_s if wait_s is None else wait_s)
    stop_sent = False
    while not job.ended and time.monotonic() < deadline:
        if job.status == "RUNNING" and not stop_sent:
            dashboard.stop_job(job.id)
            stop_sent = True
            if wait_s is None:
                deadline = time.monotonic() + job.stop_wait_s + STOP_MARGIN_S
        time.sleep(STOP_POLL_S)
        job = find_job(dashboard, job.id)
    return job


async def _tail(dashboard: Dashboard, job_id: str, written: int, write: Callable[[str], None]) -> int:
    """Writes what follows the first `written` characters of the output; returns the number written so far.

    Returns when the job has ended and when the connection breaks.
    """
    import aiohttp  # takes 0.2 s; only a job that is followed needs it

    try:
        client = await asyncio.to_thread(ray_client, dashboard)
    except (RuntimeError, OSError):
        return written
    seen = 0
    lines = client.tail_job_logs(job_id)
    try:
        while True:
            piece = await _next_piece(lines, dashboard, job_id)
            if piece is None:
                return max(written, seen)
            new = piece[max(0, written - seen) :]
            seen += len(piece)
            if new:
                write(new)
                written = seen
    except (RuntimeError, OSError, aiohttp.ClientError):
        return max(written, seen)


async def _next_piece(lines: AsyncIterator[str], dashboard: Dashboard, job_id: str) -> str | None:
    """The next lines; None at their end, and when the job has ended and no more lines arrive.

    The second case matters because a connection that is cut silently stays open for hours.
    """
    next_piece = asyncio.ensure_future(anext(lines, None))
    while True:
        done, _ = await asyncio.wait([next_piece], timeout=SILENCE_S)
        if done:
            return next_piece.result()
        try:
            job = await asyncio.to_thread(find_job, dashboard, job_id)
        except ClusterError:
            job = None
        if (job is None or job.ended) and not next_piece.done():
            next_piece.cancel()
            return None
