"""DM²: decentralized multi-agent learning by distribution matching, as an RLlib Algorithm and its configuration.

 driver: DM2 (RLlib Algorithm): holds ObjectRefs and metrics, never arrays
   │
   │  (1) rollout(task, version, weights_0 … weights_N-1)
   ├────────────► W × BattleEnvRunner (EnvRunner)          world: B battles stepped by one numba call
   │                 └─► N+1 returns: trajectory_0 … trajectory_N-1, report
   │  (2) draw(iteration)                                   of stored sets, live teams, or own best battles
   ├────────────► E × demonstration server                  joint trajectories, one draw for all agents
   │                 └─► demonstration_0 … demonstration_N-1   (same joint episodes)
   │  (3) train(iteration, demonstration_i, *trajectory_i)  only agent i's refs ever reach learner i
   ├────────────► N × AgentLearner (RLlib TorchLearner, one process each)
   │                 D_i updates → r_i = r_env + c·f(logit_i) → GAE → PPO epochs
   │                 └─► 3 returns: metrics_i, weights_i, snapshot_i
   └────────────► evaluation: greedy battles on their own seeds

Each box is a pure function of what it is sent: rollouts and draws of (seed, iteration), updates of (snapshot, data).
Work that is lost with a process is done again with the same result.

Three retry loops interact in an iteration:

 DM2.training_step
   produces       one update of every agent, and the iteration's metrics
   waits for      the rollouts (1), the draw (2), N finished updates (3), in this order
   unblocked by   BattleEnvRunnerGroup.run, DemonstrationSource.draw, DecoupledLearnerGroup.train
   restarted by   RolloutDataLost: plays the iteration's rollouts again, draws again, and calls train again
   ended by       RolloutWorkersLost, ExpertsLost, LearnerLost, LearningDiverged

 BattleEnvRunnerGroup.run (1)
   produces       one Rollout per task, in the tasks' order
   waits for      a free runner while tasks are queued, then for the reports of the runners at work
   unblocked by   a report, a runner that answers its ping (new or restarted), or a task's deadline
   restarted by   RayActorError, ObjectLostError or the deadline: the task is queued again for any runner
   ended by       RolloutWorkersLost: no runner for faults.wait_for_resources_s, or one task lost 20 times

 DecoupledLearnerGroup.train (3)
   produces       metrics, weights and snapshot of every agent that has not done this iteration yet
   waits for      the updates of all of these agents, learners.timeout_s at most
   unblocked by   a finished update, the death of a learner, or the deadline
   restarted by   LearnerNotReady, RayActorError, UpdateResultLost or the deadline: the learner is restored from the
                  driver's snapshot and updates again; ObjectLostError of its data: raises RolloutDataLost to
                  training_step, and agents that are done already skip the repeated call
   ended by       LearnerLost: a learner does not come up in time, or dies 5 times in one iteration; UpdateDiverged

Only the learner group counts iterations (`version`): rollouts, draws and updates take the number from there.

The paper: Wang, Durugkar, Liebman, Stone, "DM²: Decentralized Multi-Agent Reinforcement Learning via Distribution
Matching", AAAI 2023 (arXiv 2206.00233).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
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

from dm2_ray.algorithms.run_processes import RunProcesses
from dm2_ray.algorithms.training_counts import TrainingCounts
from dm2_ray.config.dotted_path import check_functions
from dm2_ray.config.schema import Experiment, MatchingSettings, Section
from dm2_ray.demonstrations.source_checks import check_settings, uses_demonstrations_at
from dm2_ray.distributed.errors import RolloutDataLost
from dm2_ray.distributed.fault_log import NodeMonitor
from dm2_ray.distributed.learners.agent_learner import AgentLearner, LearnerState
from dm2_ray.distributed.learners.learner_group import DecoupledLearnerGroup
from dm2_ray.distributed.placement import LearnerPlacement
from dm2_ray.distributed.ray_session import quiet_ray_logging
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.rollout.env_runner import WIN_RATE, BattleEnvRunner, RolloutTask
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup, Rollout
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.world.configured import resolve_world

DM2_STATE = "dm2"
FAULTS = "faults"
EXPERTS = "experts"


class DM2Config(AlgorithmConfig):
    """Configuration of DM2: a typed experiment as an RLlib AlgorithmConfig.

    `Experiment` (dm2_ray.config.schema) holds the settings, `run_spec` what follows from them; set both with `dm2()`.
    The fields of AlgorithmConfig follow from the experiment or are fixed:

        env_runner_cls, custom_evaluation_function   DM2's own: whole battles, one trajectory per agent
        add_default_connectors_…_pipeline = False    env runners hand over arrays, not episodes for connectors
        merge_/broadcast_env_runner_states = False   env runners have no state; weights travel with every task
        num_env_runners, evaluation_num_env_runners = 0, create_local_env_runner = True
                                                     BattleEnvRunnerGroup starts the processes; RLlib's own group holds
                                                     one runner in the driver, which it asks for the spaces
        num_learners, num_cpus_/num_gpus_per_learner from `learners`: one process per agent or none
        num_envs_per_env_runner, num_cpus_per_env_runner, sample_timeout_s   from `rollout`
        gamma, seed, evaluation_duration             from `ppo`, `seed`, `evaluation`
        delay_between_env_runner_restarts_s = 0      RLlib would sleep for a minute in a failing worker
        log_level, log_sys_usage                     a run's metrics and messages are written by dm2_ray

    Examples:
        `DM2Config().dm2(world={"map": "3m"}, matching={"coefficient": 0.0}).build_algo().train()`
    """

    def __init__(self, algo_class: type | None = None) -> None:
        quiet_ray_logging()
        self.run_spec = RunSpec.from_experiment(Experiment(variant="ippo", matching=MatchingSettings(coefficient=0.0)))
        """What every process of the run needs to know."""
        super().__init__(algo_class=algo_class or DM2)
        self.env_runner_cls = BattleEnvRunner
        self.custom_evaluation_function = evaluate
        self.add_default_connectors_to_env_to_module_pipeline = False
        self.add_default_connectors_to_module_to_env_pipeline = False
        self.merge_env_runner_states = self.broadcast_env_runner_states = False
        self.log_sys_usage = False
        self.log_level = "ERROR"
        self.delay_between_env_runner_restarts_s = 0.0
        self.learner_placement: LearnerPlacement | None = None
        """Resources reserved for the learners, once DM2 has them. RLlib builds the learner group from the configuration
        alone, so this is the way to it."""
        self._mirror()

    @property
    def experiment(self) -> Experiment:
        """The settings; `dm2()` changes them."""
        return self.run_spec.experiment

    def dm2(
        self, experiment: Experiment | None = None, **sections: Section | Mapping[str, Any] | int | str
    ) -> DM2Config:
        """Sets the experiment, or some of its sections; a section given as a mapping changes only the keys it names.

        Every key is explained in configs/defaults.yaml. A scenario that `world.map` names is read here: workers need
        no file.

        Args:
            experiment: A whole experiment; by default the present one is changed.
            **sections: Fields of Experiment, e.g. `ppo={"clip": 0.05}`, `seed=1`:

                seed: Of everything random, >= 0.
                variant: Name of the method in reports; it decides nothing here.
                algorithm: "dm2", or "mappo" for the centralized reference.
                world: Map or scenario, engine, SMAC's options.
                rollout: Workers, battles side by side, data per iteration.
                policy: Actor's and critic's networks.
                ppo: PPO's coefficients, epochs and learning rates.
                discriminator: Its network, input, regularizers and updates.
                matching: How its logit becomes reward; `coefficient` 0 is IPPO.
                demonstrations: Source, sampling, servers.
                cloning: Iterations of behavior cloning before reinforcement learning.
                diagnostics: How often the divergence from the demonstrations is measured.
                learners: Processes, CPUs and GPUs of the learners.
                evaluation: How often, how many battles, on which workers.
                checkpoint, stop, tracking: Used by `dm2 train`, not by this class.
                faults: How long lost processes are waited for.

        Raises:
            pydantic.ValidationError: An unknown key or a bad value.
            UnknownMapError, ScenarioError: There is no such map, or its file is wrong.
        """
        current = (experiment or self.experiment).model_dump()
        for name, value in sections.items():
            if isinstance(value, Section):
                current[name] = value.model_dump()
            elif name == "world" and isinstance(value, Mapping) and "map" in value:
                # Another map: the previous map's scenario must not stay.
                current[name] = {**current["world"], "scenario": None, **value}
            elif isinstance(value, Mapping):
                current[name] = {**current.get(name, {}), **value}
            else:
                current[name] = value
        changed = Experiment.model_validate(current)
        self.run_spec = RunSpec.from_experiment(changed.model_copy(update={"world": resolve_world(changed.world)}))
        self._mirror()
        return self

    @override(AlgorithmConfig)
    def env_runners(self, *, num_env_runners: int = NotProvided, **kwargs: Any) -> DM2Config:
        super().env_runners(**kwargs)
        return self if num_env_runners is NotProvided else self.dm2(rollout={"env_runners": num_env_runners})

    @override(AlgorithmConfig)
    def debugging(self, *, seed: int = NotProvided, **kwargs: Any) -> DM2Config:
        super().debugging(**kwargs)
        return self if seed is NotProvided else self.dm2(seed=seed)

    def _mirror(self) -> None:
        """Sets RLlib's own fields from the experiment's."""
        settings = self.experiment
        self.seed = settings.seed
        # RLlib itself starts no env runners: BattleEnvRunnerGroup does, spread over the nodes, as many as fit.
        self.num_env_runners = 0
        self.num_envs_per_env_runner = settings.rollout.battles_per_env_runner
        self.num_cpus_per_env_runner = settings.rollout.cpus_per_env_runner
        self.sample_timeout_s = settings.rollout.timeout_s
        self.create_local_env_runner = True
        self.num_learners = self.run_spec.num_agents if self.run_spec.learners_are_processes else 0
        self.num_cpus_per_learner = settings.learners.cpus_per_learner
        self.num_gpus_per_learner = settings.learners.gpus_per_learner
        self.gamma = settings.ppo.gamma
        self.evaluation_num_env_runners = 0
        self.evaluation_duration = settings.evaluation.episodes
        self.evaluation_duration_unit = "episodes"

    # RLlib's hooks.

    @override(AlgorithmConfig)
    def validate(self) -> None:
        super().validate()
        check_functions(self.experiment)
        check_settings(self.experiment, self.run_spec.num_agents)

    @property
    def is_multi_agent(self) -> bool:
        return True

    @property
    def total_train_batch_size(self) -> int:
        return self.experiment.rollout.env_steps

    @override(AlgorithmConfig)
    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        return self.experiment.rollout.env_steps

    @override(AlgorithmConfig)
    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        # Rollouts are whole battles; there are no fragments to compare.
        return

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return AgentLearner

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> MultiRLModuleSpec:
        return MultiRLModuleSpec(rl_module_specs=self.run_spec.module_specs())

    @override(AlgorithmConfig)
    def get_multi_rl_module_spec(
        self, *, env: Any = None, spaces: Any = None, inference_only: bool = False, **kwargs: Any
    ) -> MultiRLModuleSpec:
        spec = self.get_default_rl_module_spec()
        for module_id in list(spec.rl_module_specs):
            if inference_only and spec.rl_module_specs[module_id].learner_only:
                spec.remove_modules(module_id)
            else:
                spec.rl_module_specs[module_id].inference_only = inference_only
        return spec

    @override(AlgorithmConfig)
    def build_learner_group(
        self, *, env: Any = None, spaces: Any = None, rl_module_spec: Any = None, placement_group: Any = None
    ) -> DecoupledLearnerGroup:
        return DecoupledLearnerGroup(
            config=self,
            module_spec=rl_module_spec or self.get_multi_rl_module_spec(),
            placement=self.learner_placement,
        )


class DM2(TrainingCounts, Algorithm):
    """Trains a team of agents that share nothing. IPPO is the case `matching.coefficient == 0`.

    It is a `TeamAlgorithm` (dm2_ray.runs.trainables): RLlib's `iteration`, `train` and `stop`, and below these what a
    training run asks for.
    """

    config: DM2Config
    learner_group: DecoupledLearnerGroup

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> DM2Config:
        return DM2Config()

    @override(Algorithm)
    def setup(self, config: DM2Config | dict[str, Any]) -> None:
        self.agent_metrics: dict[str, dict[str, float]] = {}
        """What the learners reported of their last update (RLlib's results also keep what is no longer reported)."""
        self.expert_metrics: dict[str, float] = {}
        """What the source of demonstrations reported of its last draw."""
        self.hosts: list[str] = []
        """Addresses of the nodes that played the last iteration's battles."""
        # A copy, because the learners' placement is written to it.
        self.config = typed = _typed(config).copy(copy_frozen=False)
        self._spec = typed.run_spec
        self._processes = RunProcesses(typed)
        self.faults = self._processes.faults
        """What the run has lost so far."""
        self.experts = self._processes.experts
        """Source of the demonstrations; None where none are drawn."""
        self.rollout_workers: BattleEnvRunnerGroup = self._processes.players
        """The workers whose battles are learned from."""
        try:
            super().setup(typed)
            self._processes.wait_until_ready()
        except BaseException:
            # Others may use this Ray, too: end what was started and return its resources.
            self._processes.shutdown()
            self._processes.return_capacity()
            raise
        self.learner_group.faults = self.faults
        self.learner_group.on_capacity_needed(self._processes.free_capacity)
        self._nodes = NodeMonitor(self.faults)

    @override(Algorithm)
    def training_step(self) -> None:
        started = time.perf_counter()
        # The learner group counts updates, Tune counts calls: after a resume the updates tell which data come next.
        iteration = self.faults.iteration = self.learner_group.version
        self._nodes.poll()
        experts = self.experts if uses_demonstrations_at(self._spec.experiment, iteration) else None
        if experts is not None:
            experts.prefetch(iteration)
        rollouts = self._play(iteration)
        sampled = time.perf_counter()
        learned: dict[str, dict[str, float]] | None = None
        while learned is None:
            trajectories = [[rollout.trajectories[i] for rollout in rollouts] for i in range(self._spec.num_agents)]
            try:
                demonstrations = None if experts is None else experts.draw(iteration, trajectories)
                learned = self.learner_group.train(iteration, demonstrations, trajectories)
            except RolloutDataLost:
                rollouts = self._play(iteration)
        self.expert_metrics = {} if experts is None else experts.report()
        self._log_iteration(rollouts, learned, sampled - started, time.perf_counter() - sampled)

    def learn(self) -> dict[str, Any]:
        """One iteration (`train`); returns its record for metrics.jsonl, where what depends on clock or machine is
        below `timing`."""
        result = self.train()
        # No battles are played while agents are cloned: what describes battles is None then.
        battles = result.get(ENV_RUNNER_RESULTS, {})
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "win_rate": battles.get(WIN_RATE),
            "return_mean": battles.get(EPISODE_RETURN_MEAN),
            "episode_length_mean": battles.get(EPISODE_LEN_MEAN),
            "agents": self.agent_metrics,
            **({"experts": self.expert_metrics} if self.expert_metrics else {}),
            "timing": {**result["pace"], **result[FAULTS], "hosts": self.hosts},
        }

    def evaluate_battles(self, episodes: int) -> BattleStatistics:
        """Plays greedy battles with the current policies; training is not disturbed in any way.

        Args:
            episodes: How many battles, exactly; the same battles at every call.
        """
        return self._processes.evaluators.evaluate(
            episodes, self.learner_group.version, self.learner_group.weights, parts=self._spec.evaluation_tasks
        )

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
        # RLlib's group has no processes here, and weights travel with every task: there is nothing to restore.
        return []

    @classmethod
    @override(Algorithm)
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        return PlacementGroupFactory([{"CPU": 1.0}, *_typed(config).run_spec.resources.bundles()], strategy="PACK")

    @override(Algorithm)
    def cleanup(self) -> None:
        self._processes.shutdown()
        super().cleanup()
        self._processes.return_capacity()

    def _play(self, iteration: int) -> list[Rollout]:
        if iteration < self._spec.experiment.cloning.iterations:
            return []
        tasks = [
            RolloutTask(iteration=iteration, index=index, quota=quota)
            for index, quota in enumerate(self._spec.rollout_quotas)
        ]
        return self.rollout_workers.run(tasks, self.learner_group.version, self.learner_group.weights)

    def _log_iteration(
        self, rollouts: list[Rollout], learned: dict[str, dict[str, float]], sample_s: float, learn_s: float
    ) -> None:
        env_steps = episodes = dropped = 0
        if rollouts:
            statistics = BattleStatistics.concatenate([rollout.report.statistics for rollout in rollouts])
            env_steps, episodes, dropped = statistics.env_steps, statistics.episodes, statistics.dropped
            battles = {**outcome(statistics), NUM_ENV_STEPS_SAMPLED: env_steps}
            self.metrics.log_dict(battles, key=ENV_RUNNER_RESULTS, reduce="item")
        self.hosts = sorted({rollout.report.host for rollout in rollouts})
        self._log_lifetime(env_steps, episodes)
        self.agent_metrics = learned
        for agent, values in learned.items():
            self.metrics.log_dict(values, key=(LEARNER_RESULTS, agent), reduce="item")
        if self.expert_metrics:
            self.metrics.log_dict(self.expert_metrics, key=EXPERTS, reduce="item")
        self.metrics.log_dict(
            {
                "sample_s": sample_s,
                "learn_s": learn_s,
                "rollout_s": max((rollout.report.seconds for rollout in rollouts), default=0.0),
                "rollout_workers": max(1, len(self.rollout_workers.at_work)),
            },
            key="pace",
            reduce="item",
        )
        self.metrics.log_dict(
            {
                "learner_restarts": self.learner_group.restarts,
                "rollout_tasks_redone": self.rollout_workers.lost_tasks,
                "battles_dropped": dropped,
                **{f"lost_{kind}": count for kind, count in self.faults.counts().items()},
            },
            key=FAULTS,
            reduce="item",
        )

    def _log_lifetime(self, env_steps: int, episodes: int) -> None:
        """Adds to the counts over the whole run, DM2's own and those in RLlib's results."""
        self._env_steps += env_steps
        self._episodes += episodes
        counts = {NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps, NUM_EPISODES_LIFETIME: episodes}
        self.metrics.log_dict(counts, key=ENV_RUNNER_RESULTS, reduce="lifetime_sum")


def _typed(config: DM2Config | dict[str, Any]) -> DM2Config:
    """Tune passes a dict, a user passes the configuration itself."""
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
    return results, statistics.env_steps, statistics.env_steps * algorithm.config.run_spec.num_agents
