"""RunSpec: what every process of a run needs to know, computed once from its experiment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import gymnasium as gym
import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations.source_checks import uses_demonstrations
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.resources import RunResources
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.world import MapSpec, world_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables, build_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleQuota:
    """When a collection ends; every battle that was started is played to its end."""

    env_steps: int | None = None
    """Fewest env steps over all columns, or None."""
    episodes: int | None = None
    """Battles over all columns, exactly, or None."""

    def __post_init__(self) -> None:
        if (self.env_steps is None) == (self.episodes is None):
            raise ValueError("a quota is either env_steps or episodes")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """Settings, team, sizes and work per iteration of one run.

    It is plain data: it is all that a process of the run has to be sent.
    """

    experiment: Experiment
    map_spec: MapSpec
    """The map that is played."""
    agent_ids: tuple[str, ...]
    """`agent_0` … `agent_N-1`."""
    obs_size: int
    """Of one agent's observation."""
    num_actions: int
    state_size: int
    """Of the global state, which only a centralized critic sees."""
    rollout_quotas: tuple[BattleQuota, ...]
    """One quota per rollout task of an iteration. They do not depend on how many workers there are: the same tasks give
    the same data on any number of workers."""
    evaluation_tasks: int
    """Tasks that an evaluation is split into."""
    resources: RunResources
    """Processes that the run starts beside the driver, and what each of them asks for."""

    @classmethod
    def from_experiment(cls, experiment: Experiment) -> RunSpec:
        """Describes an experiment's run. Whether its demonstrations exist is not checked here.

        Args:
            experiment: With `world` as `resolve_world` returns it: workers read no scenario file.

        Raises:
            UnknownMapError, ScenarioError: There is no such map, or the scenario is invalid.
        """
        map_spec = world_map(experiment.world.map, experiment.world.scenario)
        tables = _tables(map_spec, tuple(sorted(experiment.world.smac.items())))
        return cls(
            experiment=experiment,
            map_spec=map_spec,
            agent_ids=tuple(f"agent_{index}" for index in range(tables.num_agents)),
            obs_size=tables.obs_size,
            num_actions=tables.num_actions,
            state_size=tables.state_size,
            rollout_quotas=_rollout_quotas(experiment),
            evaluation_tasks=experiment.evaluation.env_runners or _rollout_tasks(experiment),
            resources=RunResources.from_experiment(experiment, tables.num_agents),
        )

    @property
    def num_agents(self) -> int:
        return len(self.agent_ids)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Agents, observation size, actions: what a checkpoint's networks have to fit."""
        return self.num_agents, self.obs_size, self.num_actions

    @property
    def episode_limit(self) -> int:
        """Longest battle of the map, in env steps."""
        return self.map_spec.episode_limit

    @property
    def learners_are_processes(self) -> bool:
        """Whether each agent learns in its own process rather than in the driver."""
        return self.experiment.learners.processes == "per_agent"

    @property
    def matches(self) -> bool:
        """Whether the agents match demonstrations; without matching no discriminator exists (IPPO)."""
        return self.experiment.matching.coefficient > 0

    @property
    def uses_demonstrations(self) -> bool:
        """Whether demonstrations are drawn, for matching or for cloning."""
        return uses_demonstrations(self.experiment)

    @staticmethod
    def discriminator_id(agent: str) -> str:
        """Module id of an agent's discriminator."""
        return f"{agent}_discriminator"

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """One agent's observation space and action space."""
        return observation_and_action_spaces(self.obs_size, self.num_actions)

    def module_specs(self) -> dict[str, RLModuleSpec]:
        """Every agent's policy and, with matching, its discriminator; new objects each time: RLlib changes them."""
        observation_space, action_space = self.spaces()
        settings = self.experiment
        specs: dict[str, RLModuleSpec] = {}
        for index, agent in enumerate(self.agent_ids):
            specs[agent] = RLModuleSpec(
                AgentPolicy,
                observation_space,
                action_space,
                model_config={
                    "num_agents": self.num_agents,
                    "agent_index": index,
                    "policy": settings.policy.model_dump(),
                    "seed": derive_seed(settings.seed, StreamRole.AGENT_INITIALISATION, index),
                },
            )
            if self.matches:
                specs[self.discriminator_id(agent)] = RLModuleSpec(
                    Discriminator,
                    observation_space,
                    action_space,
                    learner_only=True,
                    model_config={
                        "discriminator": settings.discriminator.model_dump(),
                        "padding": settings.matching.padding,
                        "seed": derive_seed(settings.seed, StreamRole.AGENT_INITIALISATION, index, 1),
                    },
                )
        return specs


def observation_and_action_spaces(obs_size: int, num_actions: int) -> tuple[gym.Space, gym.Space]:
    """One agent's observation space and action space."""
    return gym.spaces.Box(-np.inf, np.inf, (obs_size,), np.float32), gym.spaces.Discrete(num_actions)


@lru_cache(maxsize=32)
def _tables(map_spec: MapSpec, smac_arguments: tuple[tuple[str, object], ...]) -> RulesTables:
    return build_tables(map_spec, SmacOptions.from_arguments(dict(smac_arguments)))


def _rollout_tasks(experiment: Experiment) -> int:
    rollout = experiment.rollout
    return rollout.tasks or max(1, rollout.env_runners, rollout.max_env_runners or 0)


def _rollout_quotas(experiment: Experiment) -> tuple[BattleQuota, ...]:
    rollout, count = experiment.rollout, _rollout_tasks(experiment)
    if rollout.unit == "env_steps":
        return (BattleQuota(env_steps=-(-rollout.env_steps // count)),) * count
    return tuple(BattleQuota(episodes=share) for share in even_shares(rollout.episodes, count))


def even_shares(total: int, parts: int) -> list[int]:
    """Splits `total` into `parts` numbers that differ by 1 at most, larger ones first; zeros are left out."""
    return [share for index in range(parts) if (share := total // parts + (index < total % parts))]
