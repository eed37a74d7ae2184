"""Which agent gets which joint episodes: a pure function of (set, seed, iteration, mode).

Every process that calls it gets the same answer, so agents on different machines agree on the joint episodes of an
iteration without communicating. The random streams are Philox counters seeded through SeedSequence, both of which numpy
keeps stable across versions (NEP 19), and only raw 64-bit words are used.

    concurrent       all agents get the same episode ids
    non_concurrent   no episode id goes to two agents in one iteration

    joint            one set, of one team: agent i gets its slice of that team's episodes
    independent      N sets, of N separate teams: agent i gets slice i of the i-th team's episodes

Wang et al. 2023 (arXiv 2206.00233) compare the four combinations in their ablation of demonstrations. Equal ids in sets
of different teams are different battles: there "concurrent" only means that the ids are equal, as in their experiment.

Shapes: E episodes of a set, N agents, k episodes per draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

# Separates these streams from all other uses of the experiment's seed.
_STREAM = 0x64656D6F


def draw_episodes(
    num_episodes: int | Sequence[int],
    num_agents: int,
    episodes_per_draw: int,
    seed: int,
    iteration: int,
    mode: Literal["concurrent", "non_concurrent"],
) -> npt.NDArray[np.int64]:
    """Draws the episode ids of every agent in one iteration, [N, k].

    An agent draws without replacement as long as there are episodes. If k is larger than the number of episodes it may
    draw from, it gets each of them equally often, plus or minus one. In mode non_concurrent a random split in each
    iteration gives every agent E // N episodes to draw from.

    Args:
        num_episodes: E of the joint team's set, or a list with the E of each of the N independent teams' sets; ids are
            then below the smallest E, so that every set has them.
        num_agents: N.
        episodes_per_draw: k.
        seed: The experiment's seed.
        iteration: Number of the draw.
        mode: Whether agents get the same or different ids; see the head of this file.

    Raises:
        ValueError: There are no episodes, there are fewer episodes than agents in mode non_concurrent, or the number of
            sets is neither one nor N.
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
    # Sorting by random words: equal words are too rare to bias the result, and a stable sort treats them the same
    # everywhere.
    return episodes[np.argsort(stream.random_raw(len(episodes)), kind="stable")]
