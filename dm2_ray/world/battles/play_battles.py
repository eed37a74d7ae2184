"""The loop that plays battles: rollouts, recordings, evaluations of scripts and replays all use this one.

Shapes: B battles side by side, N agents.

    running?  ->  policy.act  ->  before_step  ->  battles.step  ->  policy.reset_finished  ->  yield PlayedStep
       ^                                                                                              |
       └──────────────────────────────────────────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.backend import BattleBackend


class TeamPolicy(Protocol):
    """Chooses the joint actions of a team: a scripted team, or the policies of a checkpoint."""

    def reset_states(self, battles: BattleBackend) -> None:
        """All battles start: forget everything."""

    def act(self, battles: BattleBackend) -> NDArray[np.int64]:
        """Available joint actions [B, N] for the current observations."""

    def reset_finished(self, finished: NDArray[np.bool_]) -> None:
        """New battles have started in the columns where `finished` [B] is True: forget the old ones."""


class PlayedStep(NamedTuple):
    """One env step of all running battles; rewards and outcomes are still those of the backend's last step."""

    actions: NDArray[np.int64]
    """[B, N] the joint actions."""
    running: NDArray[np.bool_]
    """[B] columns in which the step was played."""
    finished: NDArray[np.bool_]
    """[B] columns whose battle ended with this step, by its outcome or by the time limit."""
    dropped: NDArray[np.bool_]
    """[B] columns whose battle was lost with its game and does not count; it is played again under its number."""


def play_battles(
    battles: BattleBackend,
    policy: TeamPolicy,
    *,
    running: Callable[[], NDArray[np.bool_]],
    before_step: Callable[[NDArray[np.int64]], None] | None = None,
) -> Iterator[PlayedStep]:
    """Plays env steps until no column is running, and yields after each.

    The caller has reset the battles and the policy. Columns that are not running are not stepped.

    Args:
        battles: The battles, just reset.
        policy: Chooses the actions; its states of finished and dropped battles are reset before the step is yielded.
        running: Returns the columns [B] to step next; it is called before every step.
        before_step: Receives the joint actions [B, N] while the battles still show what the agents saw.
    """
    active = running()
    while active.any():
        actions = policy.act(battles)
        if before_step is not None:
            before_step(actions)
        battles.step(actions, active)
        finished = (battles.terminated | battles.truncated) & active
        dropped = battles.dropped & active
        replaced = finished | dropped
        if np.count_nonzero(replaced):  # several times faster than any(), at every step
            policy.reset_finished(replaced)
        yield PlayedStep(actions, active, finished, dropped)
        active = running()
