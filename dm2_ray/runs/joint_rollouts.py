"""What all agents of a team saw and did in its battles.

For looking at teams after they have learnt. Nothing that learns ever holds one: a learner is sent its own agent's part.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, N agents, O observation size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dm2_ray.demonstrations import JointEpisode, JointTrajectories

if TYPE_CHECKING:
    from dm2_ray.distributed.rollout.battle_collector import BattleStatistics
    from dm2_ray.learning.agent_trajectory import AgentTrajectory


@dataclass(frozen=True, kw_only=True, eq=False)
class JointRollouts:
    """Battles as the whole team lived them, agent by agent. Raises ValueError when the arrays contradict each other."""

    observations: tuple[npt.NDArray[np.float32], ...]
    """N of [S, O], before each step; all zeros where the agent was dead."""
    actions: tuple[npt.NDArray[np.int64], ...]
    """N of [S]."""
    alive: tuple[npt.NDArray[np.bool_], ...]
    """N of [S]."""
    num_actions: int
    episode_lengths: npt.NDArray[np.int64]
    """[E], sum S."""
    returns: npt.NDArray[np.float64] | None
    """[E] the team's undiscounted return; None where rewards are not known."""
    won: npt.NDArray[np.bool_] | None
    """[E]; None where outcomes are not known."""

    def __post_init__(self) -> None:
        steps, episodes = int(self.episode_lengths.sum()), len(self.episode_lengths)
        for name in ("observations", "actions", "alive"):
            arrays = getattr(self, name)
            if len(arrays) != self.num_agents or any(len(array) != steps for array in arrays):
                raise ValueError(f"{name} must be {self.num_agents} arrays of {steps} steps")
        for name in ("returns", "won"):
            values = getattr(self, name)
            if values is not None and len(values) != episodes:
                raise ValueError(f"{name} must have {episodes} entries, found {len(values)}")

    @property
    def num_agents(self) -> int:
        return len(self.observations)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_lengths)

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """[S] each row's step within its battle, from 0."""
        ends = np.cumsum(self.episode_lengths)
        return np.arange(ends[-1]) - np.repeat(ends - self.episode_lengths, self.episode_lengths)

    @staticmethod
    def of_demonstrations(demonstrations: JointTrajectories, episode_ids: npt.NDArray[np.int64]) -> JointRollouts:
        """The given joint episodes of a set."""
        missing = demonstrations.manifest.missing
        slices = [demonstrations.agent_slice(agent, episode_ids) for agent in range(demonstrations.num_agents)]
        return JointRollouts(
            observations=tuple(part.observations for part in slices),
            actions=tuple(part.actions for part in slices),
            alive=tuple(part.alive for part in slices),
            num_actions=demonstrations.manifest.num_actions,
            episode_lengths=slices[0].episode_lengths,
            returns=None if "rewards" in missing else demonstrations.returns[episode_ids],
            won=None if "battle_won" in missing else demonstrations.battle_won[episode_ids],
        )

    @staticmethod
    def of_trajectories(trajectories: Sequence[AgentTrajectory], statistics: BattleStatistics) -> JointRollouts:
        """What a collection kept of every agent, agent 0 first."""
        return JointRollouts(
            observations=tuple(part.observations for part in trajectories),
            actions=tuple(part.actions for part in trajectories),
            alive=tuple(part.alive for part in trajectories),
            num_actions=trajectories[0].num_actions,
            episode_lengths=statistics.lengths,
            returns=statistics.returns,
            won=statistics.won,
        )

    @staticmethod
    def of_episodes(episodes: Sequence[JointEpisode]) -> JointRollouts:
        """Battles that were just played."""
        agents = range(episodes[0].actions.shape[1])
        return JointRollouts(
            observations=tuple(np.concatenate([one.observations[:, agent] for one in episodes]) for agent in agents),
            actions=tuple(np.concatenate([one.actions[:, agent] for one in episodes]) for agent in agents),
            alive=tuple(np.concatenate([one.alive[:, agent] for one in episodes]) for agent in agents),
            num_actions=episodes[0].action_mask.shape[2],
            episode_lengths=np.array([one.num_steps for one in episodes]),
            returns=np.array([one.team_return for one in episodes]),
            won=np.array([one.battle_won for one in episodes]),
        )
