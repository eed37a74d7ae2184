"""The store of best episodes, compared with a sorted list; discounted returns, with numbers computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.demonstrations.best_episodes import BestEpisodes, discounted_returns

# Few different scores, so that there are ties.
batches = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=8)


def scored(agent: int, ids: list[int], scores: list[int]) -> BestEpisodes:
    """Every step's observation is (agent, episode id, step)."""
    lengths = np.array([1 + k % 3 for k in ids], np.int64)
    rows = [(agent, k, step) for k, length in zip(ids, lengths, strict=True) for step in range(length)]
    return BestEpisodes(
        agent_index=agent,
        observations=np.array(rows, np.float32),
        actions=np.array([step for *_, step in rows], np.int64),
        action_mask=np.ones((len(rows), 3), bool),
        alive=np.ones(len(rows), bool),
        episode_lengths=lengths,
        episode_ids=np.array(ids, np.int64),
        scores=np.array(scores, np.float64),
    )


def assert_equal(found: BestEpisodes, expected: BestEpisodes) -> None:
    left, right = found.to_arrays(), expected.to_arrays()
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


@given(batches, st.integers(1, 9), st.integers(0, 4))
def test_it_contains_what_a_sorted_list_would(scores: list[list[int]], capacity: int, agent: int) -> None:
    """Iteration by iteration, as in a run."""
    store: BestEpisodes | None = None
    everything: list[tuple[int, int]] = []
    next_id = 0
    for batch in scores:
        ids = list(range(next_id, next_id + len(batch)))
        next_id += len(batch)
        everything += zip(batch, ids, strict=True)
        before = store
        store = BestEpisodes.top_k([*([store] if store else []), scored(agent, ids, batch)], capacity)
        best = sorted(sorted(everything, reverse=True)[:capacity], key=lambda entry: entry[1])  # ties: the newer
        assert_equal(store, scored(agent, [k for _, k in best], [score for score, _ in best]))
        assert (store is before) == all(k < ids[0] for _, k in best)  # nothing is copied without need


@given(batches, st.integers(1, 9))
def test_neither_the_batches_of_battles_nor_the_agent_matter(scores: list[list[int]], capacity: int) -> None:
    starts = np.cumsum([0, *map(len, scores)])
    ids = [list(range(start, start + len(batch))) for start, batch in zip(starts, scores, strict=False)]
    for agent in (0, 1):
        parts = [scored(agent, own, batch) for own, batch in zip(ids, scores, strict=True)]
        at_once = BestEpisodes.top_k(parts, capacity)
        stepwise = parts[0]
        for part in parts[1:]:
            stepwise = BestEpisodes.top_k([BestEpisodes.top_k([stepwise], capacity), part], capacity)
        assert_equal(BestEpisodes.top_k([stepwise], capacity), at_once)
        assert at_once.agent_index == agent
        if agent == 0:
            of_agent_0 = at_once.episode_ids.tolist()
    assert at_once.episode_ids.tolist() == of_agent_0


def test_it_is_restored_from_arrays() -> None:
    store = scored(2, [3, 5, 2**40], [1, 0, 2])
    assert_equal(BestEpisodes.from_arrays(store.to_arrays()), store)
    arrays = store.to_arrays()
    del arrays["alive"], arrays["scores"]
    with pytest.raises(ValueError, match=r"missing arrays \['alive', 'scores'\], unknown arrays \[\]"):
        BestEpisodes.from_arrays(arrays)


@pytest.mark.parametrize(("ids", "scores"), [([1, 1], [0, 0]), ([2, 1], [0, 0]), ([1, 2], [0])])
def test_contradictory_arrays_are_refused(ids: list[int], scores: list[int]) -> None:
    with pytest.raises(ValueError):
        scored(0, ids, scores)


def test_episodes_of_different_agents_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="one agent"):
        BestEpisodes.top_k([scored(0, [0], [1]), scored(1, [1], [1])], 2)


def test_discounted_returns_by_hand() -> None:
    rewards = np.array([1, 2, 4, 10, 0, 8], np.float32)
    found = discounted_returns(rewards, np.array([3, 1, 2]), 0.5)
    assert found.tolist() == [1 + 2 * 0.5 + 4 * 0.25, 10.0, 0 + 8 * 0.5]
    assert discounted_returns(rewards, np.array([3, 1, 2]), 1.0).tolist() == [7.0, 10.0, 8.0]
    assert discounted_returns(rewards, np.array([3, 1, 2]), 0.0).tolist() == [1.0, 10.0, 0.0]


@given(
    st.lists(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30), min_size=1, max_size=8), st.floats(0, 1)
)
def test_discounted_returns_of_any_battles(battles: list[list[float]], gamma: float) -> None:
    flat: Any = np.array([reward for battle in battles for reward in battle], np.float32)
    found = discounted_returns(flat, np.array([len(battle) for battle in battles]), gamma)
    for value, battle in zip(found, battles, strict=True):
        expected = sum(reward * gamma**step for step, reward in enumerate(battle))
        assert value == pytest.approx(expected, abs=1e-9)
        backwards = 0.0
        for reward in reversed(battle):
            backwards = float(np.float32(reward)) + gamma * backwards
        assert value == backwards  # bit for bit: agents on different machines must rank alike
