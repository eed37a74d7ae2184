"""Draws are pure, evenly spread, and respect their mode; test_episode_server.py shows who gets which battles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.demonstrations import draw_episodes

seeds = st.integers(0, 2**63 - 1)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 100), seeds, st.integers(0, 10**6))
def test_concurrent_draws_are_the_same_for_all_agents(
    episodes: int, agents: int, k: int, seed: int, iteration: int
) -> None:
    ids = draw_episodes(episodes, agents, k, seed, iteration, "concurrent")
    assert ids.shape == (agents, k) and ids.dtype == np.int64
    assert (ids == ids[0]).all()
    counts = np.bincount(ids[0], minlength=episodes)
    assert len(counts) == episodes and counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(ids, draw_episodes(episodes, agents, k, seed, iteration, "concurrent"))


@given(st.integers(6, 60), st.integers(1, 6), st.integers(1, 100), seeds, st.integers(0, 10**6))
def test_non_concurrent_draws_share_no_episode(episodes: int, agents: int, k: int, seed: int, iteration: int) -> None:
    ids = draw_episodes(episodes, agents, k, seed, iteration, "non_concurrent")
    assert ids.shape == (agents, k)
    owners = [set(own.tolist()) for own in ids]
    assert sum(map(len, owners)) == len(set().union(*owners))
    for own in ids:
        counts = np.bincount(own)[np.unique(own)]
        assert counts.max() - counts.min() <= 1  # without replacement, then whole epochs
    assert ids.min() >= 0 and ids.max() < episodes


def test_every_episode_has_the_same_chance_at_every_agent() -> None:
    episodes, agents, k, iterations = 10, 2, 4, 3000
    for mode in ("concurrent", "non_concurrent"):
        drawn = np.stack([draw_episodes(episodes, agents, k, 0, i, mode) for i in range(iterations)])  # type: ignore[arg-type]
        for agent in range(agents):
            counts = np.bincount(drawn[:, agent].ravel(), minlength=episodes)
            expected = iterations * k / episodes
            assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_draws_differ_between_seeds_and_iterations() -> None:
    draws = {
        tuple(draw_episodes(100, 2, 10, seed, iteration, "concurrent")[0].tolist())
        for seed in range(10)
        for iteration in range(10)
    }
    assert len(draws) == 100


GOLDEN = (
    # (episodes, agents, k, seed, iteration, mode), ids
    ((10, 2, 4, 1, 3, "concurrent"), [[8, 7, 9, 4], [8, 7, 9, 4]]),
    ((10, 2, 4, 1, 3, "non_concurrent"), [[2, 8, 4, 7], [1, 5, 3, 6]]),
    (([10, 12], 2, 4, 1, 3, "concurrent"), [[8, 7, 9, 4], [8, 7, 9, 4]]),
    (([12, 10], 2, 4, 1, 3, "non_concurrent"), [[2, 8, 4, 7], [1, 5, 3, 6]]),
    (
        (1000, 5, 3, 2**63 - 1, 10**6, "concurrent"),
        [[784, 96, 186]] * 5,
    ),
    (
        (1000, 5, 3, 2**63 - 1, 10**6, "non_concurrent"),
        [[334, 140, 693], [471, 25, 229], [796, 967, 915], [319, 141, 235], [885, 467, 85]],
    ),
)
"""A resumed run, or one on another machine, must continue with the same episodes, which are pinned here."""


def test_the_draw_is_pinned() -> None:
    for arguments, ids in GOLDEN:
        assert draw_episodes(*arguments).tolist() == ids  # type: ignore[arg-type]


@pytest.mark.cli
def test_the_draw_is_the_same_in_another_process() -> None:
    code = "import json, sys; from dm2_ray.demonstrations import draw_episodes\n"
    code += "print(json.dumps([draw_episodes(*arguments).tolist() for arguments in json.loads(sys.argv[1])]))"
    asked = json.dumps([arguments for arguments, _ in GOLDEN])
    for hash_seed in ("1", "4711"):
        answer = subprocess.run(
            [sys.executable, "-c", code, asked],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(answer.stdout) == [ids for _, ids in GOLDEN]


@given(st.lists(st.integers(6, 40), min_size=2, max_size=6), st.integers(1, 50), seeds, st.integers(0, 10**6))
def test_independent_sets_are_drawn_from_like_the_smallest_of_them(
    episodes: list[int], k: int, seed: int, iteration: int
) -> None:
    agents = len(episodes)
    for mode in ("concurrent", "non_concurrent"):
        found = draw_episodes(episodes, agents, k, seed, iteration, mode)  # type: ignore[arg-type]
        assert (found < np.array(episodes)[:, None]).all()
        assert found.tolist() == draw_episodes(min(episodes), agents, k, seed, iteration, mode).tolist()  # type: ignore[arg-type]


def test_impossible_draws_are_refused() -> None:
    for arguments in ((0, 2, 4), (10, 0, 4), (10, 2, 0)):
        with pytest.raises(ValueError):
            draw_episodes(*arguments, 0, 0, "concurrent")
    with pytest.raises(ValueError, match="needs 3 episodes or more, got 2"):
        draw_episodes(2, 3, 4, 0, 0, "non_concurrent")
    with pytest.raises(ValueError, match="one joint set or 3 independent ones, got 2"):
        draw_episodes([9, 9], 3, 4, 0, 0, "concurrent")
