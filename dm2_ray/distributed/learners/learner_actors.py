"""LearnerActors: the agents' learners, each in its own process or, for debugging, all as objects of this process.

A call to a learner is repeated until it answers: the process that Ray restarted or, once Ray has given that up, a new
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from dm2_ray.distributed.errors import LearnerLost, UpdateResultLost
from dm2_ray.distributed.fault_log import FaultKind
from dm2_ray.distributed.learners.agent_learner import LearnerState
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.placement import CAPACITY_WAIT_S, LearnerPlacement
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.run_spec import RunSpec

T = TypeVar("T")
Weights = Mapping[str, np.ndarray]


class LearnerActors:
    """The learners by agent."""

    def __init__(
        self, config: AlgorithmConfig, module_spec: MultiRLModuleSpec, placement: LearnerPlacement | None
    ) -> None:
        """
        Args:
            config: The run's DM2Config, which RLlib's Learner takes.
            module_spec: All agents' modules; each learner gets its own agent's.
            placement: Resources reserved for them; None in Tune's placement group, or for learners in this process.
        """
        spec: RunSpec = config.run_spec
        self.are_processes = spec.learners_are_processes
        self.free_capacity: Callable[[], None] = lambda: None
        """Called every CAPACITY_WAIT_S while a learner does not answer: it may be waiting for resources."""
        self._patience_s = spec.experiment.faults.wait_for_resources_s
        self._factories = {
            agent: learner_factory(config, index, module_spec, placement) for index, agent in enumerate(spec.agent_ids)
        }
        self.learners: dict[str, Any] = {agent: make() for agent, make in self._factories.items()}

    def start_all(self) -> dict[str, tuple[Weights, LearnerState]]:
        """Accepts the learners' initial states; returns per agent its weights and its snapshot.

        Raises:
            LearnerLost: One could not be started in time.
        """
        if not self.are_processes:
            return {agent: learner.admit() for agent, learner in self.learners.items()}
        # Ping all of them first, so that they start in parallel.
        started = [learner.ping.remote() for learner in self.learners.values()]
        ray.wait(started, num_returns=len(started), timeout=self._patience_s)
        return {agent: self._call_with_retries(agent, partial(self._call, agent, "admit")) for agent in self.learners}

    def restore(self, agent: str, snapshot: LearnerState) -> Weights:
        """Gives a learner its state; returns its weights.

        Raises:
            LearnerLost: It does not answer within `faults.wait_for_resources_s`.
            ValueError: The state belongs to another agent or to other networks.
        """
        if not self.are_processes:
            weights: Weights = self.learners[agent].restore(snapshot)
            return weights
        return self._call_with_retries(agent, partial(self._call, agent, "restore", snapshot))

    def submit_update(self, agent: str, iteration: int, data: Sequence[Any]) -> Any:
        """Starts an update; returns what `await_update` takes.

        Args:
            agent: Whose learner.
            iteration: Number of the update.
            data: The demonstration or None, then the trajectories: values or references.
        """
        if self.are_processes:
            return self.learners[agent].train.options(num_returns=3).remote(iteration, *data)
        return lambda: self.learners[agent].train(iteration, *map(get_if_ref, data))

    def await_update(self, update: Any, timeout_s: float) -> tuple[dict[str, float], Weights, LearnerState]:
        """Waits for an update; returns its metrics, weights and snapshot.

        Raises:
            ray.exceptions.GetTimeoutError: The learner does not answer in time.
            UpdateResultLost: The update was done, but its result is lost.
            Exception: Those of `AgentLearner.train`, and Ray's where the learner or the data were lost.
        """
        if not self.are_processes:
            result: tuple[dict[str, float], Weights, LearnerState] = update()
            return result
        metrics, *state = update
        learned = ray.get(metrics, timeout=timeout_s)
        try:
            weights, snapshot = ray.get(state, timeout=timeout_s)
        except ray.exceptions.ObjectLostError as error:
            raise UpdateResultLost(str(error)) from None
        return learned, weights, snapshot

    def kill_hung(self, agent: str) -> None:
        """Ends a process that does not answer; Ray restarts it."""
        ray.kill(self.learners[agent], no_restart=False)

    def shutdown(self) -> None:
        """Ends the processes."""
        if self.are_processes:
            for learner in self.learners.values():
                ray.kill(learner)

    def _call(self, agent: str, method: str, *arguments: Any) -> Any:
        answer = getattr(self.learners[agent], method).remote(*arguments)
        return ray.get(answer, timeout=min(self._patience_s, CAPACITY_WAIT_S))

    def _call_with_retries(self, agent: str, call: Callable[[], T]) -> T:
        now = time.monotonic()
        deadline, capacity_due = now + self._patience_s, now + CAPACITY_WAIT_S
        while True:
            try:
                return call()
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.1)
            except ray.exceptions.ActorDiedError as error:
                if error.actor_init_failed:
                    raise
                self.learners[agent] = self._factories[agent]()
            except ray.exceptions.GetTimeoutError:
                pass
            if time.monotonic() > capacity_due:
                self.free_capacity()
                capacity_due += CAPACITY_WAIT_S
            if time.monotonic() > deadline:
                raise LearnerLost(
                    f"the learner of {agent} did not come up within {self._patience_s:.0f} s; see `ray status` for the "
                    "cluster's nodes and resources"
                ) from None


def learner_factory(
    config: AlgorithmConfig, index: int, module_spec: MultiRLModuleSpec, placement: LearnerPlacement | None
) -> Callable[[], Any]:
    """Returns a function that makes agent `index`'s learner at each call: a process, or an object of this one.

    Args:
        config: The run's DM2Config.
        index: Of the agent.
        module_spec: All agents' modules; the learner gets its own agent's.
        placement: Resources reserved for the learners; None in Tune's placement group, or for learners in this process.
    """
    spec: RunSpec = config.run_spec
    agent = spec.agent_ids[index]
    own = {agent, spec.discriminator_id(agent)}
    specs = {name: module for name, module in module_spec.rl_module_specs.items() if name in own}
    own_config = config.copy(copy_frozen=False)
    own_config.learner_placement = None
    own_config.num_learners = 1 if spec.learners_are_processes else 0
    own_config.seed = derive_seed(spec.experiment.seed, StreamRole.AGENT_INITIALISATION, index) % 2**32
    arguments: dict[str, Any] = {"agent_index": index, "module_spec": MultiRLModuleSpec(rl_module_specs=specs)}
    if not spec.learners_are_processes:
        return lambda: own_config.learner_class(config=own_config, **arguments)
    where: dict[str, Any] = {}
    if ray.util.get_current_placement_group() is not None:
        where = {"placement_group_bundle_index": spec.resources.first_bundle(FaultKind.LEARNER) + index}
    elif placement is not None:
        where = placement.learner(index)
    settings = spec.experiment.learners
    actor = ray.remote(own_config.learner_class).options(
        num_cpus=settings.cpus_per_learner,
        num_gpus=settings.gpus_per_learner,
        max_restarts=-1,
        max_task_retries=0,
        **where,
    )
    # Ray needs the constructor's arguments for as long as it may restart the actor.
    config_ref = ray.put(own_config)
    return lambda: actor.remote(config=config_ref, **arguments)
