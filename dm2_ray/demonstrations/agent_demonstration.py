"""One agent's slice of joint demonstrations.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, O observation size, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dm2_ray.array_contract import Expected, check_arrays


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
