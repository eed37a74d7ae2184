"""BattleEnvRunnerGroup: the processes that play battles, and the queue of tasks that they share.

    start ─► waiting ─► at work ─► lost ─► waiting (Ray restarts it where there are resources) ─► at work …
                                            └─► removed: it was one of those beyond `number`, and its node is gone

Rollouts are pure functions of the task and the weights (see env_runner.py): any process may play any task, processes
may come and go as nodes do, and a task that is lost with its process is queued again with the same result.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from dm2_ray.distributed.errors import RolloutWorkersLost
from dm2_ray.distributed.fault_log import FaultKind, FaultLog
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.placement import REPORT_EVERY_S
from dm2_ray.distributed.resources import NotEnoughResources
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.rollout.env_runner import RolloutReport, RolloutTask
from dm2_ray.distributed.run_spec import BattleQuota, RunSpec, even_shares

logger = logging.getLogger(__name__)

GROWTH_PAUSE_S = 5.0  # between two checks of what else the cluster has resources for
REMOVE_AFTER_S = 30.0  # after that, a lost process beyond `number` is not waited for any more
RELEASE_PAUSE_S = 60.0  # for which nothing is started after a process has released its resources
PING_PAUSE_S = 0.2  # between two pings of a process that is being restarted
# A task that is lost with so many processes is itself the cause, not chance.
MAX_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One task's result: references to its trajectories (one per agent in DM2), and the report."""

    trajectories: Sequence[Any]
    report: RolloutReport


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """A task that a runner is playing."""

    index: int
    runner: int
    trajectories: list[Any]
    deadline: float


