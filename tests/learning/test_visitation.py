"""Which rows the discriminator sees after a battle's end, by hand for the three paddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import (
    Steps,
    VisitedRows,
    discriminator_features,
    discriminator_inputs,
    minibatch_rows,
)

OBSERVATIONS = np.array([[1, 2], [3, 4], [0, 0], [5, 6], [7, 8]], dtype=np.float32)
LENGTHS = np.array([3, 2])
ACTIONS = np.array([0, 1, 2, 2, 0])


def counted(visited: VisitedRows) -> dict[tuple[float, ...], int]:
    """How often each row occurs in the whole visitation."""
    distinct = UniqueRows(visited, torch.Generator())
    return {tuple(row.tolist()): int(count) for row, count in zip(distinct.rows, distinct.counts, strict=True)}


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


def with_actions(padding: str) -> VisitedRows:
    return discriminator_inputs(OBSERVATIONS, LENGTHS, padding, 4, kind="state_action", actions=ACTIONS, num_actions=3)


def with_successors(padding: str) -> VisitedRows:
    return discriminator_inputs(OBSERVATIONS, LENGTHS, padding, 4, kind="state_next_state")


def test_rows_of_state_and_action_by_hand():
    rows = [(1, 2, 1, 0, 0), (3, 4, 0, 1, 0), (0, 0, 0, 0, 1), (5, 6, 0, 0, 1), (7, 8, 1, 0, 0)]
    assert counted(with_actions("masked")) == dict.fromkeys(rows, 1)
    assert counted(with_actions("paper")) == {**dict.fromkeys(rows, 1), (0, 0, 0, 0, 0): 3}
    told = {(*row, 0): 1 for row in rows}
    assert counted(with_actions("absorbing")) == {**told, (0, 0, 0, 0, 0, 1): 3}


def test_rows_of_state_and_next_state_by_hand():
    # Battles of 3 and 2 steps; the last step of each leads into the padding state.
    pairs = [(1, 2, 3, 4), (3, 4, 0, 0), (0, 0, 0, 0), (5, 6, 7, 8), (7, 8, 0, 0)]
    assert counted(with_successors("masked")) == dict.fromkeys(pairs, 1)
    # The dead agent's last step, (0, 0) to nothing, looks like padding here.
    assert counted(with_successors("paper")) == {**dict.fromkeys(pairs, 1), (0, 0, 0, 0): 1 + 3}
    # Both states have their indicator: 3, 4 leads to death (0, 0), 7, 8 to the end (0, 1).
    assert counted(with_successors("absorbing")) == {
        (1, 2, 3, 4, 0, 0): 1,
        (3, 4, 0, 0, 0, 0): 1,
        (0, 0, 0, 0, 0, 1): 1,
        (5, 6, 7, 8, 0, 0): 1,
        (7, 8, 0, 0, 0, 1): 1,
        (0, 0, 0, 0, 1, 1): 3,
    }


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
@pytest.mark.parametrize("kind", ["state", "state_action", "state_next_state"])
def test_widths_are_as_announced(padding, kind):
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, padding, 4, kind=kind, actions=ACTIONS, num_actions=3)
    assert visited.rows.shape[1] == discriminator_features(2, padding, kind, 3)


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
def test_visitations_laid_together_count_every_row_once(padding):
    first = discriminator_inputs(OBSERVATIONS, LENGTHS, padding, horizon=4)
    second = discriminator_inputs(OBSERVATIONS[:1] + 10, np.array([1]), padding, horizon=4)
    together = VisitedRows.concatenate([first, second])
    expected = counted(first)
    for row, count in counted(second).items():
        expected[row] = expected.get(row, 0) + count
    assert counted(together) == expected
    assert (together.num_rows, together.num_episodes) == (first.num_rows + second.num_rows, 3)
    assert together.episode_lengths.tolist() == [3, 2, 1]
    assert VisitedRows.concatenate([first]) is first
    with pytest.raises(ValueError, match="nothing to concatenate"):
        VisitedRows.concatenate([])


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
def test_real_rows_come_first_in_flat_order(padding):
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, padding, horizon=3)
    np.testing.assert_array_equal(visited.rows[: visited.num_real, :2], OBSERVATIONS)
    assert visited.rows.shape[1] == discriminator_features(2, padding)


def test_no_padding_is_drawn_when_every_battle_reaches_the_horizon():
    visited = discriminator_inputs(OBSERVATIONS[:4], np.array([2, 2]), "absorbing", horizon=2)
    assert visited.has_padding_row and all(row[-1] == 0 for row in counted(visited))


def test_a_minibatch_has_as_many_rows_as_its_demonstrations_have_on_average():
    masked = discriminator_inputs(OBSERVATIONS, LENGTHS, "masked", horizon=4)
    assert minibatch_rows(masked, 64) == 160
    assert minibatch_rows(discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=4), 64) == 256


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="sum to 4, but there are 5"):
        discriminator_inputs(OBSERVATIONS, np.array([2, 2]), "masked", horizon=4)
    with pytest.raises(ValueError, match="3 steps is longer than the horizon of 2"):
        discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=2)
    for actions, message in (
        (None, "need the actions"),
        (ACTIONS[:3], r"actions must be \[5\], one for each observation, found \[3\]"),
        (ACTIONS + 1, r"actions must lie in 0 ... 2, found 1 ... 3"),
        (ACTIONS - 1, r"actions must lie in 0 ... 2, found -1 ... 1"),
    ):
        with pytest.raises(ValueError, match=message):
            discriminator_inputs(
                OBSERVATIONS, LENGTHS, "masked", 4, kind="state_action", actions=actions, num_actions=3
            )


def with_time(steps: Steps) -> torch.Tensor:
    return torch.cat([steps.observations, steps.times.unsqueeze(1).float()], dim=1)


def one_row_short(steps: Steps) -> torch.Tensor:
    return steps.observations[1:]


def test_a_function_of_ones_own_makes_the_rows() -> None:
    kind = f"{__name__}:with_time"
    visited = discriminator_inputs(OBSERVATIONS, LENGTHS, "absorbing", horizon=4, kind=kind)
    assert visited.rows.shape[1] == discriminator_features(2, "absorbing", kind) == 4
    times = np.concatenate([np.arange(length) for length in LENGTHS])
    np.testing.assert_array_equal(visited.rows[:-1, :2], OBSERVATIONS)
    np.testing.assert_array_equal(visited.rows[:-1, 2], times)
    assert visited.rows[-1].tolist() == [0.0, 0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match=r"one_row_short must return a tensor \[\d+, F\], one row per step; found"):
        discriminator_inputs(OBSERVATIONS, LENGTHS, "masked", horizon=4, kind=f"{__name__}:one_row_short")
