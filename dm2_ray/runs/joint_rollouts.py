"""What all agents of a team saw and did in its battles, with returns and outcomes, for analysis.

Shapes: E episodes (whole battles), N agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.demonstrations import JointEpisode, JointTrajectories
from dm2_ray.demonstrations.joint_episode import agent_demonstration
from dm2_ray.learning.episodes import AgentEpisodes, AgentTrajectory, JointEpisodes

if TYPE_CHECKING:
    from dm2_ray.distributed.rollout.battle_collector import BattleStatistics


@dataclass(frozen=True, kw_only=True, eq=False)
class JointRollouts(JointEpisodes[AgentEpisodes]):
    """Battles of a whole team with their returns and outcomes.

    Attributes:
        returns: [E] the team's undiscounted returns; None if rewards are not known.
        won: [E]; None if outcomes are not known.

    Raises:
        ValueError: The arrays contradict each other.
    """

    returns: Float64s | None
    won: Bools | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("returns", "won"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_episodes:
                raise ValueError(f"{name} must have {self.num_episodes} entries, found {len(values)}")

    @staticmethod
    def from_demonstrations(demonstrations: JointTrajectories, episode_ids: Int64s) -> JointRollouts:
        """The given joint episodes of a demonstration set."""
        missing = demonstrations.manifest.missing
        return JointRollouts(
            agents=tuple(demonstrations.agent_slice(agent, episode_ids) for agent in range(demonstrations.num_agents)),
            returns=None if "rewards" in missing else demonstrations.returns[episode_ids],
            won=None if "battle_won" in missing else demonstrations.battle_won[episode_ids],
        )

    @staticmethod
    def from_trajectories(trajectories: Sequence[AgentTrajectory], statistics: BattleStatistics) -> JointRollouts:
        """The trajectories and statistics of a collection, agent 0 first."""
        return JointRollouts(agents=tuple(trajectories), returns=statistics.returns, won=statistics.won)

    @staticmethod
    def from_episodes(episodes: Sequence[JointEpisode]) -> JointRollouts:
        """Battles that were just played."""
        ids = np.arange(len(episodes))
        return JointRollouts(
            agents=tuple(agent_demonstration(episodes, agent, ids) for agent in range(episodes[0].actions.shape[1])),
            returns=np.array([episode.team_return for episode in episodes]),
            won=np.array([episode.battle_won for episode in episodes]),
        )
