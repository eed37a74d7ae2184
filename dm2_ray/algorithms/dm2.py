"""DM²: decentralized multi-agent learning by distribution matching, as an RLlib Algorithm.

 driver: DM2 (RLlib Algorithm): holds ObjectRefs and metrics, never arrays
   │
   │  (1) rollout(task, version, weights_0 … weights_N-1)
   ├────────────► W × BattleEnvRunner (EnvRunner)          world: B battles stepped by one numba call
   │                 └─► N+1 returns: trajectory_0 … trajectory_N-1, report
   │  (2) draw(iteration)                                   of stored sets, live teams, or own best battles
   ├────────────► E × ExpertProcess                         joint trajectories, one draw for all agents
   │                 └─► demonstration_0 … demonstration_N-1   (same joint episodes)
   │  (3) train(iteration, demonstration_i, *trajectory_i)  only agent i's refs ever reach learner i
   ├────────────► N × AgentLearner (RLlib TorchLearner, one process each)
   │                 D_i updates → r_i = r_env + c·f(logit_i) → GAE → PPO epochs
   │                 └─► 3 returns: metrics_i, weights_i, snapshot_i
   └────────────► evaluation: greedy battles on seeds of their own

Each box is a pure function of what it is sent: rollouts and draws of (seed, iteration), updates of (snapshot, data).
What is lost with a process is done again and comes out the same. The paper: Wang, Durugkar, Liebman, Stone, "DM²:
Decentralized Multi-Agent Reinforcement Learning via Distribution Matching", AAAI 2023 (arXiv 2206.00233).
"""

from __future__ import annotations

import time
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)
from ray.tune.execution.placement_groups import PlacementGroupFactory

from dm2_ray.algorithms.dm2_config import DM2Config
from dm2_ray.algorithms.run_processes import RunProcesses
from dm2_ray.demonstrations.source_checks import uses_demonstrations_at
from dm2_ray.distributed.errors import RolloutDataLost
from dm2_ray.distributed.fault_log import NodeMonitor
from dm2_ray.distributed.learners.agent_learner import LearnerState
from dm2_ray.distributed.learners.learner_group import DecoupledLearnerGroup
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.rollout.env_runner import WIN_RATE, RolloutTask
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup
from dm2_ray.distributed.rollout.rollout_pool import Rollout, RolloutPool

DM2_STATE = "dm2"
FAULTS = "faults"
EXPERTS = "experts"


