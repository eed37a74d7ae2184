"""Which rows the discriminator sees after a battle's end, by hand for the three paddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.learning.visitation import discriminator_features, discriminator_inputs, minibatch_rows, sample_rows

OBSERVATIONS = np.array([[1, 2], [3, 4], [0, 0], [5, 6], [7, 8]], dtype=np.float32)
LENGTHS = np.array([3, 2])


def counted(visited, draws: int = 1) -> dict[tuple[float, ...], int]:
    """How often each row occurs in draws of the whole visitation."""
    generator = torch.Generator().manual_seed(0)
    counts: dict[tuple[float, ...], int] = {}
    for _ in range(draws):
        for row in sample_rows(visited, visited.num_rows, generator).tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    return counts


def test_masked_sees_the_real_steps_and_nothing_else():
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, "masked", horizon=4)
    assert counted(visited) == {(1, 2): 1, (3, 4): 1, (0, 0): 1, (5, 6): 1, (7, 8): 1}
    assert not visited.has_padding_row


def test_absorbing_fills_up_to_the_horizon_and_tells_over_from_dead():
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=4)
    # 4 - 3 and 4 - 2 absorbing rows; the dead agent's zeros keep the indicator 0.
    assert counted(visited) == {(1, 2, 0): 1, (3, 4, 0): 1, (0, 0, 0): 1, (5, 6, 0): 1, (7, 8, 0): 1, (0, 0, 1): 3}


def test_paper_fills_up_with_zeros_that_look_like_death():
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, "paper", horizon=4)
    assert counted(visited) == {(1, 2): 1, (3, 4): 1, (0, 0): 1 + 3, (5, 6): 1, (7, 8): 1}


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
def test_real_rows_come_first_in_flat_order(padding):
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, padding, horizon=3)
    np.testing.assert_array_equal(visited.rows[: visited.num_real, :2], OBSERVATIONS)
    assert visited.rows.shape[1] == discriminator_features(2, padding)


def test_no_padding_is_drawn_when_every_battle_reaches_the_horizon():
    visited = discriminator_inputs(OBSERVATIONS[:4], np.array([2, 2]), "absorbing", horizon=2)
    assert visited.has_padding_row and all(row[-1] == 0 for row in counted(visited, draws=20))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6), size=st.integers(1, 60), seed=st.integers(0, 99))
def test_draws_are_without_replacement_and_never_invent_rows(lengths, size, seed):
    steps = sum(lengths)
    observations = np.arange(1.0, steps + 1, dtype=np.float32)[:, None]
    visited = discriminator_inputs(observations, np.array(lengths), "paper", horizon=6)
    drawn = sample_rows(visited, size, torch.Generator().manual_seed(seed)).squeeze(-1).tolist()
    assert len(drawn) == min(size, 6 * len(lengths))
    real = [x for x in drawn if x != 0]
    assert len(real) == len(set(real)) and set(real) <= set(range(1, steps + 1))
    assert len(drawn) - len(real) <= 6 * len(lengths) - steps


def test_draws_are_uniform_over_all_rows_padding_included():
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=5)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([sample_rows(visited, 4, generator) for _ in range(2000)])
    assert (draws[:, 2] == 1).float().mean().item() == pytest.approx(5 / 10, abs=0.02)
    assert (draws[:, 0] == 7).float().mean().item() == pytest.approx(1 / 10, abs=0.02)


def test_a_minibatch_has_as_many_rows_as_its_demonstrations_have_on_average():
    masked = discriminator_inputs(OBSERVATIONS, LENGTHS, "masked", horizon=4)
    assert minibatch_rows(masked, 64) == 160
    assert minibatch_rows(discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=4), 64) == 256


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="sum to 4, but there are 5"):
        discriminator_inputs(OBSERVATIONS, np.array([2, 2]), "masked", horizon=4)
    with pytest.raises(ValueError, match="3 steps is longer than the horizon of 2"):
        discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=2)
