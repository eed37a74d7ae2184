"""DecoupledLearnerGroup: one learner process per agent, with the interface of RLlib's LearnerGroup.

    driver ──train(iteration, demonstration_i, *trajectories_i)──► learner i        only agent i's references
           ◄──────── metrics_i, weights_i, snapshot_i ────────────                  (3 returns, owned by the driver)

The learners never communicate: there is no process group, no collective operation, no common object. A learner that
died restarts without a state and refuses to train (`LearnerNotReady`) until the driver restores its snapshot; then it
repeats the same update on the same data, so a death changes no number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from dm2_ray.distributed.errors import LearnerLost, LearnerNotReady, RolloutDataLost, UpdateResultLost
from dm2_ray.distributed.fault_log import FaultKind, FaultLog
from dm2_ray.distributed.learners.agent_learner import LearnerState
from dm2_ray.distributed.learners.diverged_update import UpdateDiverged
from dm2_ray.distributed.learners.learner_actors import LearnerActors
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.placement import LearnerPlacement
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.learning.gradients import LearningDiverged

MAX_ATTEMPTS = 5


class DecoupledLearnerGroup(LearnerGroup):
    """N learners that share nothing, each in its own process (or, for debugging, all in this one)."""

    def __init__(
        self, *, config: AlgorithmConfig, module_spec: MultiRLModuleSpec, placement: LearnerPlacement | None = None
    ) -> None:
        """
        Args:
            config: The run's DM2Config, which RLlib's Learner takes.
            module_spec: All agents' modules; each learner gets its own agent's.
            placement: Resources reserved for the learners; None in Tune's placement group, or for learners in this
                process.

        Raises:
            LearnerLost: A learner could not be started in time.
        """
        # LearnerGroup.__init__ is not called: it would start data-parallel copies of one learner for all agents.
        self.config = config.copy(copy_frozen=False)
        spec: RunSpec = config.run_spec
        self._update_timeout_s = spec.experiment.learners.timeout_s
        self.agent_ids: list[str] = list(spec.agent_ids)
        self.faults = FaultLog()
        """Log that records losses; DM2 replaces it by the run's."""
        self.restarts = 0
        """Learners brought back since the group was built."""
        self._is_shut_down = False
        self._processes = LearnerActors(self.config, module_spec, placement)
        self._versions = dict.fromkeys(self.agent_ids, 0)
        # Values, not references: they are stored on the driver's node, so the loss of another node does not lose them.
        self._snapshots: dict[str, LearnerState] = {}
        self._weights: dict[str, Any] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        # Of the last iteration that all agents have done: rollouts are played with these weights, also when they are
        # repeated while some agents are ahead, and these snapshots are saved when a run has to end in between.
        self._complete_snapshots: dict[str, LearnerState] = {}
        self._complete_weights: dict[str, Any] = {}
        for agent, (weights, snapshot) in self._processes.start_all().items():
            self._take_over(agent, weights, snapshot)
        self._complete_iteration()

    def on_capacity_needed(self, free_capacity: Callable[[], None]) -> None:
        """Sets what is called while a learner does not answer and may be waiting for resources."""
        self._processes.free_capacity = free_capacity

    # Training.

    def train(
        self, iteration: int, demonstrations: Sequence[Any] | None, trajectories: Sequence[Sequence[Any]]
    ) -> dict[str, dict[str, float]]:
        """One update of every agent that has not done this iteration's yet.

        Args:
            iteration: Number of this update, from 0; agents that are past it do nothing.
            demonstrations: Reference i is agent i's slice of this iteration's joint draw; None without a draw.
            trajectories: Element i holds agent i's references, one per rollout; empty while agents are cloned.

        Returns:
            Every agent's metrics of this iteration.

        Raises:
            LearnerLost: A learner could not be brought back.
            RolloutDataLost: Some trajectories or demonstrations are lost; call again with fresh references.
            UpdateDiverged: An agent's data or gradients are not finite; `snapshots` are those before this iteration.
        """
        timeout_s = self._update_timeout_s
        for _ in range(MAX_ATTEMPTS):
            waiting = [agent for agent in self.agent_ids if self._versions[agent] == iteration]
            # An agent's own references: its demonstration first, then its trajectories.
            data = {
                agent: [None if demonstrations is None else demonstrations[index], *trajectories[index]]
                for index, agent in enumerate(self.agent_ids)
            }
            updates = {agent: self._processes.submit_update(agent, iteration, data[agent]) for agent in waiting}
            deadline = time.monotonic() + timeout_s
            lost: dict[str, str] = {}
            data_lost = False
            for agent, update in updates.items():
                try:
                    learned = self._processes.await_update(update, max(0.0, deadline - time.monotonic()))
                except ray.exceptions.GetTimeoutError:
                    self._processes.kill_hung(agent)
                    lost[agent] = f"no answer within {timeout_s:.0f} s"
                except UpdateResultLost:
                    lost[agent] = "its result was lost with its node"
                except (ray.exceptions.RayError, LearningDiverged) as error:
                    cause = getattr(error, "cause", None) or error
                    if isinstance(cause, LearningDiverged):
                        raise UpdateDiverged.from_update(cause, agent, iteration, data[agent]) from None
                    if isinstance(cause, (LearnerNotReady, ray.exceptions.RayActorError)):
                        lost[agent] = type(cause).__name__
                    elif isinstance(cause, ray.exceptions.ObjectLostError):
                        data_lost = True
                    else:
                        raise
                else:
                    self._metrics[agent], weights, snapshot = learned
                    self._take_over(agent, weights, snapshot)
            for agent, why in lost.items():
                self.faults.record_loss(FaultKind.LEARNER, agent, why)
            for agent in lost:
                self._processes.restore(agent, self._snapshots[agent])
                self.restarts += 1
                self.faults.record_recovery(FaultKind.LEARNER, agent)
            if data_lost:
                raise RolloutDataLost(f"rollout data of iteration {iteration} were lost with their node")
            if not lost:
                self._complete_iteration()
                return {agent: self._metrics[agent] for agent in self.agent_ids}
        raise LearnerLost(f"the learners of {', '.join(lost)} died {MAX_ATTEMPTS} times in one iteration")

    @property
    def version(self) -> int:
        """Updates that every agent has done."""
        return min(self._versions.values())

    @property
    def weights(self) -> list[Any]:
        """Per agent, its inference weights after the last iteration that all agents have done (a reference when
        learners are processes)."""
        return [self._complete_weights[agent] for agent in self.agent_ids]

    def snapshots(self) -> dict[str, LearnerState]:
        """Every agent's complete learning state after the last iteration that all of them have done."""
        return dict(self._complete_snapshots)

    def learner(self, agent: str) -> Any:
        """The learner of an agent: an actor handle, or the object itself when learners live in this process."""
        return self._processes.learners[agent]

    def _take_over(self, agent: str, weights: Any, snapshot: LearnerState) -> None:
        self._versions[agent] = snapshot["version"]
        self._weights[agent] = ray.put(weights) if self._processes.are_processes else weights
        self._snapshots[agent] = snapshot

    def _complete_iteration(self) -> None:
        self._complete_snapshots, self._complete_weights = dict(self._snapshots), dict(self._weights)

    # RLlib's interface of a LearnerGroup.

    @property
    def is_remote(self) -> bool:
        return self._processes.are_processes

    @property
    def is_local(self) -> bool:
        return not self._processes.are_processes

    @override(LearnerGroup)
    def update(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("agents learn from references to their own trajectories: call train() instead of update()")

    @override(Checkpointable)
    def get_state(self, components: str | Collection[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """With components "learner/rl_module[/AGENT]": the inference weights; otherwise every agent's snapshot."""
        wanted = [c for c in force_list(components) if c.split("/")[0] == COMPONENT_LEARNER]
        if wanted:
            named = {c.split("/")[2] for c in wanted if c.count("/") >= 2}
            agents = [agent for agent in self.agent_ids if not named or agent in named]
            weights = dict(zip(agents, [get_if_ref(self._complete_weights[agent]) for agent in agents], strict=True))
            return {COMPONENT_LEARNER: {COMPONENT_RL_MODULE: weights, WEIGHTS_SEQ_NO: self.version}}
        return {"agents": self.snapshots()}

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """Restores snapshots unconditionally, older ones too.

        Raises:
            ValueError: The snapshots belong to another team.
        """
        agents: dict[str, LearnerState] = state["agents"]
        if set(agents) != set(self.agent_ids):
            raise ValueError(f"the state holds agents {sorted(agents)}, this team has {self.agent_ids}")
        for agent in self.agent_ids:
            self._take_over(agent, self._processes.restore(agent, agents[agent]), agents[agent])
        self._complete_iteration()

    @override(Checkpointable)
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        # The driver writes the agents' snapshots itself: learner processes never touch a checkpoint.
        return []

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    @override(LearnerGroup)
    def foreach_learner(self, func: Callable[..., Any], **kwargs: Any) -> list[Any]:
        """`func(learner)` in every learner; results in agent order."""
        learners = self._processes.learners.values()
        if not self._processes.are_processes:
            return [func(learner) for learner in learners]
        return ray.get([learner.apply.remote(func) for learner in learners])

    @override(LearnerGroup)
    def shutdown(self) -> None:
        # After ray.shutdown() a call would silently start a new Ray.
        if not self._is_shut_down and ray.is_initialized():
            self._processes.shutdown()
        self._is_shut_down = True

    def __len__(self) -> int:
        return len(self.agent_ids)
