"""Chooses the checkpoint of a run that demonstrates: the one that wins a given share of its battles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dm2_ray.checkpoints import Checkpoint, CheckpointError
from dm2_ray.runs.evaluation import TeamResult, evaluate_checkpoint

MEASURED_EPISODES = 256
"""Battles per checkpoint. The 95 % interval of a win rate of 0.3 is then plus or minus 0.06."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCheckpoint:
    """A checkpoint and the measured results of its team."""

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
    """Measures all checkpoints and returns the one whose win rate is closest to the target; of several, the earliest.

    Args:
        checkpoints: The checkpoints to choose from.
        win_rate: The target.
        greedy: Whether the teams take their most probable actions; choose the same as for the recording.
        seed: Seed of the battles.
        episodes: Battles per checkpoint.
        note: Called with a line about each checkpoint.

    Raises:
        CheckpointError: There are no checkpoints, or one does not match its own configuration.
    """
    measured = measure_checkpoints(checkpoints, greedy=greedy, seed=seed, episodes=episodes, note=note)
    return closest_measured(measured, win_rate)


def closest_measured(measured: Sequence[MeasuredCheckpoint], win_rate: float) -> MeasuredCheckpoint:
    """The checkpoint whose win rate is closest to the target; of several, the first."""
    return min(measured, key=lambda one: abs(one.result.win_rate - win_rate))


def measure_checkpoints(
    checkpoints: Sequence[Checkpoint],
    *,
    greedy: bool,
    seed: int,
    episodes: int = MEASURED_EPISODES,
    note: Callable[[str], None] | None = None,
) -> list[MeasuredCheckpoint]:
    """Measures all checkpoints, in their order; arguments and errors as of `closest_to_win_rate`."""
    if not checkpoints:
        raise CheckpointError("there is no intact checkpoint to choose from")
    measured = []
    for checkpoint in checkpoints:
        result = evaluate_checkpoint(checkpoint, episodes=episodes, seed=seed, greedy=greedy)
        measured.append(MeasuredCheckpoint(checkpoint=checkpoint, result=result))
        if note is not None:
            note(str(measured[-1]))
    return measured
