"""The interface between the training loop and an algorithm (`TeamAlgorithm`), and the factory that builds one."""

from __future__ import annotations

from typing import Any, Protocol

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.algorithms.mappo.mappo import MAPPO
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultLog
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.run_spec import RunSpec


class TeamAlgorithm(Protocol):
    """A team that learns, one iteration at a time."""

    @property
    def iteration(self) -> int:
        """Number of updates so far."""

    @property
    def env_steps(self) -> int:
        """Number of env steps trained on so far."""

    def learn(self) -> dict[str, Any]:
        """Runs one iteration; returns its record for metrics.jsonl.

        Whatever depends on the clock or the machine is under the key `timing`.
        """

    def evaluate_battles(self, episodes: int) -> BattleStatistics:
        """Plays exactly `episodes` greedy battles, always the same ones, without any effect on training."""

    def learning_state(self) -> dict[str, Any]:
        """Everything that a resumed run depends on, in the form that `save_checkpoint` takes."""

    def restore_learning_state(self, state: dict[str, Any]) -> None:
        """Inverse of `learning_state`."""

    @property
    def faults(self) -> FaultLog:
        """The losses since the start of this driver."""

    def stop(self) -> None:
        """Ends all processes."""


def validated_spec(experiment: Experiment) -> RunSpec:
    """The specification of a run of the experiment; nothing is started.

    Raises:
        ValueError: The experiment cannot be run.
    """
    config = DM2Config().dm2(experiment)
    if experiment.algorithm != "mappo":
        config.validate()
    return config.run_spec


def build_algorithm(experiment: Experiment) -> TeamAlgorithm:
    """Starts the experiment's algorithm; Ray must be running.

    Raises:
        ValueError: The experiment cannot be run.
    """
    if experiment.algorithm == "mappo":
        return MAPPO(experiment)
    algorithm: DM2 = DM2Config().dm2(experiment).build_algo()
    return algorithm
