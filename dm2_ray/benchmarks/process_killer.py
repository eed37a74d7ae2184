"""Killer: ends a run's processes at random moments, from outside, and measures how long each takes to come back.

    dm2 train (the driver)
      └─ raylet
           ├─ ray::AgentLearner.train        SIGKILL  ──►  another process of this class is ready: it is back
           ├─ ray::BattleEnvRunner.rollout
           └─ ray::ExpertProcess …

It knows of Ray only that it starts actors as children of its raylet, under titles that say what they do. Nobody tells
the run that something was killed, or when: idle or in the middle of a call, as it comes.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dm2_ray.distributed.memory import process_role

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.03
HASTY = 1 / 3
"""Share of kills after which the next does not wait for everybody to be back: it falls into a recovery."""
PATIENCE_S = 60.0
"""After which a process that is missing is not waited for any more."""
TITLE = "ray::"
NOT_AN_ACTOR = ("IDLE", "DashboardAgent", "RuntimeEnvAgent", "SPILL", "RESTORE", "DELETE")
BEING_MADE = "__init__"


@dataclass(kw_only=True, slots=True)
class Kill:
    """One process that was ended."""

    kind: str
    during: str
    """The call that it was doing, or `idle`."""
    after_s: float
    """Since the killer began."""
    back_s: float | None = None
    """Until its replacement was ready; None if it was not seen to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    pid: int
    kind: str
    call: str | None


class ProcessKiller:
    """Kills until it has killed enough.

    Args:
        driver: Process id of the run.
        kills: How many processes to kill.
        mean_gap_s: Mean time from when everybody is back until the next kill (after some kills: from the kill itself);
            exponentially distributed.
        seed: Of gaps and victims.
    """

    def __init__(self, driver: int, *, kills: int, mean_gap_s: float, seed: int) -> None:
        self.kills: list[Kill] = []
        self._driver = driver
        self._wanted = kills
        self._mean_gap_s = mean_gap_s
        self._random = random.Random(seed)
        self._roles: dict[int, str] = {}
        """Of processes that were seen ready."""
        self._killed: set[int] = set()
        self._missing: list[tuple[Kill, float]] = []
        self._began: float | None = None
        self._due: float | None = None
        self._hasty = True

    def look(self) -> None:
        """Notes who is back, and kills if it is time. To be called every LOOK_EVERY_S."""
        now = time.monotonic()
        actors = [process for process in _actors(self._driver) if process.pid not in self._killed]
        ready = [process for process in actors if process.call != BEING_MADE]
        for process in ready:
            self._identify(process, now)
        if self._began is None:
            if not self._all_busy(ready):
                return
            self._began = now
        if self._due is None:
            if self._hasty or all(now - since > PATIENCE_S for _, since in self._missing):
                self._due = now + self._random.expovariate(1.0 / self._mean_gap_s)
        elif len(self.kills) < self._wanted and now >= self._due and ready:
            self._kill(ready, now)
            self._due, self._hasty = None, self._random.random() < HASTY

    def _identify(self, process: _Process, now: float) -> None:
        if process.pid not in self._roles:
            # Ray restarts an actor in another process: it takes the place of the first that is missing.
            replaced = next((entry for entry in self._missing if _is_of(process.kind, entry[0].kind)), None)
            self._roles[process.pid] = process.kind
            if replaced is not None:
                kill, since = replaced
                self._missing.remove(replaced)
                kill.back_s = now - since
                self._roles[process.pid] = kill.kind
        # Both kinds of workers are of one class; what they are asked for tells which they are.
        if process.call == "evaluation":
            self._roles[process.pid] = "evaluation_worker"
        elif process.call == "rollout":
            self._roles[process.pid] = "rollout_worker"

    def _all_busy(self, ready: list[_Process]) -> bool:
        kinds = {self._roles[process.pid] for process in ready}
        return {"learner", "rollout_worker", "evaluation_worker", "expert"} <= kinds

    def _kill(self, ready: list[_Process], now: float) -> None:
        kinds = sorted({self._roles[process.pid] for process in ready})
        kind = self._random.choice(kinds)
        victim = self._random.choice([process for process in ready if self._roles[process.pid] == kind])
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
            self._killed.add(victim.pid)
            kill = Kill(kind=kind, during=victim.call or "idle", after_s=now - (self._began or now))
            self.kills.append(kill)
            self._missing.append((kill, now))
            logger.info(f"kill {len(self.kills)}/{self._wanted}: {kind.replace('_', ' ')}, {kill.during}")


def _is_of(kind: str, role: str) -> bool:
    return role == kind or (kind == "rollout_worker" and role == "evaluation_worker")


def _actors(driver: int) -> list[_Process]:
    """The run's actors, in the order of their process ids."""
    found = []
    for pid in sorted(grandchild for child in _children(driver) for grandchild in _children(child)):
        with suppress(OSError):  # it has ended
            title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[0]
            if not title.startswith(TITLE):
                continue
            name, _, call = title.removeprefix(TITLE).strip().partition(".")
            # A killed process keeps its title until its parent has buried it.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if not name.startswith(NOT_AN_ACTOR) and state != "Z":
                found.append(_Process(pid=pid, kind=process_role(name), call=call.removesuffix("()") or None))
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found
