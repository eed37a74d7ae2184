"""MemoryMonitor: how much memory each kind of process of a run holds, so that a leak shows in its metrics."""

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
"""Between two samples: one takes the driver 1 to 2 ms."""
MIB = 2**20
OBJECT_STORE = "object_store_memory"


class MemoryMonitor:
    """Samples the driver, and those of its actors that live on its node, from the driver.

    Args:
        pause_s: Least time between two samples.
        clock: Seconds from some point on.
    """

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._due = clock()

    def sample(self) -> dict[str, Any] | None:
        """Memory in MiB, or None where the last sample is not old enough.

        Returns:
            `driver_mib`; `learner_mib`, `rollout_worker_mib` (evaluation workers count as such) and `expert_mib`, each
            the mean over its processes, where there are any; `object_store_mib`, in use on all nodes; and `processes`,
            how many of each kind were measured. A process's memory is its own: neither libraries' files nor the object
            store, which it shares with others, belong to it.
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
    """Resident memory that belongs to a process of this machine alone; None if it has ended, or cannot be known."""
    with suppress(OSError), open(f"/proc/{pid}/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return None


def process_role(actor_class: str) -> str:
    """What a process is called after the class of its actor: learner, rollout_worker (evaluation too), or expert."""
    if actor_class.endswith("Learner"):
        return "learner"
    return "rollout_worker" if actor_class.endswith("Runner") else "expert"


def _processes() -> dict[str, list[int]]:
    """Process ids of this job's living actors on this node, by kind."""
    context = ray.get_runtime_context()
    job, node = ray.JobID.from_hex(context.get_job_id()), context.get_node_id()
    found: dict[str, list[int]] = {}
    # Ray's public way to this table is the dashboard's, and a local Ray has none.
    for actor in state.actors(job_id=job, actor_state_name="ALIVE").values():
        if actor["Address"]["NodeID"] == node:
            found.setdefault(process_role(actor["ActorClassName"]), []).append(int(actor["Pid"]))
    return dict(sorted(found.items()))
