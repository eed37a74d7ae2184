"""Whole battles as a centralized learner needs them: every agent's own view, and the global state.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, N agents, Z size of the global state.

`JointEnvRunner` plays them: the battles of a BattleEnvRunner, with their global states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ray.rllib.utils.annotations import override

from dm2_ray.distributed.rollout.battle_collector import BattleCollector
from dm2_ray.distributed.rollout.env_runner import BattleEnvRunner, RolloutTask
from dm2_ray.learning.episodes import AgentTrajectory, JointEpisodes


@dataclass(frozen=True, kw_only=True, eq=False)
class JointBattles(JointEpisodes[AgentTrajectory]):
    """The battles of a team with their global states. Raises ValueError when the arrays contradict each other."""

    states: npt.NDArray[np.float32]
    """[S, Z] the global state before each step."""
    final_states: npt.NDArray[np.float32]
    """[E, Z] the global state after each battle's last step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = ((self.num_steps,), (self.num_episodes,))
        found = (self.states.shape[:1], self.final_states.shape[:1])
        if found != expected:
            raise ValueError(f"states and final_states must have {expected} rows, found {found}")

    @staticmethod
    def concatenate(parts: Sequence[JointBattles]) -> JointBattles:
        """Several rollouts end to end."""
        agents = zip(*(part.agents for part in parts), strict=True)
        return JointBattles(
            agents=tuple(AgentTrajectory.concatenate(views) for views in agents),
            states=np.concatenate([part.states for part in parts]),
            final_states=np.concatenate([part.final_states for part in parts]),
        )


class JointEnvRunner(BattleEnvRunner):
    """Returns one JointBattles where its base class returns one trajectory per agent."""

    @override(BattleEnvRunner)
    def make_module(self) -> None:
        super().make_module()
        self._collector = BattleCollector(self.env, self._stacked, keep_states=True)

    @override(BattleEnvRunner)
    def rollout(self, task: RolloutTask, policy_version: int, *weights: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        """Plays a task's battles: JointBattles and a RolloutReport; call with `num_returns`."""
        *trajectories, report = super().rollout(task, policy_version, *weights)
        kept = self._collector.global_states
        assert kept is not None
        battles = JointBattles(agents=tuple(trajectories), states=kept.states, final_states=kept.final_states)
        return battles, report
