"""Progress of a run on the terminal: one line that updates itself, or plain lines if the output goes to a file."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dm2_ray.config.schema import StopSettings
from dm2_ray.terminal import StatusLine, format_duration

# The pace is averaged over this many iterations: few enough to follow longer battles, many enough not to jump.
_PACE_WINDOW = 10


class Progress:
    """Prints one line per iteration.

    It shows the iteration, env steps, env steps per second, win rate in training, discriminator accuracy, win rate of
    the evaluation if there was one, and time left. On a terminal, each line replaces the previous one, and only those
    of iterations with an evaluation stay.

    Args:
        stop: The run's limits, for the time left.
        first_env_steps: Env steps that a resumed run starts from.
        first_iteration: Iteration that a resumed run starts from.
        stream: Where to print; standard output by default.
        clock: A clock in seconds.
    """

    def __init__(
        self,
        stop: StopSettings,
        *,
        first_env_steps: int = 0,
        first_iteration: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self._line = StatusLine(sys.stdout if stream is None else stream, keep_last=True)
        self._clock = clock
        self._past = deque([(clock(), first_iteration, first_env_steps)], maxlen=_PACE_WINDOW + 1)

    def update(self, record: Mapping[str, Any]) -> None:
        """Shows the record of an iteration (as in metrics.jsonl)."""
        self._past.append((self._clock(), record["iteration"], record["env_steps"]))
        line = "  ".join(self._parts(record))
        self._line.show(line)
        if record.get("evaluation"):
            self._line.close()

    def note(self, line: str) -> None:
        """Prints a line that stays, above the one that updates itself."""
        self._line.note(line)

    def close(self) -> None:
        """Keeps the last line; further output starts on a new line."""
        self._line.close()

    def _parts(self, record: Mapping[str, Any]) -> list[str]:
        (then, iterations_then, env_steps_then), (now, iterations, env_steps) = self._past[0], self._past[-1]
        seconds = max(now - then, 1e-9)
        pace = (env_steps - env_steps_then) / seconds
        parts = [
            f"iteration {iterations}" + (f"/{self._stop.iterations}" if self._stop.iterations else ""),
            f"env steps {env_steps:,}" + (f"/{self._stop.env_steps:,}" if self._stop.env_steps else ""),
            f"{pace:,.0f}/s",
        ]
        if record.get("win_rate") is not None:
            parts.append(f"win {record['win_rate']:.2f}")
        if (accuracy := _discriminator_accuracy(record)) is not None:
            parts.append(f"D acc {accuracy:.2f}")
        if record.get("evaluation"):
            parts.append(f"greedy win {record['evaluation']['win_rate']:.2f}")
        left = []
        if self._stop.env_steps and pace > 0:
            left.append((self._stop.env_steps - env_steps) / pace)
        if self._stop.iterations and iterations > iterations_then:
            left.append((self._stop.iterations - iterations) * seconds / (iterations - iterations_then))
        if left:
            parts.append(f"ETA {format_duration(max(0.0, min(left)))}")
        return parts


def _discriminator_accuracy(record: Mapping[str, Any]) -> float | None:
    """Share of steps that the discriminators classify correctly: the mean over both sides and all discriminators."""
    sides = [
        agent[side]
        for agent in record.get("agents", {}).values()
        for side in ("discriminator_expert_accuracy", "discriminator_agent_accuracy")
        if agent.get(side) is not None
    ]
    return sum(sides) / len(sides) if sides else None
