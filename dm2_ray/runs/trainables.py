"""What the training loop asks of whoever learns, and who that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_LEN_MEAN, EPISODE_RETURN_MEAN

from dm2_ray.algorithms.dm2 import DM2, FAULTS
from dm2_ray.algorithms.dm2_config import DM2Config
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultLog
from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
from dm2_ray.distributed.rollout.env_runner import WIN_RATE


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """An experiment's algorithm before anything has started."""

    bundles: list[dict[str, float]]
    """Resources of every process beside the driver."""
    arithmetic: str
    """What will be started, in words."""
    sizes: tuple[int, int, int]
    """Agents, observation size, actions."""
    build: Callable[[], TeamAlgorithm]
    """Starts it; Ray must run."""

    @property
    def needed_cpus(self) -> float:
        """Logical CPUs of everything that runs beside the driver."""
        return sum(bundle.get("CPU", 0.0) for bundle in self.bundles)


def build_setup(experiment: Experiment) -> Plan:
    """Who learns in an experiment.

    Raises:
        ValueError: The experiment cannot be run as it is.
    """
    config = DM2Config().dm2(experiment)
    if experiment.algorithm == "mappo":
        # Imported where it is asked for: nothing of DM2's path depends on it.
        from dm2_ray.algorithms.mappo.mappo import MAPPO, resource_arithmetic, resource_bundles

        return Plan(
            bundles=resource_bundles(experiment),
            arithmetic=resource_arithmetic(experiment),
            sizes=config.sizes(),
            build=lambda: MAPPO(experiment),
        )
    config.validate()
    return Plan(
        bundles=config.resources.bundles(),
        arithmetic=config.resources.arithmetic(),
        sizes=config.sizes(),
        build=lambda: DecentralizedTeam(config.build_algo()),
    )


class DecentralizedTeam:
    """DM2, an RLlib Algorithm, as the training loop wants it."""

    def __init__(self, algorithm: DM2) -> None:
        self._algorithm = algorithm
        self.evaluate_battles = algorithm.evaluate_battles
        self.learning_state = algorithm.learning_state
        self.restore_learning_state = algorithm.restore_learning_state
        self.stop = algorithm.stop

    @property
    def iteration(self) -> int:
        return self._algorithm.learner_group.version

    @property
    def env_steps(self) -> int:
        return self._algorithm.env_steps

    def learn(self) -> dict[str, Any]:
        result = self._algorithm.train()
        # No battles are played while agents are cloned: what speaks of battles is None then.
        battles = result.get(ENV_RUNNER_RESULTS, {})
        experts = self._algorithm.expert_metrics
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "episodes": self._algorithm.episodes,
            "win_rate": battles.get(WIN_RATE),
            "return_mean": battles.get(EPISODE_RETURN_MEAN),
            "episode_length_mean": battles.get(EPISODE_LEN_MEAN),
            "agents": self._algorithm.agent_metrics,
            **({"experts": experts} if experts else {}),
            "timing": {**result["pace"], **result[FAULTS], "hosts": self._algorithm.hosts},
        }

    @property
    def faults(self) -> FaultLog:
        return self._algorithm.faults