class DM2(Algorithm):
    """Trains a team of agents that share nothing. IPPO is the case `matching.coefficient == 0`."""

    config: DM2Config
    learner_group: DecoupledLearnerGroup

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> DM2Config:
        return DM2Config()

    @override(Algorithm)
    def setup(self, config: DM2Config | dict[str, Any]) -> None:
        self._env_steps = 0
        self._episodes = 0
        self.agent_metrics: dict[str, dict[str, float]] = {}
        """What the learners reported of their last update (RLlib's results also keep what is no longer reported)."""
        self.expert_metrics: dict[str, float] = {}
        """What the experts reported of their last draw."""
        self.hosts: list[str] = []
        """Addresses of the nodes that played the last iteration's battles."""
        # A copy: the place that is found for the learners is noted in it. RLlib keeps what it was given before this.
        self.config = typed = _typed(config).copy(copy_frozen=False)
        self._processes = RunProcesses(typed)
        self.faults = self._processes.faults
        """What was lost on the way."""
        self.experts = self._processes.experts
        """Who provides the demonstrations; None where none are drawn."""
        try:
            super().setup(typed)
            self._processes.wait_until_ready()
        except BaseException:
            # Others may use this Ray, too: what was started goes, and the room.
            self._processes.shutdown()
            self._processes.return_capacity()
            raise
        self.learner_group.faults = self.faults
        self.learner_group.on_capacity_needed(self._processes.free_capacity)
        self._rollouts = self._pool(self._processes.players)
        self._evaluations = self._pool(self._processes.evaluators)
        self._nodes = NodeMonitor(self.faults)

    @override(Algorithm)
    def training_step(self) -> None:
        started = time.perf_counter()
        # The group's own count of updates, not Tune's of calls: after a resume it says which data come next.
        iteration = self.faults.iteration = self.learner_group.version
        self._nodes.look()
        experts = self.experts if uses_demonstrations_at(self.config.experiment, iteration) else None
        if experts is not None:
            experts.request(iteration)
        rollouts = self._play(iteration)
        sampled = time.perf_counter()
        learnt: dict[str, dict[str, float]] | None = None
        while learnt is None:
            trajectories = [[rollout.trajectories[i] for rollout in rollouts] for i in range(self.config.num_agents)]
            try:
                demonstrations = None if experts is None else experts.draw(iteration, trajectories)
                learnt = self.learner_group.train(iteration, demonstrations, trajectories)
            except RolloutDataLost:
                rollouts = self._play(iteration)
        self.expert_metrics = {} if experts is None else experts.report()
        self._log_iteration(rollouts, learnt, sampled - started, time.perf_counter() - sampled)

    def evaluate_battles(self, episodes: int) -> BattleStatistics:
        """Plays greedy battles with the current policies; training is not disturbed in any way.

        Args:
            episodes: How many battles, exactly; the same battles at every call.
        """
        return self._evaluations.evaluate(
            episodes, self.learner_group.version, self.learner_group.weights, parts=self.config.evaluation_tasks
        )

    @property
    def env_steps(self) -> int:
        """Env steps trained on so far."""
        return self._env_steps

    @property
    def episodes(self) -> int:
        """Battles trained on so far."""
        return self._episodes

    @property
    def rollout_workers(self) -> BattleEnvRunnerGroup:
        """Who plays the battles that are learnt from."""
        return self._rollouts.fleet

    @property
    def rollout_tasks_redone(self) -> int:
        """Rollouts that were lost with their worker and played again."""
        return self._rollouts.lost_tasks

    def learning_state(self) -> dict[str, Any]:
        """Everything that a continued run depends on: counters, every agent's complete learner state, and under
        `experts`, where the source of demonstrations has a state, every agent's part of it."""
        state = {"env_steps": self._env_steps, "episodes": self._episodes, "agents": self.learner_group.snapshots()}
        experts = None if self.experts is None else self.experts.state()
        return state if experts is None else {**state, EXPERTS: experts}

    def restore_learning_state(self, state: dict[str, Any]) -> None:
        """Inverse of `learning_state`.

        Raises:
            ValueError: The state is that of another team.
        """
        agents: dict[str, LearnerState] = state["agents"]
        self.learner_group.set_state({"agents": agents})
        if self.experts is not None:
            self.experts.restore(state.get(EXPERTS))
        self._log_lifetime(int(state["env_steps"]) - self._env_steps, int(state["episodes"]) - self._episodes)
        self._iteration = self.learner_group.version

    # RLlib's hooks.

    @override(Algorithm)
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(*args, **kwargs)
        state[DM2_STATE] = {"env_steps": self._env_steps, "episodes": self._episodes}
        if self.experts is not None:
            state[DM2_STATE][EXPERTS] = self.experts.state()
        return state

    @override(Algorithm)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if DM2_STATE in state:
            self._env_steps, self._episodes = state[DM2_STATE]["env_steps"], state[DM2_STATE]["episodes"]
            if self.experts is not None:
                self.experts.restore(state[DM2_STATE].get(EXPERTS))

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        # RLlib's group has no processes here. Weights travel with every task: nothing is to be given to a runner.
        return []

    @classmethod
    @override(Algorithm)
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        return PlacementGroupFactory([{"CPU": 1.0}, *_typed(config).resources.bundles()], strategy="PACK")

    @override(Algorithm)
    def cleanup(self) -> None:
        self._processes.shutdown()
        super().cleanup()
        self._processes.return_capacity()

    def _pool(self, fleet: BattleEnvRunnerGroup) -> RolloutPool:
        return RolloutPool(
            fleet,
            num_trajectories=self.config.num_agents,
            task_timeout_s=self.config.experiment.rollout.timeout_s,
            restore_timeout_s=self.config.experiment.faults.wait_for_resources_s,
        )

    def _play(self, iteration: int) -> list[Rollout]:
        if iteration < self.config.experiment.cloning.iterations:
            return []
        tasks = [
            RolloutTask(iteration=iteration, index=index, quota=quota)
            for index, quota in enumerate(self.config.rollout_quotas())
        ]
        return self._rollouts.run(tasks, self.learner_group.version, self.learner_group.weights)

    def _log_iteration(
        self, rollouts: list[Rollout], learnt: dict[str, dict[str, float]], sample_s: float, learn_s: float
    ) -> None:
        env_steps = episodes = dropped = 0
        if rollouts:
            statistics = BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])
            env_steps, episodes, dropped = statistics.env_steps, statistics.episodes, statistics.dropped
            battles = {**outcome(statistics), NUM_ENV_STEPS_SAMPLED: env_steps}
            self.metrics.log_dict(battles, key=ENV_RUNNER_RESULTS, reduce="item")
        self.hosts = sorted({rollout.report.host for rollout in rollouts})
        self._log_lifetime(env_steps, episodes)
        self.agent_metrics = learnt
        for agent, values in learnt.items():
            self.metrics.log_dict(values, key=(LEARNER_RESULTS, agent), reduce="item")
        if self.expert_metrics:
            self.metrics.log_dict(self.expert_metrics, key=EXPERTS, reduce="item")
        self.metrics.log_dict(
            {
                "sample_s": sample_s,
                "learn_s": learn_s,
                "rollout_s": max((rollout.report.seconds for rollout in rollouts), default=0.0),
                "rollout_workers": max(1, len(self._rollouts.fleet.at_work)),
            },
            key="pace",
            reduce="item",
        )
        self.metrics.log_dict(
            {
                "learner_restarts": self.learner_group.restarts,
                "rollout_tasks_redone": self._rollouts.lost_tasks,
                "battles_dropped": dropped,
                **{f"lost_{kind}": count for kind, count in self.faults.counts().items()},
            },
            key=FAULTS,
            reduce="item",
        )

    def _log_lifetime(self, env_steps: int, episodes: int) -> None:
        """Adds to the counts of the run's life, DM2's own and those in RLlib's results."""
        self._env_steps += env_steps
        self._episodes += episodes
        counts = {NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps, NUM_EPISODES_LIFETIME: episodes}
        self.metrics.log_dict(counts, key=ENV_RUNNER_RESULTS, reduce="lifetime_sum")


def _typed(config: DM2Config | dict[str, Any]) -> DM2Config:
    """Tune hands over a dict where a user hands over the configuration itself."""
    return config if isinstance(config, DM2Config) else DM2Config().update_from_dict(config)


def outcome(statistics: BattleStatistics) -> dict[str, float]:
    """Battle statistics under RLlib's metric names."""
    return {
        EPISODE_RETURN_MEAN: float(statistics.returns.mean()),
        EPISODE_LEN_MEAN: float(statistics.lengths.mean()),
        WIN_RATE: float(statistics.won.mean()),
        NUM_EPISODES: statistics.episodes,
    }


def evaluate(algorithm: DM2, eval_env_runner_group: EnvRunnerGroup | None) -> tuple[dict[str, Any], int, int]:
    """RLlib's custom evaluation function: exactly `evaluation.episodes` greedy battles."""
    statistics = algorithm.evaluate_battles(algorithm.config.experiment.evaluation.episodes)
    results = outcome(statistics)
    algorithm.metrics.log_dict(results, key=(EVALUATION_RESULTS, ENV_RUNNER_RESULTS), reduce="item")
    return results, statistics.env_steps, statistics.env_steps * algorithm.config.num_agents
