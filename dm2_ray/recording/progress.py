"""Progress of a recording at the terminal: a line that updates itself, or plain lines in a file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from dm2_ray.runs.training_progress import duration

_BAR_CELLS = 20
TERMINAL_EVERY_S = 0.2
PLAIN_EVERY_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingState:
    """How far a recording has come."""

    episodes: int
    """Kept."""
    wanted: int
    played: int
    """Battles, kept or not."""
    won: int
    """Of those played."""
    env_steps: int
    """Of those played."""


class RecordingProgress:
    """Shows episodes, env steps per second, win rate of all battles so far, share of battles kept, time left.

    Args:
        name: of what is recorded.
        stream: where to print; standard error by default, standard output is for results.
        clock: seconds from any start.
    """

    def __init__(self, name: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._line_is_open = False
        self._first: tuple[float, RecordingState] | None = None
        self._last_shown = clock()

    def update(self, state: RecordingState) -> None:
        """Shows a state, now and then; the first one is where a resumed recording goes on from."""
        now = self._clock()
        if self._first is None:
            self._first = now, state
            if state.played:
                self.note(f"{self._name}: going on from {state.episodes:,} of {state.wanted:,} episodes")
            return
        every_s = TERMINAL_EVERY_S if self._is_terminal else PLAIN_EVERY_S
        if now - self._last_shown < every_s:
            return
        self._last_shown = now
        line = "  ".join([self._name, *self._parts(now, state)])
        if not self._is_terminal:
            self._write(line + "\n")
            return
        width = shutil.get_terminal_size().columns - 1
        # Return, line, and erase what is left of the line before.
        self._write(f"\r{line[:width]}\x1b[K")
        self._line_is_open = True

    def note(self, line: str) -> None:
        """Prints a line that stays, above the one that updates itself."""
        self.close()
        self._write(line + "\n")

    def close(self) -> None:
        """Wipes the line that updates itself."""
        if self._line_is_open:
            self._write("\r\x1b[K")
            self._line_is_open = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _parts(self, now: float, state: RecordingState) -> list[str]:
        assert self._first is not None
        then, first = self._first
        seconds = max(now - then, 1e-9)
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
            parts.append(f"ETA {duration(max(0, state.wanted - state.episodes) * seconds / new)}")
        return [part for part in parts if part]
