"""The best joint episodes so far, as one agent lived them: what self-imitation imitates.

Every agent keeps its own slices and ranks them by the same number, the discounted return of the team's reward, with
arithmetic that is the same on every machine. So all agents keep the same joint episodes without talking. Oh et al.
2018, "Self-Imitation Learning" (arXiv 1806.05635), for the idea; the store is Wang et al.'s (arXiv 2206.00233).

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import check_arrays
from dm2_ray.learning.agent_episodes import AgentDemonstration

_ARRAYS = ("observations", "actions", "action_mask", "alive", "episode_lengths", "episode_ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class BestEpisodes:
    """Episodes of one agent, by growing id, and what they are ranked by. Ids must not repeat.

    Raises ValueError when the arrays contradict each other.
    """

    episodes: AgentDemonstration
    scores: npt.NDArray[np.float64]
    """[E] discounted team return."""

    def __post_init__(self) -> None:
        check_arrays(self, {"scores": (np.float64, (self.episodes.num_episodes,))})
        if (np.diff(self.episodes.episode_ids) <= 0).any():
            raise ValueError("ids of episodes must grow")

    @classmethod
    def top_k(cls, parts: Sequence[BestEpisodes], capacity: int) -> BestEpisodes:
        """The `capacity` episodes of highest score among all parts; of equally good ones the newer, by their ids.

        Args:
            parts: of one agent; the ids of each are beyond those of the part before it.
            capacity: at least 1.

        Returns:
            One of the parts itself where nothing but it is left.
        """
        scores = np.concatenate([part.scores for part in parts])
        ids = np.concatenate([part.episodes.episode_ids for part in parts])
        kept = np.sort(np.lexsort((-ids, -scores))[:capacity])
        first = 0
        chosen: list[BestEpisodes] = []
        for part in parts:
            places = kept[(kept >= first) & (kept < first + len(part.scores))] - first
            first += len(part.scores)
            if len(places) == len(part.scores):
                chosen.append(part)
            elif len(places):
                chosen.append(cls(episodes=part.episodes.select(places), scores=part.scores[places]))
        if len(chosen) == 1:
            return chosen[0]
        return cls(
            episodes=AgentDemonstration.concatenate([part.episodes for part in chosen]),
            scores=np.concatenate([part.scores for part in chosen]),
        )

    def to_arrays(self) -> dict[str, Any]:
        """Everything by name, as arrays and one number."""
        arrays = {name: getattr(self.episodes, name) for name in _ARRAYS}
        return {"agent_index": self.episodes.agent_index, **arrays, "scores": self.scores}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> BestEpisodes:
        """Inverse of `to_arrays`.

        Raises:
            ValueError: a name is missing, or the arrays contradict each other.
        """
        if missing := {"agent_index", "scores", *_ARRAYS} - set(arrays):
            raise ValueError(f"arrays of best episodes are missing: {', '.join(sorted(missing))}")
        episodes = AgentDemonstration(
            agent_index=int(arrays["agent_index"]), **{name: np.asarray(arrays[name]) for name in _ARRAYS}
        )
        return cls(episodes=episodes, scores=np.asarray(arrays["scores"]))


def discounted_returns(
    rewards: npt.NDArray[np.floating[Any]], episode_lengths: npt.NDArray[np.int64], gamma: float
) -> npt.NDArray[np.float64]:
    """[E] sum over t of gamma^t r_t of every episode, from its rewards [S] and lengths [E].

    From the last step backwards, G = r + gamma G, in single multiplications and additions of doubles: no machine
    rounds them in another way, so agents whose scores are computed on different machines rank alike.
    """
    rows_after = np.cumsum(episode_lengths)
    returns = np.zeros(len(episode_lengths))
    for back in range(1, int(episode_lengths.max()) + 1):
        under_way = episode_lengths >= back
        returns[under_way] = rewards[rows_after[under_way] - back] + gamma * returns[under_way]
    return returns
