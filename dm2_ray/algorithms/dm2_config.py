"""DM2Config: the typed experiment as an RLlib AlgorithmConfig.

`Experiment` (dm2_ray.config.schema) says what a run is; this class translates it into the RLlib settings that DM2
relies on and switches off those parts of RLlib that DM2 does not use (connector pipelines, per-iteration state syncs).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from dm2_ray.config.dotted_path import check_functions
from dm2_ray.config.schema import Experiment, MatchingSettings, Section
from dm2_ray.demonstrations.source_checks import (
    check_settings,
    uses_demonstrations,
)
from dm2_ray.distributed.random_streams import Role, derive_seed
from dm2_ray.distributed.ray_session import quiet
from dm2_ray.distributed.resources import RunResources
from dm2_ray.distributed.rollout.battle_collector import BattleQuota
from dm2_ray.distributed.rollout.env_runner import BattleEnvRunner, observation_and_action_spaces
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.world import MapSpec, world_map
from dm2_ray.world.configured import resolve_world
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables

if TYPE_CHECKING:
    from dm2_ray.distributed.placement import LearnerPlacement


class DM2Config(AlgorithmConfig):
    """Configuration of DM2.

    Examples:
        `DM2Config().dm2(world={"map": "3m"}, matching={"coefficient": 0.0}).build_algo().train()`
    """

    def __init__(self, algo_class: type | None = None) -> None:
        from dm2_ray.algorithms.dm2 import DM2, evaluate

        quiet()
        self.experiment = Experiment(variant="ippo", matching=MatchingSettings(coefficient=0.0))
        super().__init__(algo_class=algo_class or DM2)
        self.env_runner_cls = BattleEnvRunner
        self.custom_evaluation_function = evaluate
        self.add_default_connectors_to_env_to_module_pipeline = False
        self.add_default_connectors_to_module_to_env_pipeline = False
        self.merge_env_runner_states = False
        self.broadcast_env_runner_states = False
        self.log_sys_usage = False
        self.log_level = "ERROR"
        # RLlib sleeps for a minute in a failing worker before letting it die.
        self.delay_between_env_runner_restarts_s = 0.0
        self.learner_placement: LearnerPlacement | None = None
        """Room for the learners, once DM2 has found it."""
        self._mirror()

    def dm2(
        self, experiment: Experiment | None = None, **sections: Section | Mapping[str, Any] | int | str
    ) -> DM2Config:
        """Sets the experiment, or some of its keys; a section given as a mapping changes only the keys it names.

        A scenario that `world.map` names is read here: workers need no file.

        Args:
            experiment: A whole experiment.
            **sections: Fields of Experiment, e.g. `ppo={"clip": 0.05}`, `seed=1`.

        Raises:
            pydantic.ValidationError: An unknown key or a bad value.
            UnknownMapError, ScenarioError: There is no such map, or its file is wrong.
        """
        current = (experiment or self.experiment).model_dump()
        for name, value in sections.items():
            if isinstance(value, Section):
                current[name] = value.model_dump()
            elif name == "world" and isinstance(value, Mapping) and "map" in value:
                # Another map: the scenario of the one before goes with it.
                current[name] = {**current["world"], "scenario": None, **value}
            elif isinstance(value, Mapping):
                current[name] = {**current.get(name, {}), **value}
            else:
                current[name] = value
        experiment = Experiment.model_validate(current)
        self.experiment = experiment.model_copy(update={"world": resolve_world(experiment.world)})
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
        """RLlib's own fields from the experiment's."""
        settings = self.experiment
        self.seed = settings.seed
        # RLlib itself starts no env runners: BattleEnvRunnerGroup does, spread over the nodes, as many as fit.
        self.num_env_runners = 0
        self.num_envs_per_env_runner = settings.rollout.battles_per_env_runner
        self.num_cpus_per_env_runner = settings.rollout.cpus_per_env_runner
        self.sample_timeout_s = settings.rollout.timeout_s
        self.create_local_env_runner = True
        self.num_learners = self.num_agents if settings.learners.processes == "per_agent" else 0
        self.num_cpus_per_learner = settings.learners.cpus_per_learner
        self.num_gpus_per_learner = settings.learners.gpus_per_learner
        self.gamma = settings.ppo.gamma
        self.evaluation_num_env_runners = 0
        self.evaluation_duration = settings.evaluation.episodes
        self.evaluation_duration_unit = "episodes"

    @override(AlgorithmConfig)
    def validate(self) -> None:
        super().validate()
        check_functions(self.experiment)
        check_settings(self.experiment, self.num_agents)

    # What the run consists of.

    @property
    def num_agents(self) -> int:
        return self.sizes()[0]

    @property
    def agent_ids(self) -> list[str]:
        return [f"agent_{index}" for index in range(self.num_agents)]

    @property
    def map_spec(self) -> MapSpec:
        """The map that is fought on."""
        return world_map(self.experiment.world.map, self.experiment.world.scenario)

    @property
    def episode_limit(self) -> int:
        """Longest battle of the map, in env steps."""
        return self.map_spec.episode_limit

    @staticmethod
    def discriminator_id(agent: str) -> str:
        """Module id of an agent's discriminator."""
        return f"{agent}_discriminator"

    @property
    def matches(self) -> bool:
        """Whether there is anything to match; without, no discriminator exists (IPPO)."""
        return self.experiment.matching.coefficient > 0

    @property
    def uses_demonstrations(self) -> bool:
        """Whether demonstrations are drawn, for matching or for cloning; without, no expert process exists."""
        return uses_demonstrations(self.experiment)

    @property
    def num_expert_actors(self) -> int:
        return self.experiment.demonstrations.expert_actors if self.uses_demonstrations else 0

    def rollout_quotas(self) -> list[BattleQuota]:
        """One quota per rollout of an iteration."""
        rollout = self.experiment.rollout
        count = self.rollout_tasks
        if rollout.unit == "env_steps":
            return [BattleQuota(env_steps=-(-rollout.env_steps // count))] * count
        shares = [rollout.episodes // count + (index < rollout.episodes % count) for index in range(count)]
        return [BattleQuota(episodes=share) for share in shares if share]

    @property
    def rollout_tasks(self) -> int:
        """Parts of an iteration's rollout, whoever plays them."""
        rollout = self.experiment.rollout
        return rollout.tasks or max(1, rollout.env_runners, rollout.max_env_runners or 0)

    @property
    def evaluation_tasks(self) -> int:
        """Parts of an evaluation, whoever plays them."""
        return self.experiment.evaluation.env_runners or self.rollout_tasks

    @property
    def resources(self) -> RunResources:
        """What the run asks of the cluster."""
        return RunResources(
            experiment=self.experiment, num_learners=self.num_learners, num_expert_actors=self.num_expert_actors
        )

    def sizes(self) -> tuple[int, int, int]:
        """Agents, observation size, actions."""
        return _sizes(self.map_spec, tuple(sorted(self.experiment.world.smac.items())))

    # RLlib's hooks.

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
        from dm2_ray.distributed.learners.agent_learner import AgentLearner

        return AgentLearner

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> MultiRLModuleSpec:
        num_agents, obs_size, num_actions = self.sizes()
        observation_space, action_space = observation_and_action_spaces(obs_size, num_actions)
        settings = self.experiment
        specs: dict[str, RLModuleSpec] = {}
        for index, agent in enumerate(self.agent_ids):
            specs[agent] = RLModuleSpec(
                AgentPolicy,
                observation_space,
                action_space,
                model_config={
                    "num_agents": num_agents,
                    "agent_index": index,
                    "policy": settings.policy.model_dump(),
                    "seed": derive_seed(settings.seed, Role.AGENT_INITIALISATION, index),
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
                        "seed": derive_seed(settings.seed, Role.AGENT_INITIALISATION, index, 1),
                    },
                )
        return MultiRLModuleSpec(rl_module_specs=specs)

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
    ) -> Any:
        from dm2_ray.distributed.learners.learner_group import DecoupledLearnerGroup

        return DecoupledLearnerGroup(
            config=self,
            module_spec=rl_module_spec or self.get_multi_rl_module_spec(),
            placement=self.learner_placement,
        )


@lru_cache(maxsize=32)
def _sizes(map_spec: MapSpec, smac_arguments: tuple[tuple[str, Any], ...]) -> tuple[int, int, int]:
    tables = build_tables(map_spec, SmacOptions.from_arguments(dict(smac_arguments)))
    return tables.num_agents, tables.obs_size, tables.num_actions