class BattleEnvRunnerGroup:
    """Env runners, each in its own process, spread over the nodes."""

    def __init__(
        self,
        config: AlgorithmConfig,
        *,
        number: int,
        maximum: int | None = None,
        num_trajectories: int | None = None,
        kind: FaultKind = FaultKind.ROLLOUT_WORKER,
        faults: FaultLog | None = None,
        first_bundle_index: int | None = None,
    ) -> None:
        """
        Args:
            config: A DM2Config, which RLlib's EnvRunner takes; its `env_runner_cls` is started.
            number: Processes to start with; 0 starts none: battles are then played in this process.
            maximum: More are started while the cluster has resources, up to this number; None keeps their number.
            num_trajectories: Objects that a rollout returns before its report; by default one per agent.
            kind: Which kind of loss theirs are counted as.
            faults: Log that records losses.
            first_bundle_index: Of their bundles in the current placement group, or None outside of one.
        """
        spec: RunSpec = config.run_spec
        self.faults = faults or FaultLog()
        self.kind = kind
        self.handles: dict[int, Any] = {}
        """Of all processes, by number."""
        self.at_work: set[int] = set()
        """Numbers of those that answer."""
        self.lost_tasks = 0
        """Training rollouts that were lost with their process and played again."""
        self._local: Any = None
        self._config = config
        self._number = number
        self._maximum = max(number, maximum or 0) if number else 0
        self._num_trajectories = spec.num_agents if num_trajectories is None else num_trajectories
        self._cpus = spec.experiment.rollout.cpus_per_env_runner
        self._task_timeout_s = spec.experiment.rollout.timeout_s
        self._patience_s = spec.experiment.faults.wait_for_resources_s
        self._first_bundle_index = first_bundle_index
        self._started = 0
        self._pings: dict[Any, int] = {}
        self._ping_again: dict[int, float] = {}
        self._died: set[int] = set()
        self._lost_since: dict[int, float] = {}
        self._grown_at = time.monotonic()
        if number == 0:
            self._local = config.env_runner_cls(config=config, worker_index=0)
            return
        # Ray needs the constructor's arguments for as long as it may restart a process.
        self._config_ref = ray.put(config)
        for _ in range(number):
            self._start()

    # Playing.

    def run(self, tasks: Sequence[RolloutTask], policy_version: int, weights: Sequence[Any]) -> list[Rollout]:
        """Plays all tasks.

        Args:
            tasks: What to play.
            policy_version: Of the weights.
            weights: One reference (or mapping) per agent.

        Returns:
            One Rollout per task, in the tasks' order.

        Raises:
            StarCraftError: A worker's StarCraft II cannot be used.
            RolloutWorkersLost: All runners are lost and none came back within `faults.wait_for_resources_s`.
        """
        if self._local is not None:
            return self._run_locally(tasks, policy_version, weights)
        self.resize()
        queue = deque(range(len(tasks)))
        done: dict[int, Rollout] = {}
        busy: dict[Any, _Attempt] = {}
        attempts = [0] * len(tasks)
        none_since: float | None = None
        while len(done) < len(tasks):
            occupied = {attempt.runner for attempt in busy.values()}
            for runner in sorted(self.at_work - occupied):
                if not queue:
                    break
                index = queue.popleft()
                attempts[index] += 1
                if attempts[index] > MAX_ATTEMPTS:
                    raise RolloutWorkersLost(f"a rollout was lost {MAX_ATTEMPTS} times in one iteration")
                refs = self._submit(tasks[index], runner, policy_version, weights)
                deadline = time.monotonic() + self._task_timeout_s
                busy[refs[-1]] = _Attempt(index=index, runner=runner, trajectories=refs[:-1], deadline=deadline)
            if not busy:
                none_since = none_since or time.monotonic()
                if time.monotonic() - none_since > self._patience_s:
                    raise RolloutWorkersLost(
                        f"no rollout worker came back within {self._patience_s:.0f} s; "
                        "see `ray status` for the cluster's nodes and resources"
                    )
                self._check_processes(timeout_s=1.0)
                continue
            none_since = None
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=1.0)
            for ref in ready:
                attempt = busy.pop(ref)
                try:
                    report: RolloutReport = get_if_ref(ref)
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as lost:
                    self._queue_again(attempt, tasks, queue, type(lost).__name__)
                else:
                    self.faults.record_recovery(self.kind, attempt.runner, report.process)
                    done[attempt.index] = Rollout(trajectories=attempt.trajectories, report=report)
            for ref, attempt in list(busy.items()):
                if time.monotonic() > attempt.deadline:
                    del busy[ref]
                    # It hangs: end it; Ray starts it anew.
                    ray.kill(self.handles[attempt.runner], no_restart=False)
                    self._queue_again(attempt, tasks, queue, "no answer in time")
            self._check_processes(timeout_s=0.0)
        return [done[index] for index in range(len(tasks))]

    def evaluate(
        self, episodes: int, policy_version: int, weights: Sequence[Any], *, parts: int = 1
    ) -> BattleStatistics:
        """Plays exactly `episodes` greedy battles; the same battles at every call with the same number of parts.

        Args:
            episodes: How many.
            policy_version: Of the weights.
            weights: One reference (or mapping) per agent.
            parts: How many tasks they are split into.

        Raises:
            StarCraftError, RolloutWorkersLost: See `run`.
        """
        tasks = [
            RolloutTask(iteration=0, index=index, quota=BattleQuota(episodes=share), evaluation=True)
            for index, share in enumerate(even_shares(episodes, parts))
        ]
        rollouts = self.run(tasks, policy_version, weights)
        return BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])

    def _submit(self, task: RolloutTask, runner: int, policy_version: int, weights: Sequence[Any]) -> list[Any]:
        actor = self.handles[runner]
        if task.evaluation:
            return [actor.evaluation.remote(task, policy_version, *weights)]
        rollout = actor.rollout.options(num_returns=self._num_trajectories + 1)
        return list(rollout.remote(task, policy_version, *weights))

    def _queue_again(self, attempt: _Attempt, tasks: Sequence[RolloutTask], queue: deque[int], why: str) -> None:
        """A runner did not finish its task; it gets no other until it answers again."""
        runner = attempt.runner
        self.at_work.discard(runner)
        self._lost_since.setdefault(runner, time.monotonic())
        self.faults.record_loss(self.kind, runner, why)
        self._ping_again.setdefault(runner, 0.0)
        self.lost_tasks += not tasks[attempt.index].evaluation
        queue.appendleft(attempt.index)

    def _run_locally(self, tasks: Sequence[RolloutTask], policy_version: int, weights: Sequence[Any]) -> list[Rollout]:
        values = [get_if_ref(item) for item in weights]
        rollouts = []
        for task in tasks:
            if task.evaluation:
                trajectories, report = [], self._local.evaluation(task, policy_version, *values)
            else:
                *trajectories, report = self._local.rollout(task, policy_version, *values)
            rollouts.append(Rollout(trajectories=trajectories, report=report))
        return rollouts

    # Processes.

    def wait_until_ready(self) -> None:
        """Returns once all processes that were started answer, or, after `faults.wait_for_resources_s`, some of them.

        Raises:
            NotEnoughResources: None answers in time.
            Exception: Raised by a runner's constructor.
        """
        now = time.monotonic()
        deadline, report_due = now + self._patience_s, now + REPORT_EVERY_S
        while len(self.at_work) < len(self.handles) and time.monotonic() < deadline:
            self._check_processes(timeout_s=1.0)
            if time.monotonic() > report_due:
                report_due += REPORT_EVERY_S
                logger.warning(
                    "%d of %d %ss are up; waiting for the others", len(self.at_work), len(self.handles), self.kind.label
                )
        if self._number and not self.at_work:
            raise NotEnoughResources(
                f"no {self.kind.label} could be started within {self._patience_s:.0f} s: other jobs hold the cluster's "
                "resources, or its nodes cannot start processes; see `ray status`"
            )

    def resize(self) -> None:
        """Adds processes that have come up, starts more where the cluster has resources, removes those that will not
        return."""
        self._check_processes(timeout_s=0.0)
        if time.monotonic() - self._grown_at < GROWTH_PAUSE_S:
            return
        self._grown_at = time.monotonic()
        self._remove_lost()
        if len(self.handles) < self._maximum:
            for _ in range(min(self._maximum - len(self.handles), self._startable())):
                self._start()

    def release_capacity(self) -> None:
        """Ends a process, unless it is the last one, for something that the run needs more; `resize` starts another
        once there are resources again. A process that is waiting for resources is ended first."""
        if len(self.handles) < 2:
            return
        waiting = self.handles.keys() - self.at_work
        runner = max(waiting or self.handles.keys())
        logger.warning("%s %d releases its resources", self.kind.label, runner)
        self._remove(runner)
        self._grown_at = time.monotonic() + RELEASE_PAUSE_S

    def shutdown(self) -> None:
        """Ends the processes."""
        if self._local is not None:
            self._local.stop()
        if ray.is_initialized():
            # Games of StarCraft II are closed rather than killed.
            if stopped := [self.handles[runner].stop.remote() for runner in self.at_work]:
                ray.wait(stopped, num_returns=len(stopped), timeout=5.0)
            for handle in self.handles.values():
                ray.kill(handle)
        self.handles, self.at_work, self._pings, self._ping_again = {}, set(), {}, {}

    def __len__(self) -> int:
        return len(self.handles)

    def _check_processes(self, timeout_s: float) -> None:
        """Puts processes that answer to work, new ones and restarted ones.

        Args:
            timeout_s: How long to wait for an answer.
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
                    raise _root_cause(error) from None
                # Ray reports ActorDiedError once for a process that has just died; twice in a row means that Ray will
                # not restart it.
                died = isinstance(error, ray.exceptions.ActorDiedError)
                if died and runner in self._died:
                    self.handles[runner] = self._make(runner)
                self._died = self._died ^ {runner} if died else self._died - {runner}
                self._ping_again[runner] = now + PING_PAUSE_S
            else:
                self.at_work.add(runner)
                self._died.discard(runner)
                self._lost_since.pop(runner, None)
                self.faults.record_recovery(self.kind, runner, process)

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
            num_cpus=self._cpus, max_restarts=-1, max_task_retries=0, **where
        )
        return actor.remote(config=self._config_ref, worker_index=runner)

    def _ping(self, runner: int) -> None:
        self._pings[self.handles[runner].ping.remote()] = runner

    def _startable(self) -> int:
        """How many more processes the cluster has CPUs for now."""
        free = ray.available_resources().get("CPU", 0.0)
        # A runner that asks for nothing would fit any number of times.
        return int((free + 1e-6) / self._cpus) if self._cpus > 0 else 0

    def _remove_lost(self) -> None:
        for runner, since in list(self._lost_since.items()):
            if len(self.handles) <= self._number or time.monotonic() - since < REMOVE_AFTER_S:
                continue
            logger.warning("%s %d left with its node", self.kind.label, runner)
            self._remove(runner)

    def _remove(self, runner: int) -> None:
        ray.kill(self.handles.pop(runner))
        self.at_work.discard(runner)
        self._lost_since.pop(runner, None)
        self._ping_again.pop(runner, None)
        self._pings = {answer: number for answer, number in self._pings.items() if number != runner}
        self.faults.record_removal(self.kind, runner)


def _root_cause(error: ray.exceptions.RayActorError) -> BaseException:
    """The exception that a constructor raised, if it did."""
    cause = getattr(error.args[0] if error.args else None, "cause", None)
    return cause if isinstance(cause, BaseException) else error
