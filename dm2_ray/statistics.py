"""Statistics over few runs: interquartile mean, probability of improvement, stratified bootstrap.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.

Scores are given as one array per stratum (map), with one entry per run (seed). scipy.stats.bootstrap is not used,
because it rejects strata with a single run, which are common here. Also Wilson's interval of a win rate.

Shapes: R resamples, n runs of a stratum, S runs of all strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from dm2_ray.arrays import Float64s

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and its confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(strata: Sequence[Sequence[float]]) -> Estimate:
    """Mean of the middle half of all runs' scores, with its 95 % interval.

    A quarter of the runs, rounded down, is left out at each end (with three runs, none).

    Raises:
        ValueError: There is no score, or one is not finite.
    """
    arrays = _checked(strata)
    pooled = np.concatenate(arrays)[None, :]
    resampled = np.concatenate(_resampled(arrays, np.random.default_rng(0)), axis=1)
    return _estimate(float(_middle_mean(pooled)[0]), _middle_mean(resampled))


def probability_of_improvement(strata: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Estimate:
    """Probability that a run scores higher than one of the others on the same map, with its 95 % interval.

    For each map, it is the share of pairs in which the first scores higher, where ties count half (Mann-Whitney's U
    divided by n m); the result is the mean over maps.

    Raises:
        ValueError: There is no score, a score is not finite, or the numbers of maps differ.
    """
    if len(strata) != len(others):
        raise ValueError(f"need scores of the same maps, got {len(strata)} and {len(others)} maps")
    first, second = _checked(strata), _checked(others)
    generator = np.random.default_rng(0)
    drawn = zip(_resampled(first, generator), _resampled(second, generator), strict=True)
    resampled = np.mean([_share_of_wins(left, right) for left, right in drawn], axis=0)
    pairs = zip(first, second, strict=True)
    value = np.mean([_share_of_wins(left[None, :], right[None, :])[0] for left, right in pairs])
    return _estimate(float(value), resampled)


def _checked(strata: Sequence[Sequence[float]]) -> list[Float64s]:
    arrays = [np.asarray(scores, dtype=np.float64) for scores in strata]
    if not arrays or any(len(scores) == 0 for scores in arrays):
        raise ValueError("need at least one score for every map")
    if not all(np.isfinite(scores).all() for scores in arrays):
        raise ValueError("scores must be finite")
    return arrays


def _resampled(arrays: Sequence[Float64s], generator: np.random.Generator) -> list[Float64s]:
    """Runs drawn with replacement within each map, [R, n] each."""
    return [scores[generator.integers(0, len(scores), (RESAMPLES, len(scores)))] for scores in arrays]


def _middle_mean(scores: Float64s) -> Float64s:
    """[R, S] -> [R]."""
    cut = scores.shape[1] // 4
    ordered = np.sort(scores, axis=1)
    middle: Float64s = ordered[:, cut : scores.shape[1] - cut].mean(axis=1)
    return middle


def _share_of_wins(left: Float64s, right: Float64s) -> Float64s:
    """[R, n] and [R, m] -> [R]."""
    difference = left[:, :, None] - right[:, None, :]
    share: Float64s = ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))
    return share


def _estimate(value: float, resampled: Float64s) -> Estimate:
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def wilson_interval(rate: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); the default z gives a 95 % interval."""
    center = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # Only rounding errors could put the rate outside its interval.
    return max(0.0, min(center - half, rate)), min(1.0, max(center + half, rate))
