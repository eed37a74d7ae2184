"""Ray's own client for what it alone does: packing a job's files, and streaming a job's output."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dm2_ray.jobs.dashboard import Dashboard

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def ray_client(dashboard: Dashboard) -> JobSubmissionClient:
    """A client of a cluster that has been found to answer, and to take the token.

    Raises:
        RuntimeError, OSError: The cluster has gone meanwhile.
    """
    from ray.job_submission import JobSubmissionClient

    # A line for every uploaded file and every closed connection.
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with dashboard.named_in_environment():
        return JobSubmissionClient(dashboard.address, headers=dashboard.headers)
