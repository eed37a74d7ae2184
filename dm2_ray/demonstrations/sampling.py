"""Who gets which joint episodes: a pure function of (set, seed, iteration, mode).

Whoever calls it, wherever and how often, gets the same answer, so agents far apart agree on the joint episodes of an
iteration without talking. The streams are Philox counters seeded through SeedSequence, both of which numpy keeps
stable across versions (NEP 19), and only raw 64-bit words are used.

    concurrent       all agents get the same episode ids
    non_concurrent   no episode id goes to two agents in one iteration

    joint            one set, of one team: agent i gets its slice of that team's episodes
    independent      N sets, of N teams that never met: agent i gets slice i of the i-th team's episodes

Wang et al. 2023 (arXiv 2206.00233) compare the four combinations in their ablation of demonstrations. Equal ids in sets
of different teams are different battles: there "concurrent" is only a way of drawing, as in their experiment.

Shapes: E episodes of a set, N agents, k episodes per draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

# Keeps these streams apart from any other use of the experiment's seed.
_STREAM = 0x64656D6F


def draw_episodes(
    num_episodes: int | Sequence[int],
    num_agents: int,
    episodes_per_draw: int,
    seed: int,
    iteration: int,
    mode: Literal["concurrent", "non_concurrent"],
) -> npt.NDArray[np.int64]:
    """Episode ids of every agent in one iteration, [N, k].

    An agent draws without replacement as long as there are episodes; where k is larger than what it may draw from,
    it gets every episode of that equally often, but for a remainder. In mode non_concurrent an iteration's random
    split gives each agent E // N episodes to draw from.

    Args:
        num_episodes: E of the joint team's set, or of each independent team's set, N of them; then ids stay below the
            smallest E, so that every set has them.
        num_agents: N.
        episodes_per_draw: k.
        seed, iteration: of the draw.
        mode: see the head of this file.

    Raises:
        ValueError: no episodes, fewer episodes than agents in mode non_concurrent, or neither one set nor N of them.
    """
    if not isinstance(num_episodes, int):
        if len(num_episodes) not in (1, num_agents):
            raise ValueError(f"need one joint set or {num_agents} independent ones, got {len(num_episodes)}")
        num_episodes = min(num_episodes)
    for name, value in (("agents", num_agents), ("episodes per draw", episodes_per_draw)):
        if value < 1:
            raise ValueError(f"need at least 1 {name}, got {value}")
    needed = num_agents if mode == "non_concurrent" else 1
    if num_episodes < needed:
        raise ValueError(f"sampling {mode} for {num_agents} agents needs {needed} episodes or more, got {num_episodes}")
    stream = np.random.Philox(np.random.SeedSequence([_STREAM, seed, iteration]))
    if mode == "concurrent":
        drawn = _draw(np.arange(num_episodes), episodes_per_draw, stream)
        return np.tile(drawn, (num_agents, 1))
    share = num_episodes // num_agents
    split = _shuffled(np.arange(num_episodes), stream)[: num_agents * share].reshape(num_agents, share)
    return np.stack([_draw(own, episodes_per_draw, stream) for own in split])


def _draw(episodes: npt.NDArray[np.int64], count: int, stream: np.random.Philox) -> npt.NDArray[np.int64]:
    epochs = -(-count // len(episodes))
    return np.concatenate([_shuffled(episodes, stream) for _ in range(epochs)])[:count]


def _shuffled(episodes: npt.NDArray[np.int64], stream: np.random.Philox) -> npt.NDArray[np.int64]:
    # Sorting by random words: equal words are too rare to bias anything, and a stable sort decides them alike.
    return episodes[np.argsort(stream.random_raw(len(episodes)), kind="stable")]
