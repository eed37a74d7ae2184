"""FaultLog: which processes and nodes a run has lost, and how long each recovery took.

A loss is noticed when a call to the dead process fails; its time runs from then until the replacement answers. A
process that Ray replaced before anything called it is noticed when the answer comes from another process: it cost no
time.

NodeMonitor: which nodes joined or left the cluster.
"""

from __future__ import annotations

import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import ray

logger = logging.getLogger(__name__)

REPLACED = "died while idle; Ray replaced it before it was missed"


class FaultKind(str, Enum):
    """What can be lost."""

    ROLLOUT_WORKER = "rollout_worker"
    EVALUATION_WORKER = "evaluation_worker"
    LEARNER = "learner"
    EXPERT = "expert"
    NODE = "node"

    @property
    def label(self) -> str:
        """The name in messages."""
        return self.value.replace("_", " ")


@dataclass(kw_only=True, slots=True)
class Fault:
    """One loss."""

    kind: str
    who: str
    """Number of the worker or server, name of the agent, or address of the node."""
    iteration: int
    why: str
    seconds: float | None = None
    """Until it was back; None if it is not back."""


class FaultLog:
    """Losses since the log was created.

    Args:
        clock: Returns seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.iteration = 0
        """The present iteration."""
        self.faults: list[Fault] = []
        self._clock = clock
        self._missing: dict[tuple[FaultKind, str], tuple[Fault, float]] = {}
        self._processes: dict[tuple[FaultKind, str], str] = {}
        """The process that answered last, of everything that is not missing."""
        self._taken = 0
        self._pending: list[Fault] = []

    def record_loss(self, kind: FaultKind, who: object, why: str) -> None:
        """Something died. What is already missing is not counted again."""
        key = (kind, str(who))
        self._processes.pop(key, None)
        if key in self._missing:
            return
        fault = Fault(kind=kind.value, who=str(who), iteration=self.iteration, why=why)
        self.faults.append(fault)
        self._missing[key] = (fault, self._clock())
        logger.warning("%s %s lost (%s)", kind.label, who, why)

    def record_recovery(self, kind: FaultKind, who: object, process: str | None = None) -> None:
        """A process answers, or the one that replaced it.

        Args:
            kind: Its kind.
            who: Its number or agent.
            process: Its name; a name other than the last one means that the last process died in between.
        """
        key = (kind, str(who))
        if process is not None:
            if self._processes.get(key, process) != process:
                self.record_loss(kind, who, REPLACED)
            self._processes[key] = process
        fault, since = self._missing.pop(key, (None, 0.0))
        if fault is not None:
            fault.seconds = self._clock() - since
            logger.warning("%s %s is back after %.1f s", kind.label, who, fault.seconds)

    def record_removal(self, kind: FaultKind, who: object) -> None:
        """A lost process is not waited for any more."""
        self._processes.pop((kind, str(who)), None)
        self._missing.pop((kind, str(who)), None)

    def counts(self) -> dict[str, int]:
        """Losses of every kind so far."""
        return {kind.value: sum(fault.kind == kind.value for fault in self.faults) for kind in FaultKind}

    def take_events(self) -> list[dict[str, Any]]:
        """Faults since the last call. Those still open are held back until the recovery, so that they have a time."""
        waiting = {id(fault) for fault, _ in self._missing.values()}
        candidates = [*self._pending, *self.faults[self._taken :]]
        self._taken = len(self.faults)
        self._pending = [fault for fault in candidates if id(fault) in waiting]
        return [asdict(fault) for fault in candidates if id(fault) not in waiting]

    def open_faults(self) -> list[dict[str, Any]]:
        """Faults without a recovery so far."""
        return [asdict(fault) for fault, _ in self._missing.values()]


def process_name() -> str:
    """Name of this process; a process that Ray starts in its place has another name."""
    if ray.is_initialized():
        return str(ray.get_runtime_context().get_worker_id())
    return f"{platform.node()}:{os.getpid()}"


def fault_summary(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per kind that was lost at least once: how often, and seconds until it was back (median and maximum)."""
    by_kind: dict[str, list[float | None]] = {}
    for event in events:
        by_kind.setdefault(event["kind"], []).append(event["seconds"])
    summary = {}
    for kind, found in sorted(by_kind.items()):
        seconds = [value for value in found if value is not None]
        summary[kind] = {
            "count": len(found),
            "recovery_s_median": statistics.median(seconds) if seconds else None,
            "recovery_s_max": max(seconds) if seconds else None,
        }
    return summary


class NodeMonitor:
    """Compares the cluster's nodes with those of the last poll.

    Args:
        faults: Log that records nodes that left.
    """

    def __init__(self, faults: FaultLog) -> None:
        self._faults = faults
        self._nodes = _alive()

    def poll(self) -> None:
        """Reports every node that joined or left since the last poll."""
        before, self._nodes = self._nodes, _alive()
        for node in before.keys() - self._nodes.keys():
            self._faults.record_loss(FaultKind.NODE, before[node], "it left the cluster or died")
        for node in self._nodes.keys() - before.keys():
            logger.warning("node %s joined", self._nodes[node])
            self._faults.record_recovery(FaultKind.NODE, self._nodes[node])


def _alive() -> dict[str, str]:
    """Address of every node that is alive, by id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
