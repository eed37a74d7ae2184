"""BattleEnvRunnerGroup: the processes that play battles; how they start, which are alive, and how many there are.

    start ─► waiting ─► at work ─► lost ─► waiting (Ray restarts it where there is room) ─► at work …
                                            └─► given up: it was more than `number`, and its node is gone

Which process does what does not matter (see env_runner.py), so processes may come and go as nodes do.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import ray

from dm2_ray.distributed.fault_log import FaultKind, FaultLog
from dm2_ray.distributed.resources import NotEnoughResources

if TYPE_CHECKING:
    from dm2_ray.algorithms.dm2_config import DM2Config

logger = logging.getLogger(__name__)

GROWTH_PAUSE_S = 5.0
"""Between two looks at what else the cluster has room for."""
GIVE_UP_S = 30.0
"""After which a process that is more than `number` is not waited for any more."""
REPORT_EVERY_S = 30.0
"""While processes are waited for."""
YIELDED_S = 60.0
"""For which nothing is started after a process has made room."""
PING_PAUSE_S = 0.2
"""Between two questions to a process that is being restarted."""


class BattleEnvRunnerGroup:
    """Env runners, each in a process of its own, spread over the nodes."""

    def __init__(
        self,
        config: DM2Config,
        *,
        number: int,
        maximum: int | None = None,
        kind: FaultKind = FaultKind.ROLLOUT_WORKER,
        faults: FaultLog | None = None,
        first_bundle_index: int | None = None,
    ) -> None:
        """
        Args:
            config: Of the run; its `env_runner_cls` is started.
            number: Processes to start with; 0 starts none: battles are then played in this process.
            maximum: More are started while the cluster has room, up to so many; None keeps their number.
            kind: What their losses are called.
            faults: Is told of losses.
            first_bundle_index: Of their bundles in the current placement group, or None outside of one.
        """
        self.faults = faults or FaultLog()
        self.kind = kind
        self.handles: dict[int, Any] = {}
        """Of all processes, by number."""
        self.at_work: set[int] = set()
        """Numbers of those that answer."""
        self.local: Any = None
        """The runner of this process, where there are no others."""
        self._config = config
        self._number = number
        self._maximum = max(number, maximum or 0) if number else 0
        self._first_bundle_index = first_bundle_index
        self._started = 0
        self._pings: dict[Any, int] = {}
        self._ping_again: dict[int, float] = {}
        self._died: set[int] = set()
        self._lost_since: dict[int, float] = {}
        self._grown_at = time.monotonic()
        if number == 0:
            self.local = config.env_runner_cls(config=config, worker_index=0)
            return
        # Ray needs the constructor's arguments for as long as it may restart a process.
        self._config_ref = ray.put(config)
        for _ in range(number):
            self._start()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Returns once all processes that were started answer.

        Args:
            timeout_s: Longest wait for all; where some answer by then, the run begins with those.

        Raises:
            NotEnoughResources: None answers in time.
            Exception: As a runner's constructor raised it.
        """
        now = time.monotonic()
        deadline, report_due = now + timeout_s, now + REPORT_EVERY_S
        while len(self.at_work) < len(self.handles) and time.monotonic() < deadline:
            self.look(timeout_s=1.0)
            if time.monotonic() > report_due:
                report_due += REPORT_EVERY_S
                logger.warning(
                    "%d of %d %ss are up; waiting for the others", len(self.at_work), len(self.handles), self.kind.label
                )
        if self._number and not self.at_work:
            raise NotEnoughResources(
                f"no {self.kind.label} could be started within {timeout_s:.0f} s: other jobs hold what the cluster "
                "has, or its nodes cannot start processes; see `ray status`"
            )

    def resize(self) -> None:
        """Takes in what has come up, starts more where the cluster has room, gives up what will not return."""
        self.look(timeout_s=0.0)
        if time.monotonic() - self._grown_at < GROWTH_PAUSE_S:
            return
        self._grown_at = time.monotonic()
        self._give_up()
        if len(self.handles) < self._maximum:
            for _ in range(min(self._maximum - len(self.handles), self._room())):
                self._start()

    def answered(self, runner: int, process: str) -> None:
        """A process did its work.

        Args:
            runner: Its number.
            process: As in its report.
        """
        self.faults.back(self.kind, runner, process)

    def lost(self, runner: int, why: str) -> None:
        """A process did not do its work; nothing is asked of it until it answers again."""
        self.at_work.discard(runner)
        self._lost_since.setdefault(runner, time.monotonic())
        self.faults.lost(self.kind, runner, why)
        self._ping_again.setdefault(runner, 0.0)

    def release_capacity(self) -> None:
        """Ends a process, if it is not the last one, for something that the run needs more; `resize` starts another
        once there is room again. One that is waiting for a place goes first."""
        if len(self.handles) < 2:
            return
        waiting = self.handles.keys() - self.at_work
        runner = max(waiting or self.handles.keys())
        logger.warning("%s %d makes room", self.kind.label, runner)
        self._drop(runner)
        self._grown_at = time.monotonic() + YIELDED_S

    def restart(self, runner: int) -> None:
        """Ends a process that hangs; Ray starts it anew."""
        ray.kill(self.handles[runner], no_restart=False)

    def look(self, timeout_s: float) -> None:
        """Takes in those that answer, new ones and lost ones.

        Args:
            timeout_s: How long to wait for one.
        """
        now = time.monotonic()
        for runner, due in list(self._ping_again.items()):
            if now >= due:
                del self._ping_again[runner]
                self._ping(runner)
        if not self._pings:
            if self._ping_again:
                time.sleep(min(timeout_s, PING_PAUSE_S))
            return
        answers = list(self._pings)
        for answer in ray.wait(answers, num_returns=len(answers), timeout=min(timeout_s, PING_PAUSE_S))[0]:
            runner = self._pings.pop(answer)
            try:
                process = ray.get(answer)
            except ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise _cause(error) from None
                # Said once of a process that died just now; said again, Ray will not bring it back.
                died = isinstance(error, ray.exceptions.ActorDiedError)
                if died and runner in self._died:
                    self.handles[runner] = self._make(runner)
                self._died = self._died ^ {runner} if died else self._died - {runner}
                self._ping_again[runner] = now + PING_PAUSE_S
            else:
                self.at_work.add(runner)
                self._died.discard(runner)
                self._lost_since.pop(runner, None)
                self.answered(runner, process)

    def shutdown(self) -> None:
        """Ends the processes."""
        if self.local is not None:
            self.local.stop()
        if ray.is_initialized():
            # Games of StarCraft II are closed rather than killed.
            if stopped := [self.handles[runner].stop.remote() for runner in self.at_work]:
                ray.wait(stopped, num_returns=len(stopped), timeout=5.0)
            for handle in self.handles.values():
                ray.kill(handle)
        self.handles, self.at_work, self._pings, self._ping_again = {}, set(), {}, {}

    def __len__(self) -> int:
        return len(self.handles)

    def _start(self) -> None:
        self._started += 1
        self.handles[self._started] = self._make(self._started)
        self._ping(self._started)

    def _make(self, runner: int) -> Any:
        # In a placement group (Tune makes one) the bundle says where; otherwise runners are spread over the nodes.
        where: dict[str, Any] = (
            {"scheduling_strategy": "SPREAD"}
            if self._first_bundle_index is None
            else {"placement_group_bundle_index": self._first_bundle_index + runner - 1}
        )
        actor = ray.remote(self._config.env_runner_cls).options(
            num_cpus=self._config.experiment.rollout.cpus_per_env_runner, max_restarts=-1, max_task_retries=0, **where
        )
        return actor.remote(config=self._config_ref, worker_index=runner)

    def _ping(self, runner: int) -> None:
        self._pings[self.handles[runner].ping.remote()] = runner

    def _room(self) -> int:
        free = ray.available_resources().get("CPU", 0.0)
        needed = self._config.experiment.rollout.cpus_per_env_runner
        # A runner that asks for nothing would fit any number of times.
        return int((free + 1e-6) / needed) if needed > 0 else 0

    def _give_up(self) -> None:
        for runner, since in list(self._lost_since.items()):
            if len(self.handles) <= self._number or time.monotonic() - since < GIVE_UP_S:
                continue
            logger.warning("%s %d left with its node", self.kind.label, runner)
            self._drop(runner)

    def _drop(self, runner: int) -> None:
        ray.kill(self.handles.pop(runner))
        self.at_work.discard(runner)
        self._lost_since.pop(runner, None)
        self._ping_again.pop(runner, None)
        self._pings = {answer: of for answer, of in self._pings.items() if of != runner}
        self.faults.gone(self.kind, runner)


def _cause(error: ray.exceptions.RayActorError) -> BaseException:
    """What a constructor raised, if it did."""
    cause = getattr(error.args[0] if error.args else None, "cause", None)
    return cause if isinstance(cause, BaseException) else error
