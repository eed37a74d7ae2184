"""BattleEnvRunner: an RLlib EnvRunner that plays whole battles and returns one object per agent.

    driver ──rollout(task, version, weights_0 … weights_N-1)──► runner
           ◄── trajectory_0 … trajectory_N-1, RolloutReport ───      (N + 1 returns, owned by the driver)

A rollout is a pure function of (configuration, seed, task, weights): no state of the runner matters between two calls.
Any runner may play any task, a lost task is played again with the same result, and a restarted runner cannot act with
weights that nobody sent. (StarCraft II has its own randomness: in the real game a repeated task gives other battles of
the same distribution.)
"""

from __future__ import annotations

import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    WEIGHTS_SEQ_NO,
)

from dm2_ray.distributed.fault_log import process_name
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.battle_collector import BattleCollector, BattleStatistics
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota, RunSpec
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.world.backends import build_battles

WIN_RATE = "win_rate"


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutTask:
    """What to play. Together with the weights it determines the rollout.

    Attributes:
        iteration: Number of the update that learns from it.
        index: Which of the iteration's rollouts.
        quota: How much to play.
        evaluation: For `BattleEnvRunner.evaluation` instead of `rollout`.
    """

    iteration: int
    index: int
    quota: BattleQuota
    evaluation: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutReport:
    """What a runner reports to the driver about a rollout."""

    task: RolloutTask
    policy_version: int
    statistics: BattleStatistics
    host: str
    runner: int
    process: str
    """Name of the process: another one after every restart."""
    seconds: float


class PlayedBattles:
    """Stands in for the list of episodes in RLlib's own sampling loops."""

    def __init__(self, env_steps: int, num_agents: int) -> None:
        self._env_steps = env_steps
        self._num_agents = num_agents

    def env_steps(self) -> int:
        return self._env_steps

    def agent_steps(self) -> int:
        return self._env_steps * self._num_agents

    def __len__(self) -> int:
        return self._env_steps


