"""Progress of a whole experiment in the terminal: steps that started or ended, and one line about what is running."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from dm2_ray.experiments.step_state import StepState, latest_records
from dm2_ray.experiments.steps import Step, StepPlan
from dm2_ray.terminal import StatusLine, format_duration

PATIENCE_S = 120.0
PATIENCE_SHARE = 0.02
"""When to estimate the time left: after so many seconds, or after this share of the env steps. Before that, the seconds
that processes take to start would count too much."""


class PipelineProgress:
    """Prints what happens to the steps of a plan.

    On a terminal, the line about what is running replaces the one before it.

    Args:
        labels: What steps are called in the line about what is running; others are called by their names.
        plain_every_s: Minimum time between two such lines where they do not replace each other: in a file or pipe.
        stream: Where to print, standard output by default.
        clock: Seconds from any start.
    """

    def __init__(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        plain_every_s: float = 60.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = labels or {}
        self._clock = clock
        self._line = StatusLine(stream or sys.stdout, terminal_every_s=2.0, plain_every_s=plain_every_s, clock=clock)
        self._env_steps: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._done = 0
        self._total = 0

    def start(self, plan: StepPlan, states: Mapping[str, StepState]) -> None:
        """Prints what the plan consists of and how much of it is finished."""
        self._total = len(plan.steps)
        self._done = sum(state.status == "finished" for state in states.values())
        for name, step in plan.steps.items():
            if step.experiment is not None and step.experiment.stop.env_steps is not None:
                self._limits[name] = step.experiment.stop.env_steps
                self._env_steps[name] = states[name].env_steps
        self._started = self._clock()
        self._first_env_steps = self._env_steps_done()
        kinds = Counter(step.kind for step in plan.steps.values())
        teams = sum(len(step.teams) for step in plan.steps.values())
        parts = [f"{_count(kinds['train'], 'run')} of {sum(self._limits.values()):,} env steps in total"]
        parts += [_count(kinds["record"], "set")] if kinds["record"] else []
        parts += [_count(teams, "packed team")] if teams else []
        finished = f"; {self._done} already finished" if self._done else ""
        self.note(f"{plan.title}: {' and '.join(parts)} on {plan.maps}{finished}")

    def update(self, running: Mapping[str, Step]) -> None:
        """Shows what is running, at most every few seconds."""
        if not running or not self._line.is_due():
            return
        parts = [self._part(name, step) for name, step in running.items()]
        self._line.show(f"[{self._done}/{self._total}] " + " | ".join(parts) + self._time_left())

    def finished(self, step: Step, state: StepState) -> None:
        """Prints that a step is finished."""
        self._done += 1
        if step.name in self._limits:
            self._env_steps[step.name] = self._limits[step.name]
        what = f"{state.env_steps:,} env steps"
        if step.recorded is not None:
            what = f"{step.recorded.episodes} joint episodes, win rate {state.win_rate:.2f}"
        elif step.kind == "pack":
            what = ", ".join(f"{name} wins {rate or 0.0:.2f}" for name, rate in state.teams.items())
        elif state.greedy_win_rate is not None:
            what += f", greedy win rate {state.greedy_win_rate:.2f}"
        self._line.close()
        self.note(f"[{self._done}/{self._total}] {step.name}: {what}{self._time_left()}")

    def failed(self, step: Step, code: int, tail: Sequence[str], log: Path) -> None:
        """Prints that a step has failed; the others continue."""
        self._line.close()
        self.note(f"{step.name} FAILED (exit code {code}); the end of {log}:")
        for line in tail:
            self.note(f"    {line}")

    def note(self, line: str) -> None:
        """Prints a line that stays."""
        self._line.note(line)

    def close(self) -> None:
        """Removes the line about what is running."""
        self._line.close()

    def _part(self, name: str, step: Step) -> str:
        part = self._labels.get(name, name)
        records = list(latest_records(step.path / "metrics.jsonl")) if step.kind == "train" else []
        if not records:
            return f"{part} starting" if step.kind == "train" else part
        env_steps = int(records[0]["env_steps"])
        part += f" {_short(env_steps)}"
        if name in self._limits:
            self._env_steps[name] = min(env_steps, self._limits[name])
            part += f"/{_short(self._limits[name])}"
        evaluation = next((record["evaluation"] for record in records if "evaluation" in record), None)
        if evaluation is not None:
            return f"{part} greedy {evaluation['win_rate']:.2f}"
        win_rate = records[0].get("win_rate")
        return part + (f" win {win_rate:.2f}" if isinstance(win_rate, float) else "")

    def _time_left(self) -> str:
        """Estimate from the env steps per second since this start; empty while it would be far too high."""
        done, elapsed = self._env_steps_done() - self._first_env_steps, self._clock() - self._started
        left = sum(self._limits.values()) - self._env_steps_done()
        if done <= 0 or left <= 0 or (elapsed < PATIENCE_S and done < left * PATIENCE_SHARE):
            return ""
        return f"  ETA {format_duration(left * elapsed / done)}"

    def _env_steps_done(self) -> int:
        return sum(min(steps, self._limits[name]) for name, steps in self._env_steps.items())


def _short(env_steps: int) -> str:
    """Env steps in few characters: 9,999, 250k, 1.25M."""
    if env_steps >= 1_000_000:
        return f"{env_steps / 1e6:.4g}M"
    return f"{env_steps / 1e3:.0f}k" if env_steps >= 10_000 else f"{env_steps:,}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
