"""What a job writes, as it writes it, until the job ends.

The connection may break (a tunnel, a laptop that sleeps) and the job does not mind: it is taken up again where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

from dm2_ray.jobs.dashboard import ClusterError, Dashboard, DashboardUnreachable, Refused
from dm2_ray.jobs.job_record import JobRecord, find_job
from dm2_ray.jobs.submission import ray_client

logger = logging.getLogger(__name__)

POLL_S = 1.0
PATIENCE_S = 120.0
"""How long nobody may answer before following is given up."""
SILENCE_S = 15.0
"""After so long without a line the job is asked whether it still lives."""
PENDING_NOTICE_S = 30.0


def follow(
    dashboard: Dashboard,
    job_id: str,
    write: Callable[[str], None],
    *,
    patience_s: float = PATIENCE_S,
) -> JobRecord:
    """Writes the job's output from its beginning, and returns the job when it has ended.

    Args:
        dashboard: Of the cluster.
        job_id: Of a submitted job.
        write: Takes the output in pieces.
        patience_s: See PATIENCE_S.

    Raises:
        ClusterError: There is no such job, or nobody has answered for `patience_s`; the job goes on meanwhile.
    """
    written = 0
    heard = begun = time.monotonic()
    troubled = pending_said = False
    while True:
        try:
            job = find_job(dashboard, job_id)
            if troubled:
                logger.info(f"{dashboard.address} answers again")
            heard, troubled = time.monotonic(), False
            if job.status == "PENDING" and not pending_said and time.monotonic() - begun > PENDING_NOTICE_S:
                logger.warning(
                    f"job {job_id} is still pending after {PENDING_NOTICE_S:g} s: {job.message or 'no reason given'}"
                )
                pending_said = True
            if job.status != "PENDING":
                written = asyncio.run(_tail(dashboard, job_id, written, write))
                if job.ended:
                    return job
                continue_at = find_job(dashboard, job_id)
                if continue_at.ended:
                    return continue_at
        except (DashboardUnreachable, Refused) as problem:
            if time.monotonic() - heard > patience_s:
                raise ClusterError(
                    f"{problem}; gave up after {patience_s:g} s, the job may go on: `dm2 jobs {job_id} --follow`"
                ) from None
            if not troubled:
                logger.warning(f"{problem}; trying again")
                troubled = True
        time.sleep(POLL_S)


async def _tail(dashboard: Dashboard, job_id: str, written: int, write: Callable[[str], None]) -> int:
    """Writes what comes after the first `written` characters; returns how many there are now.

    Returns at the end of the job and whenever the connection breaks.
    """
    import aiohttp

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
            fresh = piece[max(0, written - seen) :]
            seen += len(piece)
            if fresh:
                write(fresh)
                written = seen
    except (RuntimeError, OSError, aiohttp.ClientError):
        return max(written, seen)


async def _next_piece(lines: AsyncIterator[str], dashboard: Dashboard, job_id: str) -> str | None:
    """The next lines; None at their end, or when the job has ended and nothing more comes (a connection that is cut
    without a word stays open for hours)."""
    coming = asyncio.ensure_future(anext(lines, None))
    while True:
        done, _ = await asyncio.wait([coming], timeout=SILENCE_S)
        if done:
            return coming.result()
        try:
            job = await asyncio.to_thread(find_job, dashboard, job_id)
        except ClusterError:
            job = None
        if (job is None or job.ended) and not coming.done():
            coming.cancel()
            return None
