"""What the discriminator remembers of earlier iterations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs
from dm2_ray.learning.visitation_buffer import VisitationBuffer

HORIZON = 5


def visitation(number: int, lengths: list[int], padding: str = "absorbing") -> VisitedRows:
    """One feature that names the iteration."""
    observations = np.full((sum(lengths), 1), number, np.float32)
    return discriminator_inputs(observations, np.array(lengths), padding, HORIZON)


def counted(visited: VisitedRows) -> Counter:
    distinct = UniqueRows(visited, torch.Generator())
    return Counter({tuple(row.tolist()): int(n) for row, n in zip(distinct.rows, distinct.counts, strict=True)})


def test_the_last_iterations_and_the_present_one_weigh_the_same_per_row():
    replay = VisitationBuffer(2)
    parts = [visitation(1, [5, 5]), visitation(2, [2]), visitation(3, [1, 4]), visitation(4, [3])]
    for part in parts[:3]:
        replay.append(part)
    together = replay.with_current(parts[3])
    assert counted(together) == {(2, 0): 2, (3, 0): 5, (4, 0): 3, (0, 1): 3 + 4 + 1 + 2}
    assert (together.num_rows, together.num_episodes) == (4 * HORIZON, 4)


def test_without_iterations_nothing_is_kept():
    replay = VisitationBuffer(0)
    replay.append(visitation(1, [2]))
    present = visitation(2, [3])
    assert replay.with_current(present) is present
    assert replay.to_arrays() == {}


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
def test_the_state_draws_the_same_rows_among_other_arrays(padding):
    original, restored = VisitationBuffer(3), VisitationBuffer(3)
    original.append(visitation(1, [5, 1], padding))
    original.append(visitation(2, [2], padding))
    restored.append(visitation(9, [4], padding))
    restored.load_arrays({**original.to_arrays(), "something_else": np.zeros(3)})
    present = visitation(3, [3], padding)
    one, two = (
        UniqueRows(replay.with_current(present), torch.Generator().manual_seed(5)).draw(20)
        for replay in (original, restored)
    )
    assert torch.equal(one, two)
    assert all(np.array_equal(a, restored.to_arrays()[name]) for name, a in original.to_arrays().items())
    restored.load_arrays({})
    assert restored.with_current(present) is present


def test_a_smaller_memory_keeps_the_newest_of_a_state():
    original, smaller = VisitationBuffer(3), VisitationBuffer(1)
    for number in (1, 2, 3):
        original.append(visitation(number, [2], "masked"))
    smaller.load_arrays(original.to_arrays())
    assert counted(smaller.with_current(visitation(4, [1], "masked"))) == {(3,): 2, (4,): 1}
