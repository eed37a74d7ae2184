"""The two-sample test against distributions whose divergence is known, and against leaks between its parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.learning.classifier_two_sample import fit_classifier, visitation_divergence
from dm2_ray.learning.held_out_test import ResampledEpisodes, score, split_episodes
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs

LENGTH = 10


def visited(rows: np.ndarray, length: int = LENGTH, padding: str = "masked", horizon: int = LENGTH) -> VisitedRows:
    """Rows laid out as episodes of `length` steps."""
    return discriminator_inputs(rows.astype(np.float32), np.full(len(rows) // length, length), padding, horizon)


def divergence(own: VisitedRows, expert: VisitedRows, seed: int = 0) -> tuple[float, float]:
    measured = visitation_divergence(own, expert, torch.Generator().manual_seed(seed))
    return measured["divergence_accuracy"], measured["divergence_js"]


def js_of_gaussians(shift: float, scale: float = 1.0) -> float:
    """Of N(0, 1) and N(shift, scale^2), by summing over a fine grid."""
    x = np.linspace(-12, 12, 200_001)
    p = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    q = np.exp(-(((x - shift) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))
    middle = (p + q) / 2
    terms = (d * np.log(d / middle, out=np.zeros_like(d), where=d > 0) for d in (p, q))
    return float(sum(term.sum() for term in terms) * (x[1] - x[0]) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_equal_distributions_cannot_be_told_apart(seed):
    rng = np.random.default_rng(seed)
    own, expert = (visited(rng.normal(size=(4000, 20))) for _ in range(2))
    accuracy, js = divergence(own, expert, seed)
    # 2000 held-out rows a side: four standard errors of the mean of two proportions.
    assert abs(accuracy - 0.5) <= 4 * math.sqrt(0.25 / 4000)
    assert 0 <= js <= 0.004


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, 3.0), (1.5, 0.4)])
def test_js_of_gaussians_is_found_from_below(shift, scale):
    rng = np.random.default_rng(1)
    own, expert = rng.normal(size=(12_000, 5)), rng.normal(size=(12_000, 5))
    expert[:, 2] = shift + scale * expert[:, 2]  # the other four features say nothing
    exact = js_of_gaussians(shift, scale)
    _, js = divergence(visited(own), visited(expert))
    # Held-out noise is about 0.005; what the network misses is within the rest.
    assert exact - 0.02 <= js <= exact + 0.01


def test_js_of_a_discrete_distribution_is_the_analytic_one():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.2, 0.3, 0.2, 0.3])
    middle = (p + q) / 2
    exact = 0.5 * sum((d[d > 0] * np.log(d[d > 0] / middle[d > 0])).sum() for d in (p, q))
    best_accuracy = 0.5 + np.abs(p - q).sum() / 4  # Bayes: half of 1 + total variation
    rng = np.random.default_rng(2)
    own, expert = (np.eye(4)[rng.choice(4, size=12_000, p=side)] for side in (p, q))
    accuracy, js = divergence(visited(own), visited(expert))
    assert js == pytest.approx(exact, abs=0.012)
    assert accuracy == pytest.approx(best_accuracy, abs=0.012)


def test_what_differs_only_in_how_features_go_together_is_found():
    rng = np.random.default_rng(3)
    own, expert = rng.choice([-1.0, 1.0], size=(6000, 8)), rng.choice([-1.0, 1.0], size=(6000, 8))
    expert[:, 1] = expert[:, 0]  # every feature alone is a fair coin on both sides
    accuracy, js = divergence(visited(own), visited(expert))
    # Equal: 2/3 expert; unequal: own. log 2 - (1/4) [...] by hand:
    exact = 0.5 * (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert js == pytest.approx(exact, abs=0.02) and accuracy == pytest.approx(0.75, abs=0.02)


def test_disjoint_visitations_are_always_told_apart():
    rng = np.random.default_rng(4)
    own, expert = rng.uniform(0, 1, size=(2000, 3)), rng.uniform(1.5, 2.5, size=(2000, 3))
    accuracy, js = divergence(visited(own), visited(expert))
    assert accuracy > 0.995 and math.log(2) - 0.03 < js <= math.log(2)


def test_one_side_may_have_far_more_rows():
    rng = np.random.default_rng(5)
    own, expert = rng.normal(size=(1000, 2)), rng.normal(size=(16_000, 2)) + [1.0, 0.0]
    _, js = divergence(visited(own), visited(expert))
    assert js == pytest.approx(js_of_gaussians(1.0), abs=0.03)


def test_padding_counts_as_often_as_the_visitation_has_it():
    rng = np.random.default_rng(6)
    # Equal rows, but own battles end after 5 of 20 steps and the expert's after 15.
    own = visited(rng.normal(size=(2000, 3)), length=5, padding="absorbing", horizon=20)
    expert = visited(rng.normal(size=(6000, 3)), length=15, padding="absorbing", horizon=20)
    p, q = np.array([0.25, 0.75]), np.array([0.75, 0.25])
    exact = float((p * np.log(2 * p)).sum() / 2 + (q * np.log(2 * q)).sum() / 2)
    accuracy, js = divergence(own, expert)
    assert accuracy == pytest.approx(0.75, abs=0.005) and js == pytest.approx(exact, abs=0.01)


def test_battles_are_not_recognized_by_their_marks():
    """Every battle has a mark of its own on all its steps; nothing else is in the data."""
    rng = np.random.default_rng(7)
    own, expert = (np.repeat(rng.normal(size=(200, 16)), LENGTH, axis=0) for _ in range(2))
    accuracy, js = divergence(visited(own), visited(expert))
    assert abs(accuracy - 0.5) < 0.15 and js < 0.02
    # The same rows as if they had nothing to do with each other: the leak that dealing by episodes prevents.
    loose = [
        VisitedRows(rows=torch.from_numpy(rows).float(), num_real=len(rows), num_rows=len(rows), num_episodes=200)
        for rows in (own + rng.normal(size=own.shape) * 1e-3, expert + rng.normal(size=own.shape) * 1e-3)
    ]
    assert divergence(*loose)[0] > 0.8


def test_a_battle_that_occurs_repeatedly_is_in_one_part_only():
    """Demonstrations drawn several times, as from a set smaller than a draw, and own battles among them."""
    rng = np.random.default_rng(8)
    own, expert = rng.normal(size=(30, LENGTH, 16)), rng.normal(size=(30, LENGTH, 16))
    expert[:6] = own[:6]
    own, expert = (np.concatenate([side[rng.permutation(30)] for _ in range(8)]) for side in (own, expert))
    split = split_episodes(
        visited(own.reshape(-1, 16)), visited(expert.reshape(-1, 16)), torch.Generator().manual_seed(0)
    )
    assert split is not None
    parts = [
        {row.tobytes() for side in (part.own, part.expert) for row in side.rows.numpy()}
        for part in (split.training, split.validation, split.held_out)
    ]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert split.held_out.own.num_episodes == split.held_out.expert.num_episodes == 15 * 8
    accuracy, js = divergence(visited(own.reshape(-1, 16)), visited(expert.reshape(-1, 16)))
    assert abs(accuracy - 0.5) < 0.15 and js < 0.03


@settings(max_examples=30, deadline=None)
@given(
    own=st.lists(st.integers(1, 7), min_size=4, max_size=25),
    expert=st.lists(st.integers(1, 7), min_size=4, max_size=25),
    padding=st.sampled_from(["masked", "absorbing", "paper"]),
    seed=st.integers(0, 99),
)
def test_every_row_is_dealt_once_with_its_weight(own, expert, padding, seed):
    sides = []
    for offset, lengths in ((0.0, own), (1000.0, expert)):
        rows = offset + np.arange(1, sum(lengths) + 1, dtype=np.float32)[:, None]
        sides.append(discriminator_inputs(rows, np.array(lengths), padding, horizon=7))
    split = split_episodes(*sides, torch.Generator().manual_seed(seed))
    assert split is not None
    parts = (split.training, split.validation, split.held_out)
    for name, side, lengths in (("own", sides[0], own), ("expert", sides[1], expert)):
        dealt = [getattr(part, name) for part in parts]
        assert min(part.num_episodes for part in dealt) >= 1
        assert sum(part.num_episodes for part in dealt) == len(lengths)
        assert abs(dealt[2].num_episodes - len(lengths) / 2) <= 0.5
        assert sum(float(part.weights.sum()) for part in dealt) == pytest.approx(side.num_rows)
        real = torch.cat([part.rows[part.rows[:, 0] > 0, 0] for part in dealt])
        assert sorted(real.tolist()) == side.rows[: side.num_real, 0].tolist()


def test_too_few_different_episodes_say_nothing():
    rng = np.random.default_rng(9)
    many = visited(rng.normal(size=(200, 3)))
    repeated = visited(np.tile(rng.normal(size=(3 * LENGTH, 3)), (5, 1)))
    assert visitation_divergence(many, repeated, torch.Generator().manual_seed(0)) == {}
    assert visitation_divergence(repeated, many, torch.Generator().manual_seed(0)) == {}
    assert visitation_divergence(many, visited(rng.normal(size=(4 * LENGTH, 3))), torch.Generator()) != {}


def test_it_is_a_function_of_its_arguments():
    rng = np.random.default_rng(10)
    own, expert = visited(rng.normal(size=(500, 4))), visited(rng.normal(size=(500, 4)) + 0.5)
    before = torch.random.get_rng_state()
    first = divergence(own, expert, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert divergence(own, expert, seed=3) == first
    assert divergence(own, expert, seed=4) != first


def test_features_that_never_change_or_are_rare_do_no_harm():
    rng = np.random.default_rng(11)
    own, expert = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4))
    for side in (own, expert):
        side[:, 1] = 7.0
        side[:, 2] = 0.0
        side[rng.integers(2000), 2] = 1e6
    _, js = divergence(visited(own), visited(expert))
    assert js < 0.01


def test_intervals_cover_the_divergence_and_widen_with_fewer_battles():
    widths = []
    exact = js_of_gaussians(1.0)
    covered = 0
    for battles in (40, 400):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            own, expert = rng.normal(size=(battles * LENGTH, 1)), rng.normal(size=(battles * LENGTH, 1)) + 1
            split = split_episodes(visited(own), visited(expert), torch.Generator().manual_seed(seed))
            assert split is not None
            scores = score(fit_classifier(split, torch.Generator().manual_seed(seed)), split.held_out)
            accuracy, js = scores.resampled(ResampledEpisodes.draw(split.held_out, 400, seed))
            low, high = np.quantile(js, [0.025, 0.975])
            assert low < scores.js < high and np.quantile(accuracy, 0.025) < scores.accuracy
            covered += low <= exact <= high
            widths.append(high - low)
    assert covered >= 6
    assert 2 < np.mean(widths[:4]) / np.mean(widths[4:]) < 5  # sqrt(10), more or less


def test_blocks_see_no_combinations_and_a_base_is_built_upon():
    rng = np.random.default_rng(12)
    own, expert = rng.choice([-1.0, 1.0], size=(6000, 4)), rng.choice([-1.0, 1.0], size=(6000, 4))
    expert[:, 2] = expert[:, 0]
    split = split_episodes(visited(own), visited(expert), torch.Generator().manual_seed(0))
    assert split is not None
    generator = torch.Generator().manual_seed(0)
    by_halves = fit_classifier(split, generator, blocks=2)
    assert score(by_halves, split.held_out).js < 0.003
    whole = fit_classifier(split, generator, base=by_halves)
    assert score(whole, split.held_out).js > 0.18
    # One that knows already has nothing to learn, and stays as it is.
    perfect = lambda rows: torch.where(rows[:, 0] == rows[:, 2], math.log(2.0), -30.0)  # noqa: E731
    further = fit_classifier(split, generator, base=perfect)
    assert score(further, split.held_out).js == pytest.approx(score(perfect, split.held_out).js, abs=0.003)
