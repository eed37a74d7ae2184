"""Kills processes of a run at random moments, from outside, and measures how long each takes to recover.

    dm2 train (the driver)
      └─ raylet
           ├─ ray::AgentLearner.train        SIGKILL  ──►  recovered when another process of this class is ready
           ├─ ray::BattleEnvRunner.rollout
           └─ ray::ExpertProcess …

All it uses of Ray is that actors are children of the raylet and that their process titles name the current call. The
run is not told about the kills, which hit processes that are idle or in the middle of a call.
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
from typing import NamedTuple

from dm2_ray.distributed.memory import process_role

logger = logging.getLogger(__name__)

POLL_S = 0.03
DURING_RECOVERY_SHARE = 1 / 3
"""Share of kills that do not wait until all processes have recovered from the kills before."""
RECOVERY_TIMEOUT_S = 60.0
"""How long a kill waits for a missing process."""
TITLE = "ray::"
NOT_AN_ACTOR = ("IDLE", "DashboardAgent", "RuntimeEnvAgent", "SPILL", "RESTORE", "DELETE")
CONSTRUCTOR = "__init__"


@dataclass(kw_only=True, slots=True)
class Kill:
    """A process that was killed.

    Attributes:
        kind: Kind of the process.
        during: The call that it was executing, or `idle`.
        after_s: Seconds since the first time that all kinds of processes were ready.
        back_s: Seconds until its replacement was ready; None if none was seen.
    """

    kind: str
    during: str
    after_s: float
    back_s: float | None = None


class _Process(NamedTuple):
    pid: int
    kind: str
    call: str | None


class ProcessKiller:
    """Kills processes of one run until it has killed enough.

    Args:
        kills: How many processes to kill.
        mean_gap_s: Mean time from the moment when all processes have recovered (for some kills: from the last kill)
            to the next kill; exponentially distributed.
        seed: Seed of the gaps and the victims.
    """

    def __init__(self, *, kills: int, mean_gap_s: float, seed: int) -> None:
        self.kills: list[Kill] = []
        self._wanted = kills
        self._mean_gap_s = mean_gap_s
        self._random = random.Random(seed)
        self._roles: dict[int, str] = {}
        """Kinds of the processes that were seen ready, by process id."""
        self._killed: set[int] = set()
        self._missing: list[tuple[Kill, float]] = []
        self._started: float | None = None
        self._due: float | None = None
        self._during_recovery = True

    def poll(self, driver: int) -> None:
        """Notes which processes have recovered, and kills one if it is time. To be called every POLL_S.

        Args:
            driver: Process id of the run.
        """
        now = time.monotonic()
        actors = [process for process in _actors(driver) if process.pid not in self._killed]
        ready = [process for process in actors if process.call != CONSTRUCTOR]
        for process in ready:
            self._identify(process, now)
        if self._started is None:
            if not self._all_ready(ready):
                return
            self._started = now
        if self._due is None:
            if self._during_recovery or all(now - since > RECOVERY_TIMEOUT_S for _, since in self._missing):
                self._due = now + self._random.expovariate(1.0 / self._mean_gap_s)
        elif len(self.kills) < self._wanted and now >= self._due and ready:
            self._kill(ready, now)
            self._due, self._during_recovery = None, self._random.random() < DURING_RECOVERY_SHARE

    def _identify(self, process: _Process, now: float) -> None:
        if process.pid not in self._roles:
            # Ray restarts an actor in another process, which replaces the first missing one of its kind.
            replaced = next((entry for entry in self._missing if _is_of(process.kind, entry[0].kind)), None)
            self._roles[process.pid] = process.kind
            if replaced is not None:
                kill, since = replaced
                self._missing.remove(replaced)
                kill.back_s = now - since
                self._roles[process.pid] = kill.kind
        # Rollout and evaluation workers are of one class; their calls tell which is which.
        if process.call == "evaluation":
            self._roles[process.pid] = "evaluation_worker"
        elif process.call == "rollout":
            self._roles[process.pid] = "rollout_worker"

    def _all_ready(self, ready: list[_Process]) -> bool:
        kinds = {self._roles[process.pid] for process in ready}
        return {"learner", "rollout_worker", "evaluation_worker", "expert"} <= kinds

    def _kill(self, ready: list[_Process], now: float) -> None:
        kinds = sorted({self._roles[process.pid] for process in ready})
        kind = self._random.choice(kinds)
        victim = self._random.choice([process for process in ready if self._roles[process.pid] == kind])
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
            self._killed.add(victim.pid)
            kill = Kill(kind=kind, during=victim.call or "idle", after_s=now - (self._started or now))
            self.kills.append(kill)
            self._missing.append((kill, now))
            logger.info(f"kill {len(self.kills)}/{self._wanted}: {kind.replace('_', ' ')}, {kill.during}")


def _is_of(kind: str, role: str) -> bool:
    return role == kind or (kind == "rollout_worker" and role == "evaluation_worker")


def _actors(driver: int) -> list[_Process]:
    """The run's actors, in the order of their process ids."""
    found = []
    for pid in sorted(grandchild for child in _children(driver) for grandchild in _children(child)):
        with suppress(OSError):  # the process has ended
            title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[0]
            if not title.startswith(TITLE):
                continue
            name, _, call = title.removeprefix(TITLE).strip().partition(".")
            # A killed process keeps its title until its parent has waited for it.
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
