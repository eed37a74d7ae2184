"""Hands rollout tasks to whatever env runners are alive.

A task that is lost with its runner goes back to the queue: rollouts are pure functions of the task and the weights, so
the iteration's data are the same as if nothing had happened.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from dm2_ray.distributed.errors import RolloutWorkersLost
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.rollout.battle_collector import BattleQuota, BattleStatistics
from dm2_ray.distributed.rollout.env_runner import RolloutReport, RolloutTask
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup

MAX_ATTEMPTS = 20
"""At one task: whatever loses it again and again is not bad luck with processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One task's outcome: references to its trajectories (one per agent in DM2), and the report."""

    trajectories: Sequence[Any]
    report: RolloutReport


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """A task that a runner is at."""

    index: int
    runner: int
    trajectories: list[Any]
    deadline: float


class RolloutPool:
    """A fleet of runners that share a queue of tasks.

    Args:
        fleet: Who plays.
        num_trajectories: What a rollout returns before its report.
        task_timeout_s: After which a task is given to another runner, and the one that hangs is ended.
        restore_timeout_s: Longest wait while no runner is alive.
    """

    def __init__(
        self, fleet: BattleEnvRunnerGroup, *, num_trajectories: int, task_timeout_s: float, restore_timeout_s: float
    ) -> None:
        self.fleet = fleet
        self._num_trajectories = num_trajectories
        self._task_timeout_s = task_timeout_s
        self._restore_timeout_s = restore_timeout_s
        self.lost_tasks = 0
        """Tasks that had to be done again since the pool was built."""

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
            RolloutWorkersLost: All runners are gone and none came back in time.
        """
        if self.fleet.local is not None:
            return self._run_locally(tasks, policy_version, weights)
        self.fleet.resize()
        queue = deque(range(len(tasks)))
        done: dict[int, Rollout] = {}
        busy: dict[Any, _Attempt] = {}
        attempts = [0] * len(tasks)
        alone_since: float | None = None
        while len(done) < len(tasks):
            occupied = {attempt.runner for attempt in busy.values()}
            for runner in sorted(self.fleet.at_work - occupied):
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
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > self._restore_timeout_s:
                    raise RolloutWorkersLost(
                        f"no rollout worker came back within {self._restore_timeout_s:.0f} s; "
                        "see `ray status` for the cluster's nodes and resources"
                    )
                self.fleet.look(timeout_s=1.0)
                continue
            alone_since = None
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=1.0)
            for ref in ready:
                attempt = busy.pop(ref)
                try:
                    report: RolloutReport = get_if_ref(ref)
                    self.fleet.answered(attempt.runner, report.process)
                    done[attempt.index] = Rollout(trajectories=attempt.trajectories, report=report)
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as lost:
                    self._give_back(attempt, queue, type(lost).__name__)
            for ref, attempt in list(busy.items()):
                if time.monotonic() > attempt.deadline:
                    del busy[ref]
                    self.fleet.restart(attempt.runner)
                    self._give_back(attempt, queue, "no answer in time")
            self.fleet.look(timeout_s=0.0)
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
            StarCraftError, RolloutWorkersLost: As `run` does.
        """
        shares = [episodes // parts + (index < episodes % parts) for index in range(parts)]
        tasks = [
            RolloutTask(iteration=0, index=index, quota=BattleQuota(episodes=share), evaluation=True)
            for index, share in enumerate(shares)
            if share
        ]
        rollouts = self.run(tasks, policy_version, weights)
        return BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])

    def _submit(self, task: RolloutTask, runner: int, policy_version: int, weights: Sequence[Any]) -> list[Any]:
        actor = self.fleet.handles[runner]
        if task.evaluation:
            return [actor.evaluation.remote(task, policy_version, *weights)]
        rollout = actor.rollout.options(num_returns=self._num_trajectories + 1)
        return list(rollout.remote(task, policy_version, *weights))

    def _give_back(self, attempt: _Attempt, queue: deque[int], why: str) -> None:
        self.fleet.lost(attempt.runner, why)
        self.lost_tasks += 1
        queue.appendleft(attempt.index)

    def _run_locally(self, tasks: Sequence[RolloutTask], policy_version: int, weights: Sequence[Any]) -> list[Rollout]:
        runner = self.fleet.local
        values = [get_if_ref(item) for item in weights]
        rollouts = []
        for task in tasks:
            if task.evaluation:
                trajectories, report = [], runner.evaluation(task, policy_version, *values)
            else:
                *trajectories, report = runner.rollout(task, policy_version, *values)
            rollouts.append(Rollout(trajectories=trajectories, report=report))
        return rollouts
