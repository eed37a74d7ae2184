"""TeamAlgorithm: the interface that the training loop expects of an algorithm, and what builds one."""

from __future__ import annotations

from typing import Any, Protocol

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultLog
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.run_spec import RunSpec


class TeamAlgorithm(Protocol):
    """A team that learns, one iteration at a time."""

    @property
    def iteration(self) -> int:
        """Updates done so far."""

    @property
    def env_steps(self) -> int:
        """Env steps trained on so far."""

    def learn(self) -> dict[str, Any]:
        """One iteration; returns its record for metrics.jsonl, where what depends on clock or machine is under
        `timing`."""

    def evaluate_battles(self, episodes: int) -> BattleStatistics:
        """Plays exactly so many greedy battles, always the same ones; training is not disturbed in any way."""

    def learning_state(self) -> dict[str, Any]:
        """Everything that a continued run depends on, as `save_checkpoint` wants it."""

    def restore_learning_state(self, state: dict[str, Any]) -> None:
        """Inverse of `learning_state`."""

    @property
    def faults(self) -> FaultLog:
        """What was lost since the start of the process."""

    def stop(self) -> None:
        """Ends all processes."""


def validated_spec(experiment: Experiment) -> RunSpec:
    """What a run of the experiment consists of, before anything has started.

    Raises:
        ValueError: The experiment cannot be run as it is.
    """
    config = DM2Config().dm2(experiment)
    if experiment.algorithm != "mappo":
        config.validate()
    return config.run_spec


def build_algorithm(experiment: Experiment) -> TeamAlgorithm:
    """Starts the experiment's algorithm; Ray must run.

    Raises:
        ValueError: The experiment cannot be run as it is.
    """
    if experiment.algorithm == "mappo":
        # Imported where it is asked for: nothing of DM2's path depends on it.
        from dm2_ray.algorithms.mappo.mappo import MAPPO

        return MAPPO(experiment)
    algorithm: DM2 = DM2Config().dm2(experiment).build_algo()
    return algorithm
