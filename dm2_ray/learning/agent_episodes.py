"""One agent's slice of joint demonstrations.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import Expected, check_arrays

if TYPE_CHECKING:
    from dm2_ray.demonstrations.parquet_layout import JointEpisode


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentDemonstration:
    """What one agent of the demonstrating team saw and did; it holds nothing of any other agent.

    Raises ValueError when the arrays contradict each other.
    """

    agent_index: int
    observations: npt.NDArray[np.float32]
    """[S, O] what the agent saw before acting; all zeros where it was dead."""
    actions: npt.NDArray[np.int64]
    """[S] the action taken."""
    action_mask: npt.NDArray[np.bool_]
    """[S, A] the actions that were available."""
    alive: npt.NDArray[np.bool_]
    """[S] whether the agent was alive at the start of the step."""
    episode_lengths: npt.NDArray[np.int64]
    """[E] steps of each battle; their sum is S."""
    episode_ids: npt.NDArray[np.int64]
    """[E] which joint episodes of the set these are: equal ids at two agents are the same battle."""

    def __post_init__(self) -> None:
        steps, episodes = len(self.actions), len(self.episode_lengths)
        expected: Expected = {
            "observations": (np.float32, (steps, self.observations.shape[-1])),
            "actions": (np.int64, (steps,)),
            "action_mask": (np.bool_, (steps, self.action_mask.shape[-1])),
            "alive": (np.bool_, (steps,)),
            "episode_lengths": (np.int64, (episodes,)),
            "episode_ids": (np.int64, (episodes,)),
        }
        check_arrays(self, expected)
        if episodes == 0 or self.episode_lengths.min() < 1 or int(self.episode_lengths.sum()) != steps:
            raise ValueError(f"episode_lengths must be positive and sum to the {steps} steps: {self.episode_lengths}")

    @property
    def num_steps(self) -> int:
        return len(self.actions)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_lengths)

    def select(self, places: npt.NDArray[np.int64]) -> AgentDemonstration:
        """The episodes at these places, [k] of 0 to E - 1, in this order; a place may come up repeatedly. A copy.

        Raises:
            IndexError: no place at all, or none of this demonstration.
        """
        if places.size == 0 or places.min() < 0 or places.max() >= self.num_episodes:
            raise IndexError(f"places must be 0 to {self.num_episodes - 1}, at least one: {places}")
        lengths = self.episode_lengths[places]
        first_rows = np.cumsum(self.episode_lengths) - self.episode_lengths
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(first_rows[places] - starts, lengths)
        return AgentDemonstration(
            agent_index=self.agent_index,
            observations=self.observations.take(rows, 0),
            actions=self.actions.take(rows, 0),
            action_mask=self.action_mask.take(rows, 0),
            alive=self.alive.take(rows, 0),
            episode_lengths=lengths,
            episode_ids=self.episode_ids[places],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[AgentDemonstration]) -> AgentDemonstration:
        """Demonstrations of the same agent laid end to end.

        Raises:
            ValueError: there are none, they are of different agents, or of different sizes.
        """
        agents = {part.agent_index for part in parts}
        if len(agents) != 1:
            raise ValueError(f"need demonstrations of one agent, got those of agents {sorted(agents)}")
        return cls(
            agent_index=agents.pop(),
            observations=np.concatenate([part.observations for part in parts]),
            actions=np.concatenate([part.actions for part in parts]),
            action_mask=np.concatenate([part.action_mask for part in parts]),
            alive=np.concatenate([part.alive for part in parts]),
            episode_lengths=np.concatenate([part.episode_lengths for part in parts]),
            episode_ids=np.concatenate([part.episode_ids for part in parts]),
        )

    @classmethod
    def of_joint_episodes(
        cls, episodes: Sequence[JointEpisode], agent_index: int, episode_ids: npt.NDArray[np.int64]
    ) -> AgentDemonstration:
        """One agent's slice of joint episodes, which get the ids [E]."""
        return cls(
            agent_index=agent_index,
            observations=np.concatenate([episode.observations[:, agent_index] for episode in episodes]),
            actions=np.concatenate([episode.actions[:, agent_index] for episode in episodes]),
            action_mask=np.concatenate([episode.action_mask[:, agent_index] for episode in episodes]),
            alive=np.concatenate([episode.alive[:, agent_index] for episode in episodes]),
            episode_lengths=np.array([episode.num_steps for episode in episodes], np.int64),
            episode_ids=episode_ids,
        )
