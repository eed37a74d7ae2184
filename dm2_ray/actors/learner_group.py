"""DecoupledLearnerGroup: one learner process per agent behind RLlib's LearnerGroup door.

    driver ──train(iteration, demonstration_i, *trajectories_i)──► learner i        only agent i's references
           ◄──────── metrics_i, weights_i, snapshot_i ────────────                  (3 returns, owned by the driver)

The learners never talk to each other: there is no process group, no collective, no common object. A learner that died
comes back empty and refuses work (`LearnerNotAdmitted`) until it is given the snapshot that the driver holds; then the
same update is done again on the same data, so a death changes no number.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from dm2_ray.actors.agent_learner import LearnerNotAdmitted, LearnerState, LearningDiverged
from dm2_ray.actors.streams import Role, stream_seed

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

    from dm2_ray.actors.dm2_config import DM2Config

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5


class LearnerLost(RuntimeError):
    """An agent's learner died and could not be brought back."""


class RolloutDataLost(RuntimeError):
    """A rollout's data died with its node before a learner had read them; play the same tasks again."""


class DecoupledLearnerGroup(LearnerGroup):
    """N learners, each in a process of its own (or, for debugging, all in this one), that share nothing."""

    def __init__(
        self,
        *,
        config: DM2Config,
        module_spec: MultiRLModuleSpec,
        placement_group: PlacementGroup | None = None,
    ) -> None:
        # LearnerGroup.__init__ is not called: it would start one gang of data-parallel copies of all agents.
        self.config = config.copy(copy_frozen=False)
        self.agent_ids: list[str] = list(config.agent_ids)
        self.restarts = 0
        """Learners brought back since the group was built."""
        self._is_shut_down = False
        self._in_processes = config.experiment.learners.processes == "per_agent"
        self._versions = dict.fromkeys(self.agent_ids, 0)
        self._weights: dict[str, Any] = {}
        self._snapshots: dict[str, Any] = {}
        self._factories: dict[str, Callable[[], Any]] = {}
        self._learner_config_refs: list[Any] = []
        for index, agent in enumerate(self.agent_ids):
            self._factories[agent] = self._factory(index, module_spec)
        self._learners = {agent: make() for agent, make in self._factories.items()}
        self._read_back_all()

    # Training.

    def train(
        self, iteration: int, demonstrations: Sequence[Any] | None, trajectories: Sequence[Sequence[Any]]
    ) -> dict[str, dict[str, float]]:
        """One update of every agent that has not done this iteration's yet.

        Args:
            iteration: Number of this update, from 0; agents already past it are left alone.
            demonstrations: Reference i is agent i's slice of this iteration's joint draw; None without a draw.
            trajectories: Element i holds agent i's references, one per rollout; none while agents are cloned.

        Returns:
            Metrics of each agent that was updated.

        Raises:
            LearnerLost: A learner could not be brought back.
            RolloutDataLost: Some trajectories or demonstrations are gone; call again with fresh references.
        """
        metrics: dict[str, dict[str, float]] = {}
        waiting = [agent for agent in self.agent_ids if self._versions[agent] == iteration]
        for _ in range(MAX_ATTEMPTS):
            calls = {agent: self._submit(agent, iteration, demonstrations, trajectories) for agent in waiting}
            lost = []
            data_lost = False
            for agent, (metrics_ref, weights, snapshot) in calls.items():
                try:
                    metrics[agent] = ray.get(metrics_ref) if self._in_processes else metrics_ref
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None) or error
                    if isinstance(cause, ray.exceptions.ObjectLostError):
                        data_lost = True
                    elif isinstance(cause, (LearnerNotAdmitted, ray.exceptions.RayActorError)):
                        logger.warning("learner of %s lost (%s); bringing it back", agent, type(cause).__name__)
                        lost.append(agent)
                    elif isinstance(cause, LearningDiverged):
                        raise cause from None  # one line for the user instead of another process's traceback
                    else:
                        raise
                    continue
                self._versions[agent] = iteration + 1
                self._weights[agent], self._snapshots[agent] = weights, snapshot
            for agent in lost:
                self._revive(agent)
            if data_lost:
                raise RolloutDataLost(f"rollout data of iteration {iteration} died with their node")
            if not lost:
                return metrics
            waiting = lost
        raise LearnerLost(f"the learners of {', '.join(waiting)} died {MAX_ATTEMPTS} times in one iteration")

    @property
    def version(self) -> int:
        """Updates that every agent has done."""
        return min(self._versions.values())

    @property
    def weights(self) -> list[Any]:
        """Per agent, its inference weights (a reference when learners are processes)."""
        return [self._weights[agent] for agent in self.agent_ids]

    def snapshots(self) -> dict[str, LearnerState]:
        """Every agent's complete learning state after its last update."""
        if not self._in_processes:
            return dict(self._snapshots)
        return dict(zip(self.agent_ids, ray.get([self._snapshots[agent] for agent in self.agent_ids]), strict=True))

    def learner(self, agent: str) -> Any:
        """The learner of an agent: an actor handle, or the object itself when learners live in this process."""
        return self._learners[agent]

    def _submit(
        self, agent: str, iteration: int, demonstrations: Sequence[Any] | None, trajectories: Sequence[Sequence[Any]]
    ) -> Sequence[Any]:
        index = self.agent_ids.index(agent)
        demonstration = None if demonstrations is None else demonstrations[index]
        if self._in_processes:
            train = self._learners[agent].train.options(num_returns=3)
            return train.remote(iteration, demonstration, *trajectories[index])
        values = [_value(item) for item in (demonstration, *trajectories[index])]
        return self._learners[agent].train(iteration, *values)

    def _revive(self, agent: str) -> None:
        timeout_s = self.config.experiment.learners.restart_timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                ray.get(self._learners[agent].restore.remote(self._snapshots[agent]), timeout=timeout_s)
                self.restarts += 1
                return
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.1)
            except ray.exceptions.ActorDiedError:
                self._learners[agent] = self._factories[agent]()
            except ray.exceptions.GetTimeoutError:
                pass
            if time.monotonic() > deadline:
                raise LearnerLost(f"the learner of {agent} did not come back within {timeout_s:.0f} s") from None

    def _factory(self, index: int, module_spec: MultiRLModuleSpec) -> Callable[[], Any]:
        """How to make agent `index`'s learner: its own specs, its own seed, its own place."""
        agent = self.agent_ids[index]
        own = {name: spec for name, spec in module_spec.rl_module_specs.items()
               if name in (agent, self.config.discriminator_id(agent))}  # fmt: skip
        config = self.config.copy(copy_frozen=False)
        config.num_learners = 1 if self._in_processes else 0
        config.seed = stream_seed(self.config.experiment.seed, Role.AGENT_INITIALISATION, index) % 2**32
        arguments: dict[str, Any] = {"agent_index": index, "module_spec": MultiRLModuleSpec(rl_module_specs=own)}
        if not self._in_processes:
            return lambda: config.learner_class(config=config, **arguments)
        settings = self.config.experiment.learners
        in_placement_group = ray.util.get_current_placement_group() is not None
        actor = ray.remote(config.learner_class).options(
            num_cpus=settings.cpus_per_learner,
            num_gpus=settings.gpus_per_learner,
            max_restarts=-1,
            max_task_retries=0,
            placement_group_bundle_index=self.config.learner_bundle_index(index) if in_placement_group else -1,
        )
        # Ray needs the constructor's arguments for as long as it may restart the actor.
        config_ref = ray.put(config)
        self._learner_config_refs.append(config_ref)
        return lambda: actor.remote(config=config_ref, **arguments)

    def _read_back_all(self) -> None:
        if self._in_processes:
            for agent, learner in self._learners.items():
                self._weights[agent], self._snapshots[agent] = learner.admit.options(num_returns=2).remote()
            ray.get(list(self._weights.values()))
        else:
            for agent, learner in self._learners.items():
                self._weights[agent], self._snapshots[agent] = learner.admit()

    # What RLlib asks of a LearnerGroup.

    @property
    def is_remote(self) -> bool:
        return self._in_processes

    @property
    def is_local(self) -> bool:
        return not self._in_processes

    @override(LearnerGroup)
    def update(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("agents learn from references to their own trajectories: call train()")

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """With components "learner/rl_module[/AGENT]": the inference weights; otherwise every agent's snapshot."""
        wanted = [c for c in force_list(components) if c.split("/")[0] == COMPONENT_LEARNER]
        if wanted:
            named = {c.split("/")[2] for c in wanted if c.count("/") >= 2}
            agents = [agent for agent in self.agent_ids if not named or agent in named]
            weights = dict(zip(agents, [_value(self._weights[agent]) for agent in agents], strict=True))
            return {COMPONENT_LEARNER: {COMPONENT_RL_MODULE: weights, WEIGHTS_SEQ_NO: self.version}}
        return {"agents": self.snapshots()}

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over snapshots unconditionally, older ones too.

        Raises:
            ValueError: The snapshots are those of another team.
        """
        agents: dict[str, LearnerState] = state["agents"]
        if set(agents) != set(self.agent_ids):
            raise ValueError(f"the state holds agents {sorted(agents)}, this team has {self.agent_ids}")
        if self._in_processes:
            ray.get([self._learners[agent].restore.remote(snapshot) for agent, snapshot in agents.items()])
        else:
            for agent, snapshot in agents.items():
                self._learners[agent].restore(snapshot)
        self._versions = {agent: snapshot["version"] for agent, snapshot in agents.items()}
        self._read_back_all()

    @override(Checkpointable)
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        # The driver writes the agents' snapshots itself: no learner process touches a checkpoint, wherever it runs.
        return []

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    @override(LearnerGroup)
    def foreach_learner(self, func: Callable[..., Any], **kwargs: Any) -> list[Any]:
        """`func(learner)` in every learner; results in agent order."""
        if not self._in_processes:
            return [func(learner) for learner in self._learners.values()]
        return ray.get([learner.apply.remote(func) for learner in self._learners.values()])

    @override(LearnerGroup)
    def shutdown(self) -> None:
        # After ray.shutdown() any call would silently start a new Ray.
        if not self._is_shut_down and self._in_processes and ray.is_initialized():
            for learner in self._learners.values():
                ray.kill(learner)
        self._is_shut_down = True

    def __len__(self) -> int:
        return len(self.agent_ids)


def _value(item: Any) -> Any:
    return ray.get(item) if isinstance(item, ray.ObjectRef) else item
