"""Progress of a recording: a line that updates itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from dm2_ray.terminal import StatusLine, format_duration

_BAR_CELLS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingState:
    """How far a recording is.

    Attributes:
        episodes: Episodes kept.
        wanted: Episodes that the set will have.
        played: Battles played, whether kept or not.
        won: How many of the battles played were won.
        env_steps: Env steps of the battles played.
    """

    episodes: int
    wanted: int
    played: int
    won: int
    env_steps: int


class RecordingProgress:
    """Shows episodes, env steps per second, win rate of all battles so far, share of battles kept, and time left.

    Args:
        name: Name of the demonstration set.
        stream: Where to print; by default standard error, because standard output is for results.
        clock: Seconds from any start.
    """

    def __init__(self, name: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._line = StatusLine(stream or sys.stderr, terminal_every_s=0.2, plain_every_s=20.0, clock=clock)
        self._first: tuple[float, RecordingState] | None = None

    def update(self, state: RecordingState) -> None:
        """Shows a state if an update is due. The first state is where the recording starts or resumes."""
        if self._first is None:
            self._first = self._clock(), state
            if state.played:
                self.note(f"{self._name}: continuing from {state.episodes:,} of {state.wanted:,} episodes")
        elif self._line.is_due():
            self._line.show("  ".join([self._name, *self._parts(state)]))

    def note(self, line: str) -> None:
        """Prints a line that stays, above the one that updates itself."""
        self._line.note(line)

    def close(self) -> None:
        """Removes the line that updates itself."""
        self._line.close()

    def _parts(self, state: RecordingState) -> list[str]:
        assert self._first is not None
        then, first = self._first
        seconds = max(self._clock() - then, 1e-9)
        share = min(1.0, state.episodes / state.wanted)
        full = int(share * _BAR_CELLS)
        parts = [
            f"[{'#' * full}{'.' * (_BAR_CELLS - full)}] {state.episodes:,}/{state.wanted:,} episodes",
            f"{(state.env_steps - first.env_steps) / seconds:,.0f} env steps/s",
            f"win {state.won / state.played:.2f}" if state.played else "",
        ]
        if state.episodes < min(state.played, state.wanted):
            parts.append(f"kept {state.episodes / state.played:.3f} of {state.played:,} battles")
        new = state.episodes - first.episodes
        if new > 0:
            parts.append(f"ETA {format_duration(max(0, state.wanted - state.episodes) * seconds / new)}")
        return [part for part in parts if part]
