"""Statistics over few runs, by hand and against scipy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, trim_mean

from dm2_ray.statistics import interquartile_mean, probability_of_improvement

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


def test_the_middle_half_is_averaged() -> None:
    assert interquartile_mean([[7.0, 0.0, 2.0, 3.0, 4.0, 5.0, 1.0, 60.0]]).value == 3.5  # of 2, 3, 4 and 5
    assert interquartile_mean([[0.0, 0.5, 1.0]]).value == 0.5  # three runs: none is left out
    assert interquartile_mean([[0.0, 9.0], [2.0, 4.0]]).value == 3.0  # over both maps: 2 and 4


def test_the_interval_of_two_runs() -> None:
    # Two draws of {0, 1} have the means 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    estimate = interquartile_mean([[0.0, 1.0]])
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_the_interval_of_many_runs_is_that_of_their_mean() -> None:
    # 100 runs, half 0 and half 1: the middle half's mean moves with the number of ones, k of B(100, 1/2), as
    # (k - 25) / 50. B's 2.5 % and 97.5 % quantiles are 40 and 60.
    estimate = interquartile_mean([[0.0] * 50 + [1.0] * 50])
    assert estimate.low == pytest.approx(0.3, abs=0.03)
    assert estimate.high == pytest.approx(0.7, abs=0.03)


def test_maps_are_resampled_apart() -> None:
    # Runs differ between the maps only: whatever is drawn within each, the mean stays.
    estimate = interquartile_mean([[0.0] * 2, [1.0] * 2])
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)


def test_probability_of_improvement_counts_pairs() -> None:
    # 1 loses both, 2 ties both, 3 wins both.
    assert probability_of_improvement([[1.0, 2.0, 3.0]], [[2.0, 2.0]]).value == 0.5
    # 3 of 4 pairs on the first map, none of one on the second.
    two_maps = probability_of_improvement([[0.5, 0.9], [0.1]], [[0.4, 0.6], [0.2]])
    assert two_maps.value == pytest.approx((0.75 + 0.0) / 2)
    certain = probability_of_improvement([[0.8, 0.9]], [[0.1, 0.2, 0.3]])
    assert (certain.value, certain.low, certain.high) == (1.0, 1.0, 1.0)


def test_its_interval_of_one_run_against_two() -> None:
    # Draws of {0, 2} against 1: shares 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4.
    estimate = probability_of_improvement([[0.0, 2.0]], [[1.0]])
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


@given(SCORES)
def test_interquartile_mean_is_scipys(scores: list[float]) -> None:
    estimate = interquartile_mean([scores])
    assert estimate.value == pytest.approx(trim_mean(scores, 0.25), abs=1e-12)
    assert min(scores) - 1e-12 <= estimate.low <= estimate.high <= max(scores) + 1e-12


@given(SCORES, SCORES)
def test_probability_of_improvement_is_mann_whitneys(scores: list[float], others: list[float]) -> None:
    value = probability_of_improvement([scores], [others]).value
    assert value == pytest.approx(mannwhitneyu(scores, others).statistic / (len(scores) * len(others)))
    assert value + probability_of_improvement([others], [scores]).value == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [[], [[]], [[0.5], []], [[0.5, float("nan")]], [[float("inf")]]])
def test_what_has_no_answer_is_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="score"):
        interquartile_mean(bad)


def test_other_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="1 and 2 maps"):
        probability_of_improvement([[0.5]], [[0.5], [0.5]])
