"""MemoryMonitor: memory per kind of process of a run, so that a leak shows in its metrics."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray._private import state

PAUSE_S = 10.0
"""Seconds between two samples; a sample takes the driver 1 to 2 ms."""
MIB = 2**20
OBJECT_STORE = "object_store_memory"


class MemoryMonitor:
    """Measures, in the driver, the driver and those of its actors that run on its node.

    Args:
        pause_s: Shortest time between two samples, in seconds.
        clock: Returns seconds; replaced in tests.
    """

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._due = clock()

    def sample(self) -> dict[str, Any] | None:
        """Memory in MiB, or None if the last sample is too recent.

        Returns:
            `driver_mib`; `learner_mib`, `rollout_worker_mib` (evaluation workers count as such) and `expert_mib`, each
            the mean over its processes, where there are any; `object_store_mib`, in use on all nodes; and `processes`,
            how many of each kind were measured. Only private memory counts: library files and the object store, which
            a process shares with others, do not.
        """
        now = self._clock()
        if now < self._due:
            return None
        self._due = now + self._pause_s
        found = {kind: [rss_bytes(pid) for pid in pids] for kind, pids in _processes().items()}
        measured = {kind: [size for size in sizes if size is not None] for kind, sizes in found.items()}
        stores, free = ray.cluster_resources(), ray.available_resources()
        return {
            "driver_mib": (rss_bytes(os.getpid()) or 0) / MIB,
            **{f"{kind}_mib": statistics.fmean(sizes) / MIB for kind, sizes in measured.items() if sizes},
            "object_store_mib": (stores.get(OBJECT_STORE, 0.0) - free.get(OBJECT_STORE, 0.0)) / MIB,
            "processes": {kind: len(sizes) for kind, sizes in measured.items() if sizes},
        }


def rss_bytes(pid: int) -> int | None:
    """Resident memory that a process of this machine does not share; None if it has ended or cannot be read."""
    with suppress(OSError), open(f"/proc/{pid}/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return None


def process_role(actor_class: str) -> str:
    """Kind of a process by the class of its actor: learner, rollout_worker (evaluation too), or expert."""
    if actor_class.endswith("Learner"):
        return "learner"
    return "rollout_worker" if actor_class.endswith("Runner") else "expert"


def _processes() -> dict[str, list[int]]:
    """Process ids of this job's living actors on this node, by kind."""
    context = ray.get_runtime_context()
    job, node = ray.JobID.from_hex(context.get_job_id()), context.get_node_id()
    found: dict[str, list[int]] = {}
    # The public ray.util.state.list_actors asks the dashboard, which a local Ray does not start; the same table is read
    # from Ray's control service here.
    for actor in state.actors(job_id=job, actor_state_name="ALIVE").values():
        if actor["Address"]["NodeID"] == node:
            found.setdefault(process_role(actor["ActorClassName"]), []).append(int(actor["Pid"]))
    return dict(sorted(found.items()))
