"""One agent's slices of the best joint episodes so far, which self-imitation imitates.

Every agent keeps its own slices and ranks them by the same number, the discounted return of the team's reward, with
arithmetic that gives the same result on every machine. So all agents keep the same joint episodes without
communicating. The idea is from Oh et al. 2018, "Self-Imitation Learning" (arXiv 1806.05635); the store is that of Wang
et al. 2023 (arXiv 2206.00233).

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.learning.episodes import AgentDemonstration, axes


@dataclass(frozen=True, kw_only=True, eq=False)
class BestEpisodes(AgentDemonstration):
    """Episodes of one agent in the order of their ids, which do not repeat, and the scores that rank them.

    Attributes:
        scores: [E] discounted team return.

    Raises:
        ValueError: The arrays contradict each other.
    """

    scores: npt.NDArray[np.float64] = field(metadata=axes(np.float64, "E"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if (np.diff(self.episode_ids) <= 0).any():
            raise ValueError("episode_ids must increase")

    @classmethod
    def top_k(cls, parts: Sequence[BestEpisodes], capacity: int) -> BestEpisodes:
        """Returns the `capacity` episodes of highest score among all parts; of equal scores, the newer ones by id.

        Args:
            parts: Episodes of one agent; the ids of each part are greater than those of the part before it.
            capacity: How many episodes to keep, at least 1.

        Returns:
            The kept episodes; one of the parts itself if exactly its episodes are kept.
        """
        scores = np.concatenate([part.scores for part in parts])
        ids = np.concatenate([part.episode_ids for part in parts])
        kept = np.sort(np.lexsort((-ids, -scores))[:capacity])
        first = 0
        chosen: list[BestEpisodes] = []
        for part in parts:
            places = kept[(kept >= first) & (kept < first + part.num_episodes)] - first
            first += part.num_episodes
            if len(places) == part.num_episodes:
                chosen.append(part)
            elif len(places):
                chosen.append(part.select(places))
        return cls.concatenate(chosen)


def discounted_returns(
    rewards: npt.NDArray[np.floating[Any]], episode_lengths: npt.NDArray[np.int64], gamma: float
) -> npt.NDArray[np.float64]:
    """Returns [E], the sum over t of gamma^t r_t of every episode, from the rewards [S] and the lengths [E].

    Computed from the last step backwards, G = r + gamma G, in single multiplications and additions of doubles. Every
    machine rounds these alike, so agents whose scores are computed on different machines rank alike.
    """
    rows_after = np.cumsum(episode_lengths)
    returns = np.zeros(len(episode_lengths))
    for steps_from_end in range(1, int(episode_lengths.max()) + 1):
        has_step = episode_lengths >= steps_from_end
        returns[has_step] = rewards[rows_after[has_step] - steps_from_end] + gamma * returns[has_step]
    return returns
