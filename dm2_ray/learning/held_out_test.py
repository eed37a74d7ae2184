"""Two visitations split into folds by episode, and the scores of a classifier on the fold that it has not seen.

Shapes: E episodes of one side of a fold, R its rows, F features of a row, K resamples.

Steps of one battle resemble each other. Were they split one by one, a classifier could recognize battles instead of
telling the two sides apart, so battles stay whole, and battles with equal content (a demonstration drawn twice, an own
battle that has become a demonstration) always go into the same fold, whichever side they are on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dm2_ray.learning.visitation import VisitedRows

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Rows [R, F] to logits [R]; expert is high."""

FEWEST_EPISODES = 4
"""Different episodes that a side needs: fewer cannot be split into the folds."""

_HELD_OUT, _TRAINING, _VALIDATION = range(3)
# Of ten episodes five are held out, four are for training and one is for validation. Any four in a row cover all folds.
_PATTERN = (_HELD_OUT, _TRAINING, _HELD_OUT, _VALIDATION, *(_HELD_OUT, _TRAINING) * 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeFeatures:
    """One side of a fold.

    Attributes:
        rows: [R, F]; where episodes are padded, each has one padding row.
        weights: [R] how often a row occurs: 1, or for padding the steps between the episode's end and the horizon.
        episodes: [R] int64, the row's episode: 0 ... E - 1.
        num_episodes: E.
    """

    rows: Tensor
    weights: Tensor
    episodes: Tensor
    num_episodes: int


class Fold(NamedTuple):
    """Episodes of both sides."""

    own: EpisodeFeatures
    expert: EpisodeFeatures


class Split(NamedTuple):
    """All episodes of both sides, each in one fold."""

    training: Fold
    validation: Fold
    held_out: Fold


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeScores:
    """Scores of a classifier on the held-out episodes of one side: sums over the rows of each episode.

    Attributes:
        cross_entropy: [E] of -log of the probability given to the true side, in nats.
        correct: [E] rows assigned to the true side; a logit of 0 counts half.
        weight: [E] rows.
    """

    cross_entropy: npt.NDArray[np.float64]
    correct: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScores:
    """Scores of a classifier on the held-out fold. Both sides weigh the same, regardless of their numbers of rows."""

    own: EpisodeScores
    expert: EpisodeScores

    @property
    def accuracy(self) -> float:
        """Balanced accuracy: 0.5 means that the sides cannot be told apart."""
        return float(self._mean("correct", None))

    @property
    def js(self) -> float:
        """log 2 - mean cross-entropy, in nats: at most log 2, and below 0 for a classifier worse than guessing.

        The Jensen-Shannon divergence is the maximum over all classifiers D of
        log 2 + (E_expert log D + E_own log(1 - D)) / 2  (Goodfellow et al. 2014, arXiv 1406.2661, eq. 4 to 6), so the
        expected score of any classifier on rows it was not fitted to is a lower bound.
        """
        return math.log(2.0) - float(self._mean("cross_entropy", None))

    def resampled(self, counts: ResampledEpisodes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Accuracy [K] and js [K] for resampled held-out episodes."""
        return self._mean("correct", counts), math.log(2.0) - self._mean("cross_entropy", counts)

    def _mean(self, name: str, counts: ResampledEpisodes | None) -> npt.NDArray[np.float64]:
        """[] or [K] mean over both sides' mean rows."""
        own, expert = (
            times @ getattr(side, name) / (times @ side.weight)
            for side, times in (
                (self.own, np.ones_like(self.own.weight) if counts is None else counts.own),
                (self.expert, np.ones_like(self.expert.weight) if counts is None else counts.expert),
            )
        )
        return np.asarray((own + expert) / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledEpisodes:
    """How often each held-out episode occurs in K bootstrap samples; the same for all classifiers to be compared."""

    own: npt.NDArray[np.int64]
    """[K, E]"""
    expert: npt.NDArray[np.int64]
    """[K, E]"""

    @staticmethod
    def draw(fold: Fold, resamples: int, seed: int) -> ResampledEpisodes:
        """Draws as many episodes of each side as it has, with replacement."""
        rng = np.random.default_rng(seed)
        own, expert = (
            rng.multinomial(side.num_episodes, np.full(side.num_episodes, 1 / side.num_episodes), size=resamples)
            for side in (fold.own, fold.expert)
        )
        return ResampledEpisodes(own=own, expert=expert)


def split_episodes(own: VisitedRows, expert: VisitedRows, generator: torch.Generator) -> Split | None:
    """Splits the episodes of both sides; None when a side has fewer than FEWEST_EPISODES different ones.

    Rows whose episodes are unknown are split one by one, which is right for independent rows only.
    """
    keys = [_contents(visited) for visited in (own, expert)]
    shared = [key for key in dict.fromkeys(keys[0]) if key in set(keys[1])]
    shared = _shuffled(shared, generator)
    folds: list[npt.NDArray[np.int64]] = []
    for side in keys:
        ordered = shared + _shuffled([key for key in dict.fromkeys(side) if key not in set(shared)], generator)
        if len(ordered) < FEWEST_EPISODES:
            return None
        fold_of = {key: _PATTERN[place % len(_PATTERN)] for place, key in enumerate(ordered)}
        folds.append(np.array([fold_of[key] for key in side]))
    training, validation, held_out = (
        Fold(own=_take(own, folds[0] == fold), expert=_take(expert, folds[1] == fold))
        for fold in (_TRAINING, _VALIDATION, _HELD_OUT)
    )
    return Split(training=training, validation=validation, held_out=held_out)


def score(classifier: Classifier, fold: Fold) -> HeldOutScores:
    """The scores of a classifier on a fold that it was not fitted to."""
    return HeldOutScores(
        own=_episode_scores(-classifier(fold.own.rows), fold.own),
        expert=_episode_scores(classifier(fold.expert.rows), fold.expert),
    )


def _episode_scores(logits_true_is_high: Tensor, side: EpisodeFeatures) -> EpisodeScores:
    logits = logits_true_is_high.double()
    weights = side.weights.double()

    def summed(values: Tensor) -> npt.NDArray[np.float64]:
        return torch.zeros(side.num_episodes, dtype=torch.float64).index_add_(0, side.episodes, values).numpy()

    return EpisodeScores(
        cross_entropy=summed(weights * functional.softplus(-logits)),
        correct=summed(weights * (torch.sign(logits) + 1) / 2),
        weight=summed(weights),
    )


def _lengths(visited: VisitedRows) -> npt.NDArray[np.int64]:
    if visited.episode_lengths is None:
        return np.ones(visited.num_real, np.int64)
    return np.asarray(visited.episode_lengths, np.int64)


def _contents(visited: VisitedRows) -> list[bytes]:
    """A digest of each episode's rows, equal for equal episodes."""
    rows = visited.rows[: visited.num_real].detach().cpu().contiguous().numpy()
    ends = np.cumsum(_lengths(visited))
    return [
        hashlib.blake2b(rows[start:end].tobytes(), digest_size=16).digest()
        for start, end in zip(np.append(0, ends[:-1]), ends, strict=True)
    ]


def _shuffled(keys: list[bytes], generator: torch.Generator) -> list[bytes]:
    return [keys[place] for place in torch.randperm(len(keys), generator=generator).tolist()]


def _take(visited: VisitedRows, chosen: npt.NDArray[np.bool_]) -> EpisodeFeatures:
    """The rows of the chosen [E] episodes."""
    lengths = _lengths(visited)
    num_episodes = int(chosen.sum())
    rows = visited.rows[: visited.num_real].detach().cpu()[torch.from_numpy(np.repeat(chosen, lengths))]
    episodes = torch.from_numpy(np.repeat(np.arange(num_episodes), lengths[chosen]))
    weights = torch.ones(len(rows))
    if visited.has_padding_row and visited.num_rows > visited.num_real:
        missing = torch.from_numpy(visited.num_rows / len(lengths) - lengths[chosen]).float()
        rows = torch.cat([rows, visited.rows[-1:].detach().cpu().expand(num_episodes, -1)])
        weights = torch.cat([weights, missing])
        episodes = torch.cat([episodes, torch.arange(num_episodes)])
    return EpisodeFeatures(rows=rows, weights=weights, episodes=episodes, num_episodes=num_episodes)
