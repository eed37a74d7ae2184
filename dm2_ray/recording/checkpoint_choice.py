"""Which checkpoint of a run is to demonstrate: the one that wins a wanted share of its battles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dm2_ray.checkpoints import Checkpoint, CheckpointError
from dm2_ray.runs.evaluation import TeamResult, evaluate_checkpoint

MEASURED_EPISODES = 256
"""Battles per checkpoint: a win rate of 0.3 is then known to within 0.06, nineteen times of twenty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCheckpoint:
    """A checkpoint and how its team played when it was measured."""

    checkpoint: Checkpoint
    result: TeamResult

    def __str__(self) -> str:
        low, high = self.result.win_rate_interval
        return (
            f"{self.checkpoint.path.name}  {self.checkpoint.env_steps:>10,} env steps  "
            f"win rate {self.result.win_rate:.3f} [{low:.3f}, {high:.3f}]"
        )


def closest_to_win_rate(
    checkpoints: Sequence[Checkpoint],
    win_rate: float,
    *,
    greedy: bool,
    seed: int,
    episodes: int = MEASURED_EPISODES,
    note: Callable[[str], None] | None = None,
) -> MeasuredCheckpoint:
    """Measures all checkpoints and returns the one whose win rate is nearest to the wanted one, the earliest of equals.

    Args:
        checkpoints: To choose among.
        win_rate: Wanted.
        greedy: How the teams are to play: as they will when they demonstrate.
        seed: Of the battles.
        episodes: Battles per checkpoint.
        note: Told a line about each.

    Raises:
        CheckpointError: There is none to choose from, or one does not fit its own configuration.
    """
    if not checkpoints:
        raise CheckpointError("there is no intact checkpoint to choose from")
    measured = []
    for checkpoint in checkpoints:
        result = evaluate_checkpoint(checkpoint, episodes=episodes, seed=seed, greedy=greedy)
        measured.append(MeasuredCheckpoint(checkpoint=checkpoint, result=result))
        if note is not None:
            note(str(measured[-1]))
    return min(measured, key=lambda one: abs(one.result.win_rate - win_rate))
