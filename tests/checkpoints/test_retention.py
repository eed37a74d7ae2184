"""Which checkpoints are kept."""

from pathlib import Path

import pytest

from dm2_ray.checkpoints import Checkpoint
from dm2_ray.checkpoints.retention import prunable_checkpoints


def checkpoints(*win_rates: float | None) -> list[Checkpoint]:
    """Checkpoints of iterations 1, 2, … with these win rates."""
    return [
        Checkpoint(
            path=Path(f"iteration_{iteration:06d}"), iteration=iteration, env_steps=0, episodes=0, map="3m",
            variant="dm2", num_agents=3, obs_size=1, num_actions=1, win_rate=win_rate, sha256={},
        )
        for iteration, win_rate in enumerate(win_rates, start=1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("win_rates", "keep", "keep_best", "kept"),
    [
        ([None, None, None], 2, 1, {2, 3}),
        ([0.1, 0.9, 0.2, 0.3], 1, 1, {2, 4}),
        ([0.1, 0.9, 0.2, 0.3], 1, 0, {4}),
        ([0.5, 0.5, 0.5, 0.5], 1, 2, {1, 2, 4}),  # ties: the earlier ones
        ([0.1, None, 0.2, 0.9], 2, 2, {3, 4}),  # the best are among the newest
        ([0.0, None, None], 1, 1, {1, 3}),  # a win rate of 0 is an evaluation, too
        ([0.1, 0.2], 5, 5, {1, 2}),
        ([0.9, 0.2, 0.3], 0, 1, {1, 2, 3}),  # 0 keeps all
    ],
)
def test_the_newest_and_the_best_are_kept(
    win_rates: list[float | None], keep: int, keep_best: int, kept: set[int]
) -> None:
    found = checkpoints(*win_rates)
    prunable = {entry.iteration for entry in prunable_checkpoints(found, keep=keep, keep_best=keep_best)}
    assert {entry.iteration for entry in found} - prunable == kept
