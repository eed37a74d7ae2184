"""MAPPO: the centralized reference that decentralized learners are compared with.

 driver: MAPPO: one CentralLearner in this very process
   │
   │  (1) rollout(task, version, weights × N)               the same weights for every agent
   ├────────────► W × JointEnvRunner (BattleEnvRunner)      the same battles as DM2's, with their global states
   │                 └─► JointBattles, report
   │  (2) train(JointBattles)                               all agents' battles into one shared actor and critic
   └────────────► evaluation: greedy battles on the same seeds as DM2's

It has what DM2 does without: parameters shared by all agents, and a critic on the global state (Yu et al. 2021,
arXiv 2103.01955). Battles, seeds, networks, losses and evaluation are those of DM2, so that nothing else differs.
Simple rather than scalable: all data go through the driver, which learns on one CPU thread.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ray

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.algorithms.mappo.central_learner import CentralLearner
from dm2_ray.algorithms.mappo.joint_battles import JointBattles, JointEnvRunner
from dm2_ray.algorithms.training_counts import TrainingCounts
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultKind, FaultLog, NodeMonitor
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.resources import check_resources
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.rollout.env_runner import RolloutTask
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup, Rollout
from dm2_ray.distributed.run_spec import RunSpec

RETRIES = 5
"""Of one iteration's battles, when nodes are lost with their results."""


class MAPPO(TrainingCounts):
    """Trains a team that shares its parameters and its data.

    Args:
        experiment: `learners`, `discriminator`, `matching`, `demonstrations`, `cloning` and `diagnostics` are not used.

    Raises:
        NotEnoughResources: The cluster cannot hold the rollout workers.
    """

    def __init__(self, experiment: Experiment) -> None:
        config = _runners_config(experiment)
        self._spec: RunSpec = config.run_spec
        check_resources(self._spec.resources)
        self.learner = CentralLearner(self._spec)
        self.faults = FaultLog()
        """What the run has lost so far."""
        rollout, evaluation = experiment.rollout, experiment.evaluation
        self._players = self._evaluators = BattleEnvRunnerGroup(
            config, number=rollout.env_runners, maximum=rollout.max_env_runners, num_trajectories=1, faults=self.faults
        )
        if evaluation.env_runners:
            kind = FaultKind.EVALUATION_WORKER
            self._evaluators = BattleEnvRunnerGroup(
                config, number=evaluation.env_runners, num_trajectories=1, kind=kind, faults=self.faults
            )
        try:
            for group in {self._players, self._evaluators}:
                group.wait_until_ready()
        except BaseException:
            # The caller gets no object with which to end what has been started.
            self.stop()
            raise
        self._nodes = NodeMonitor(self.faults) if rollout.env_runners else None
        self._weights = self._shared_weights()

    @property
    def iteration(self) -> int:
        """Updates done so far."""
        return self.learner.version

    def learn(self) -> dict[str, Any]:
        """One iteration; returns its record for metrics.jsonl.

        Raises:
            LearningDiverged: A gradient is not finite.
            RolloutWorkersLost, StarCraftError: See `BattleEnvRunnerGroup.run`.
        """
        started = time.perf_counter()
        self.faults.iteration = self.iteration
        if self._nodes is not None:
            self._nodes.poll()
        rollouts, battles = self._play()
        sampled = time.perf_counter()
        learned = self.learner.train(battles)
        self._weights = self._shared_weights()
        statistics = BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])
        self._env_steps += statistics.env_steps
        self._episodes += statistics.episodes
        return {
            "iteration": self.iteration,
            "env_steps": self._env_steps,
            "episodes": self._episodes,
            "win_rate": float(statistics.won.mean()),
            "return_mean": float(statistics.returns.mean()),
            "episode_length_mean": float(statistics.lengths.mean()),
            "agents": {"shared": learned},
            "timing": {
                "sample_s": sampled - started,
                "learn_s": time.perf_counter() - sampled,
                "rollout_s": max(rollout.report.seconds for rollout in rollouts),
                "rollout_workers": max(1, len(self._players.at_work)),
                "battles_dropped": statistics.dropped,
                "rollout_tasks_redone": self._players.lost_tasks,
                "hosts": sorted({rollout.report.host for rollout in rollouts}),
            },
        }

    def evaluate_battles(self, episodes: int) -> BattleStatistics:
        """Plays exactly `episodes` greedy battles, always the same ones; training is not disturbed in any way."""
        parts = self._spec.evaluation_tasks
        return self._evaluators.evaluate(episodes, self.iteration, self._weights, parts=parts)

    def learning_state(self) -> dict[str, Any]:
        """Everything that a continued run depends on, in the form of DM2's."""
        return {"env_steps": self._env_steps, "episodes": self._episodes, "agents": self.learner.states()}

    def restore_learning_state(self, state: dict[str, Any]) -> None:
        """Inverse of `learning_state`.

        Raises:
            ValueError: The state belongs to another algorithm or another team.
        """
        self.learner.restore(state["agents"])
        self._env_steps, self._episodes = int(state["env_steps"]), int(state["episodes"])
        self._weights = self._shared_weights()

    def stop(self) -> None:
        """Ends all processes."""
        for group in {self._players, self._evaluators}:
            group.shutdown()

    def _play(self) -> tuple[list[Rollout], JointBattles]:
        tasks = [
            RolloutTask(iteration=self.iteration, index=index, quota=quota)
            for index, quota in enumerate(self._spec.rollout_quotas)
        ]

        def played() -> tuple[list[Rollout], JointBattles]:
            rollouts = self._players.run(tasks, self.iteration, self._weights)
            return rollouts, JointBattles.concatenate([get_if_ref(rollout.trajectories[0]) for rollout in rollouts])

        for _ in range(RETRIES):
            # Battles that are lost with their node come out the same when they are played again.
            with contextlib.suppress(ray.exceptions.ObjectLostError):
                return played()
        return played()

    def _shared_weights(self) -> list[Any]:
        """One reference (or mapping, where battles are played in this process), as often as there are agents."""
        weights = self.learner.actor_weights()
        return [ray.put(weights) if self._spec.experiment.rollout.env_runners else weights] * self._spec.num_agents


def _runners_config(experiment: Experiment) -> DM2Config:
    """The env runners' configuration: DM2's with the env runner that keeps the global states."""
    config = DM2Config().dm2(experiment)
    config.env_runner_cls = JointEnvRunner
    return config
