"""Names of processes, by which a replacement shows itself."""

from __future__ import annotations

import os
import platform

import ray


def process_name() -> str:
    """Of this process; that which Ray starts in its place has another."""
    if ray.is_initialized():
        return str(ray.get_runtime_context().get_worker_id())
    return f"{platform.node()}:{os.getpid()}"
