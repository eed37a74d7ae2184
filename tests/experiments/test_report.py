"""Numbers of the comparison, by hand."""

import pytest

from dm2_ray.experiments.report import Curve, median_curve, summary_rows, table
from dm2_ray.experiments.teams import wilson_interval


def curve(variant: str, seed: int, *points: tuple[int, float]) -> Curve:
    steps, rates = zip(*points, strict=True)
    return Curve(variant=variant, seed=seed, env_steps=steps, win_rates=rates, minutes=1.0)


def test_a_win_rate_is_reached_by_the_mean_of_three_evaluations() -> None:
    # Means: 0, 0, 0.2, 0.4, 0.8
    one = curve("dm2", 0, (100, 0.0), (200, 0.0), (300, 0.6), (400, 0.6), (500, 1.2))
    assert one.env_steps_to(0.2) == pytest.approx(300)
    assert one.env_steps_to(0.3) == pytest.approx(350)
    assert one.env_steps_to(0.5) == pytest.approx(425)
    assert one.env_steps_to(0.9) is None


def test_a_seed_that_never_gets_there_is_infinitely_late() -> None:
    reached = [curve("ippo", seed, (100, 1.0), (200, 1.0)) for seed in range(2)]
    never = [curve("ippo", seed, (100, 0.0), (200, 0.1)) for seed in (2, 3, 4)]
    (row,) = summary_rows([*reached, *never])
    assert row["env_steps_to_0.5"] == float("inf")
    assert row["final_win_rate"] == 0.1
    assert "not reached" in table([*reached, *never], [0.4])
    (row,) = summary_rows([*reached, never[0]])
    assert row["env_steps_to_0.5"] == 50


def test_median_curve_goes_as_far_as_all_do() -> None:
    curves = [curve("dm2", seed, (100, rate), (length, rate)) for seed, (rate, length) in
              enumerate([(0.2, 300), (0.4, 200), (0.9, 400)])]  # fmt: skip
    steps, rates = median_curve(curves)
    assert steps[-1] == 200
    assert rates[-1] == pytest.approx(0.4)
    assert rates[0] == 0.0


def test_wilson_interval_of_a_textbook_case() -> None:
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson_interval(0.0, 10)[0] == 0.0 and wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