class BattleEnvRunner(EnvRunner, Checkpointable):
    """Steps `battles_per_env_runner` battles with one call and acts for all agents with one forward pass."""

    @override(EnvRunner)
    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.worker_index = kwargs.get("worker_index") or 0
        # RLlib also makes a runner itself, so all that a runner needs is in the configuration, which is a DM2Config.
        self._spec: RunSpec = config.run_spec
        self._experiment = self._spec.experiment
        self._policy_version = -1
        self._sample_calls = 0
        # RLlib keeps a runner in the driver. Where other processes play, it is asked only for the spaces.
        self._stands_in = self.worker_index == 0 and self._experiment.rollout.env_runners > 0
        self.make_env()
        self.make_module()

    @override(EnvRunner)
    def make_env(self) -> None:
        if self._stands_in:
            return
        self.env = build_battles(
            self._experiment.world, self._experiment.rollout.battles_per_env_runner, self._experiment.seed
        )

    @override(EnvRunner)
    def make_module(self) -> None:
        self.module = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True).build()
        if self._stands_in:
            return
        self._stacked = StackedPolicies(
            self.env.num_agents, self.env.obs_size, self.env.num_actions, self._experiment.policy
        )
        self._collector = BattleCollector(self.env, self._stacked)
        self._load_module()

    def rollout(self, task: RolloutTask, policy_version: int, *weights: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        """Plays a task's battles with the given weights.

        Args:
            task: What to play.
            policy_version: Of the weights; stamped on the trajectories.
            weights: Inference weights, one mapping per agent.

        Returns:
            N AgentTrajectory and a RolloutReport: call with `num_returns`.
        """
        seeds = (task.iteration, task.index)
        roles = (StreamRole.TRAINING_BATTLES, StreamRole.TRAINING_ACTIONS)
        trajectories, report = self._play(task, policy_version, weights, *roles, seeds)
        return (*trajectories, report)

    def evaluation(self, task: RolloutTask, policy_version: int, *weights: Mapping[str, np.ndarray]) -> RolloutReport:
        """Plays a task's battles greedily. All evaluations of a run play the same battles; only the policies differ."""
        roles = (StreamRole.EVALUATION_BATTLES, StreamRole.EVALUATION_ACTIONS)
        return self._play(task, policy_version, weights, *roles, (task.index,))[1]

    def _play(
        self,
        task: RolloutTask,
        policy_version: int,
        weights: Sequence[Mapping[str, np.ndarray]],
        battles: StreamRole,
        actions: StreamRole,
        seeds: tuple[int, ...],
    ) -> tuple[list[AgentTrajectory], RolloutReport]:
        started = time.perf_counter()
        self._stacked.load(weights)
        self._stacked.greedy = task.evaluation
        self._policy_version = policy_version
        trajectories, statistics = self._collector.collect_battles(
            task.quota,
            battle_seed=derive_seed(self._experiment.seed, battles, *seeds),
            action_seed=derive_seed(self._experiment.seed, actions, *seeds),
            policy_version=policy_version,
            keep=not task.evaluation,
        )
        report = RolloutReport(
            task=task,
            policy_version=policy_version,
            statistics=statistics,
            host=ray.util.get_node_ip_address() if ray.is_initialized() else platform.node(),
            runner=self.worker_index,
            process=self.ping(),
            seconds=time.perf_counter() - started,
        )
        return trajectories, report

    # What RLlib itself calls.

    @override(EnvRunner)
    def ping(self) -> str:
        """Name of the process that answers."""
        return process_name()

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        if self.module is None or not (self._stands_in or self.env):
            raise AssertionError("the runner has no module or no battles")

    @override(EnvRunner)
    def stop(self) -> None:
        if not self._stands_in:
            self.env.close()

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        spaces = self._spec.spaces()
        agents = {agent: spaces for agent in self._spec.agent_ids}
        return {INPUT_ENV_SPACES: spaces, INPUT_ENV_SINGLE_SPACES: spaces, **agents}

    @override(EnvRunner)
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[PlayedBattles]:
        """Plays battles with the module's weights for their statistics (see `get_metrics`)."""
        if random_actions:
            raise ValueError("BattleEnvRunner.sample has no random actions; use the scripted team 'random'")
        if num_timesteps is None and num_episodes is None:
            num_timesteps = self._experiment.rollout.env_steps
        quota = BattleQuota(env_steps=num_timesteps, episodes=num_episodes)
        self._load_module()
        self._stacked.greedy = not (self.config.explore if explore is None else explore)
        self._sample_calls += 1
        seeds = (self.worker_index, self._sample_calls)
        _, statistics = self._collector.collect_battles(
            quota,
            battle_seed=derive_seed(self._experiment.seed, StreamRole.EVALUATION_BATTLES, *seeds),
            action_seed=derive_seed(self._experiment.seed, StreamRole.EVALUATION_ACTIONS, *seeds),
            keep=False,
        )
        self._log(statistics)
        return [PlayedBattles(statistics.env_steps, self.env.num_agents)]

    @override(EnvRunner)
    def get_metrics(self) -> dict[str, Any]:
        return self.metrics.reduce()

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components), **kwargs
            )
            state[WEIGHTS_SEQ_NO] = self._policy_version
        return state

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            self.module.set_state(ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights)
            self._policy_version = state.get(WEIGHTS_SEQ_NO, self._policy_version)

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    @override(Checkpointable)
    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        return [(COMPONENT_RL_MODULE, self.module)]

    def _load_module(self) -> None:
        self._stacked.load([self.module[agent].state_dict() for agent in self._spec.agent_ids])

    def _log(self, statistics: BattleStatistics) -> None:
        for value, won, length in zip(statistics.returns, statistics.won, statistics.lengths, strict=True):
            self.metrics.log_value(EPISODE_RETURN_MEAN, float(value), window=1000)
            self.metrics.log_value(WIN_RATE, float(won), window=1000)
            self.metrics.log_value(EPISODE_LEN_MEAN, float(length), window=1000)
        for key, count in ((NUM_EPISODES, statistics.episodes), (NUM_ENV_STEPS_SAMPLED, statistics.env_steps)):
            self.metrics.log_value(key, count, reduce="sum")
        self.metrics.log_value(NUM_EPISODES_LIFETIME, statistics.episodes, reduce="lifetime_sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, statistics.env_steps, reduce="lifetime_sum")
