"""Distinct rows and counts against the rows they stand for."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import Padding, VisitedRows, discriminator_inputs

HORIZON = 9


def visitation(seed: int, episodes: int, kinds: int, padding: Padding) -> VisitedRows:
    """Battles that see `kinds` different observations; kind 0 is all zeros, like a dead agent's."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, HORIZON + 1, episodes)
    seen = random.integers(0, kinds, int(lengths.sum())).astype(np.float32)
    observations = np.stack([seen, seen * 0.5], 1)
    return discriminator_inputs(observations, lengths, padding, HORIZON)


def whole(visited: VisitedRows) -> torch.Tensor:
    """[R, F]: every row, padding rows as often as they count."""
    padding = visited.rows[visited.num_real :]
    return torch.cat([visited.rows[: visited.num_real], padding.repeat(visited.num_rows - visited.num_real, 1)])


worlds = {
    "seed": st.integers(0, 2**32 - 1),
    "episodes": st.integers(1, 12),
    "kinds": st.integers(1, 40),
    "padding": st.sampled_from(["masked", "absorbing", "paper"]),
}


@settings(max_examples=60, deadline=None)
@given(**worlds)
def test_rows_and_counts_are_the_visitation(seed: int, episodes: int, kinds: int, padding: Padding) -> None:
    visited = visitation(seed, episodes, kinds, padding)
    distinct = UniqueRows(visited, torch.Generator())
    rows, counts = torch.unique(whole(visited), dim=0, return_counts=True)
    found = {tuple(row.tolist()): int(count) for row, count in zip(distinct.rows, distinct.counts, strict=True)}
    assert found == {tuple(row.tolist()): int(count) for row, count in zip(rows, counts, strict=True)}
    assert int(distinct.counts.sum()) == visited.num_rows == distinct.num_rows


@settings(max_examples=60, deadline=None)
@given(**worlds, share=st.floats(0.05, 1.5))
def test_a_pass_deals_rare_rows_once_and_frequent_ones_always(
    seed: int, episodes: int, kinds: int, padding: Padding, share: float
) -> None:
    visited = visitation(seed, episodes, kinds, padding)
    distinct = UniqueRows(visited, torch.Generator().manual_seed(seed))
    size = max(1, round(share * visited.num_rows))
    count = {tuple(row.tolist()): int(n) for row, n in zip(distinct.rows, distinct.counts, strict=True)}
    frequent = {row for row, n in count.items() if n * size >= visited.num_rows}
    minibatches = [distinct.minibatch(size)]
    rare = len(count) - len(frequent)
    dealt = len(minibatches[0][0]) - len(frequent)
    minibatches += [distinct.minibatch(size) for _ in range(rare // dealt - 1 if dealt else 2)]
    seen: list[tuple[float, ...]] = []
    for rows, weights in minibatches:
        assert torch.isclose(weights.sum(), torch.tensor(1.0))
        found = [tuple(row.tolist()) for row in rows]
        assert frequent <= set(found) <= set(count)
        seen += [row for row in found if row not in frequent]
        # Weights are in proportion to counts; a frequent row gets its share of this minibatch.
        proportion = [count[row] * (min(1.0, size / visited.num_rows) if row in frequent else 1.0) for row in found]
        torch.testing.assert_close(weights, torch.tensor(proportion) / sum(proportion))
    assert len(seen) == len(set(seen))


def test_minibatches_have_the_visitations_mean() -> None:
    visited = visitation(3, 60, 40, "absorbing")
    distinct = UniqueRows(visited, torch.Generator().manual_seed(0))
    means = []
    for _ in range(2000):
        rows, weights = distinct.minibatch(visited.num_rows // 4)
        means.append((rows * weights.unsqueeze(1)).sum(0))
    error = torch.stack(means).mean(0) - whole(visited).mean(0)
    spread = torch.stack(means).std(0) / 2000**0.5
    assert (error.abs() < 4 * spread + 5e-3 * whole(visited).std(0)).all()


def test_single_draws_follow_the_counts() -> None:
    visited = visitation(4, 40, 3, "absorbing")
    distinct = UniqueRows(visited, torch.Generator().manual_seed(0))
    drawn = distinct.draw(40_000)
    for row, count in zip(distinct.rows, distinct.counts, strict=True):
        expected = float(count) / visited.num_rows
        found = float((drawn == row).all(1).float().mean())
        assert abs(found - expected) < 4 * (expected * (1 - expected) / 40_000) ** 0.5
