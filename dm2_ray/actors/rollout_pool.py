"""Hands rollout tasks to whatever env runners are alive.

A task that is lost with its runner goes back to the queue: rollouts are pure functions of the task and the weights, so
the iteration's data are the same as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from dm2_ray.actors.collector import BattleQuota, BattleStatistics
from dm2_ray.actors.env_runner import RolloutReport, RolloutTask
from dm2_ray.world.starcraft.protocol import StarCraftError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 20
"""At one task: whatever loses it again and again is not bad luck with processes."""


class RolloutWorkersLost(RuntimeError):
    """No env runner came back in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One task's outcome: references to its trajectories (one per agent in DM2), and the report."""

    trajectories: Sequence[Any]
    report: RolloutReport


class RolloutPool:
    """A group of BattleEnvRunners that share a queue of tasks.

    Args:
        group: Of BattleEnvRunners.
        num_trajectories: What a rollout returns before its report.
        task_timeout_s: After which a task is given to another runner.
        restore_timeout_s: Longest wait while no runner is alive.
    """

    def __init__(
        self, group: EnvRunnerGroup, *, num_trajectories: int, task_timeout_s: float, restore_timeout_s: float
    ) -> None:
        self._group = group
        self._num_trajectories = num_trajectories
        self._task_timeout_s = task_timeout_s
        self._restore_timeout_s = restore_timeout_s
        self.lost_tasks = 0
        """Tasks that had to be done again since the pool was built."""

    @property
    def _manager(self) -> FaultTolerantActorManager:
        # The one place that reaches behind RLlib's door: its own calls cannot ask for several returns.
        return self._group._worker_manager

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
        if self._group.num_remote_env_runners() == 0:
            return self._run_locally(tasks, policy_version, weights)
        queue = deque(range(len(tasks)))
        done: dict[int, Rollout] = {}
        busy: dict[Any, tuple[int, int, list[Any], float]] = {}
        attempts = [0] * len(tasks)
        alone_since: float | None = None
        while len(done) < len(tasks):
            idle = [i for i in self._manager.healthy_actor_ids() if all(runner != i for _, runner, *_ in busy.values())]
            while queue and idle:
                index, runner = queue.popleft(), idle.pop(0)
                attempts[index] += 1
                if attempts[index] > MAX_ATTEMPTS:
                    raise RolloutWorkersLost(f"a rollout was lost {MAX_ATTEMPTS} times in one iteration")
                task = tasks[index]
                actor = self._manager.actors()[runner]
                if task.evaluation:
                    refs = [actor.evaluation.remote(task, policy_version, *weights)]
                else:
                    refs = actor.rollout.options(num_returns=self._num_trajectories + 1).remote(
                        task, policy_version, *weights
                    )
                busy[refs[-1]] = (index, runner, refs[:-1], time.monotonic() + self._task_timeout_s)
            if not busy:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > self._restore_timeout_s:
                    raise RolloutWorkersLost(
                        f"no rollout worker came back within {self._restore_timeout_s:.0f} s; "
                        "see `ray status` for the cluster's nodes and resources"
                    )
                self._group.probe_unhealthy_env_runners(timeout_seconds=5)
                continue
            alone_since = None
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=1.0)
            for ref in ready:
                index, runner, trajectories, _ = busy.pop(ref)
                try:
                    done[index] = Rollout(trajectories=trajectories, report=ray.get(ref))
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as lost:
                    self._give_back(index, runner, queue, type(lost).__name__)
                except ray.exceptions.RayTaskError as failed:
                    if isinstance(failed.cause, StarCraftError):
                        # It says in one line what the worker's traceback says in thirty.
                        raise failed.cause from None
                    raise
            for ref, (index, runner, _, deadline) in list(busy.items()):
                if time.monotonic() > deadline:
                    del busy[ref]
                    self._give_back(index, runner, queue, "no answer in time")
        return [done[index] for index in range(len(tasks))]

    def evaluate(self, episodes: int, policy_version: int, weights: Sequence[Any]) -> BattleStatistics:
        """Plays exactly `episodes` greedy battles, spread over all runners; the same battles at every call.

        Raises:
            StarCraftError, RolloutWorkersLost: As `run` does.
        """
        runners = max(1, self._group.num_remote_env_runners())
        shares = [episodes // runners + (index < episodes % runners) for index in range(runners)]
        tasks = [
            RolloutTask(iteration=0, index=index, quota=BattleQuota(episodes=share), evaluation=True)
            for index, share in enumerate(shares)
            if share
        ]
        rollouts = self.run(tasks, policy_version, weights)
        return BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])

    def _give_back(self, index: int, runner: int, queue: deque[int], why: str) -> None:
        logger.warning("rollout worker %d lost (%s); its task is done again", runner, why)
        self._manager.set_actor_state(runner, healthy=False)
        self.lost_tasks += 1
        queue.appendleft(index)
        self._group.probe_unhealthy_env_runners(timeout_seconds=0)

    def _run_locally(self, tasks: Sequence[RolloutTask], policy_version: int, weights: Sequence[Any]) -> list[Rollout]:
        runner = self._group.local_env_runner
        values = [ray.get(item) if isinstance(item, ray.ObjectRef) else item for item in weights]
        rollouts = []
        for task in tasks:
            if task.evaluation:
                trajectories, report = [], runner.evaluation(task, policy_version, *values)
            else:
                *trajectories, report = runner.rollout(task, policy_version, *values)
            rollouts.append(Rollout(trajectories=trajectories, report=report))
        return rollouts
