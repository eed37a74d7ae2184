"""The processes that a run starts besides its learners, and the resources that it reserves for the learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from dm2_ray.distributed.demonstration_sources.factory import build_source
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource
from dm2_ray.distributed.fault_log import FaultKind, FaultLog
from dm2_ray.distributed.placement import LearnerPlacement
from dm2_ray.distributed.resources import check_resources
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup
from dm2_ray.distributed.run_spec import RunSpec


class RunProcesses:
    """Rollout workers, evaluation workers, and the source of demonstrations with its servers.

    All processes are started before any of them is waited for. Under Tune they run in the trial's own placement group;
    otherwise see placement.py.

    Attributes:
        players: The workers whose battles are learned from.
        evaluators: The workers that play evaluations; the same as `players` if there are none of their own.
        experts: The source of demonstrations; None if none are drawn.
        faults: The log of everything that is lost.
    """

    def __init__(self, config: AlgorithmConfig) -> None:
        """Starts the processes.

        Args:
            config: The run's DM2Config, for the env runners; the learners' placement is written to it.

        Raises:
            NotEnoughResources: The cluster is too small, or other jobs hold the learners' resources for too long.
            DemonstrationError: A set or team is missing, damaged, or does not fit the run.
        """
        spec: RunSpec = config.run_spec
        resources, experiment = spec.resources, spec.experiment
        check_resources(resources)
        self.faults = FaultLog()
        self.experts: DemonstrationSource | None = None
        self._patience_s = experiment.faults.wait_for_resources_s
        self._resources = resources
        self._is_under_tune = ray.util.get_current_placement_group() is not None
        self._placement: LearnerPlacement | None = None
        learners = resources.group(FaultKind.LEARNER)
        if learners.count and not self._is_under_tune:
            self._placement = LearnerPlacement(learners.count, learners.each, self._patience_s)
            config.learner_placement = self._placement
        self.players = self.evaluators = self._env_runners(config, FaultKind.ROLLOUT_WORKER)
        if experiment.evaluation.env_runners:
            self.evaluators = self._env_runners(config, FaultKind.EVALUATION_WORKER)
        if spec.uses_demonstrations:
            options = ActorOptions(
                ray_options=self._expert_options(),
                timeout_s=self._patience_s,
                faults=self.faults,
                free_capacity=self.free_capacity,
            )
            try:
                self.experts = build_source(experiment, options=options)
            except BaseException:
                # The caller gets no object with which to end what has been started.
                self.shutdown()
                self.return_capacity()
                raise

    def wait_until_ready(self) -> None:
        """Returns once battles can be played and demonstrations drawn.

        Raises:
            NotEnoughResources, ExpertsLost: They are not ready within `faults.wait_for_resources_s`.
            DemonstrationError: Demonstrations cannot be read.
        """
        for group in {self.players, self.evaluators}:
            group.wait_until_ready()
        if self.experts is not None:
            self.experts.wait_until_ready()

    def free_capacity(self) -> None:
        """Releases a rollout worker's resources for learners that lost theirs with a node.

        Without one of its learners the run stops; with fewer rollout workers it learns the same, only more slowly.
        """
        if self._placement is not None and not self._placement.is_whole:
            self.players.release_capacity()

    def shutdown(self) -> None:
        """Ends the processes."""
        if self.experts is not None:
            self.experts.shutdown()
        for group in {self.players, self.evaluators}:
            group.shutdown()

    def return_capacity(self) -> None:
        """Returns the learners' resources, once the learners have ended."""
        if self._placement is not None:
            self._placement.remove()

    def _env_runners(self, config: AlgorithmConfig, kind: FaultKind) -> BattleEnvRunnerGroup:
        group = self._resources.group(kind)
        first = self._resources.first_bundle(kind) if self._is_under_tune else None
        return BattleEnvRunnerGroup(
            config, number=group.count, maximum=group.limit, kind=kind, faults=self.faults, first_bundle_index=first
        )

    def _expert_options(self) -> Callable[[int], dict[str, Any]] | None:
        if self._is_under_tune:
            first = self._resources.first_bundle(FaultKind.EXPERT)
            return lambda index: {"placement_group_bundle_index": first + index}
        return None if self._placement is None else self._placement.expert
