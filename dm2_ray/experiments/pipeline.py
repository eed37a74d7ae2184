"""Runs the steps of a plan as `dm2` processes, several at once, and continues where an earlier start ended.

    plan ──► [ready steps] ──► dm2 train | resume | demos record | zoo pack   (one process each, log in logs/STEP.log)
                  ▲                        │ exit
                  └──── state on disk ◄────┘

Finished steps are recognized by their files, so a stop of any kind loses at most the iterations of a run since its last
checkpoint. The process of a step keeps its log file locked while it lives. So if this process is killed, the next start
finds the processes that were left behind.

Why not Snakemake, doit or Ray Tune: none of them can continue a half-trained run with another command (`dm2 resume`)
after comparing its settings, or take over processes that a killed start left behind.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from dm2_ray.experiments.pipeline_progress import PipelineProgress
from dm2_ray.experiments.step_state import StepState, state_of
from dm2_ray.experiments.steps import Step, StepPlan
from dm2_ray.files import try_lock
from dm2_ray.runs.run_directory import RunDirectoryError

TAIL_LINES = 15
POLL_S = 0.2
LEFT_BEHIND_TIMEOUT_S = 600.0
SECOND_STOP_TIMEOUT_S = 30.0


@dataclass(kw_only=True, slots=True)
class PipelineResult:
    """Names of the steps by how they ended; `waiting` are those not started, and those started and stopped."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    stopped_by: str | None = None


@dataclass(kw_only=True, slots=True)
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int


def run_pipeline(
    plan: StepPlan, *, jobs: int, progress: PipelineProgress, begin: Callable[[], None] = lambda: None
) -> PipelineResult:
    """Runs the steps that are not finished yet.

    Args:
        plan: The steps.
        jobs: Maximum number of processes at a time.
        progress: Prints what happens.
        begin: Called before the first process starts, after the directory's content was checked against the plan.

    Raises:
        RunDirectoryError: The directory is in use by another start, or contains runs with other settings.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    with _directory_lock(plan.directory), _stop_signals() as stop:
        states = {name: state_of(step) for name, step in plan.steps.items()}
        begin()
        return _PipelineRunner(plan, jobs, progress, states, stop).run()


class _Stop:
    """Counts SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.count = 0
        self.signal: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.signal = signal.Signals(number).name


class _PipelineRunner:
    def __init__(
        self, plan: StepPlan, jobs: int, progress: PipelineProgress, states: dict[str, StepState], stop: _Stop
    ) -> None:
        self._plan, self._jobs, self._progress, self._stop = plan, jobs, progress, stop
        self._states = states
        self._result = PipelineResult()
        self._running: dict[str, _Running] = {}
        self._left = deque(plan.steps)
        self._left_behind: dict[str, float] = {}
        """Deadlines for processes of an earlier start, by step."""

    def run(self) -> PipelineResult:
        for name in list(self._left):
            if self._states[name].status == "finished":
                self._left.remove(name)
                self._result.finished.append(name)
        self._progress.start(self._plan, self._states)
        stops_sent = 0
        try:
            while self._running or (self._left and not self._stop.count):
                self._collect()
                if self._stop.count > stops_sent:
                    stops_sent = self._stop.count
                    self._pass_on_stop(stops_sent)
                if not self._stop.count:
                    self._start_ready()
                self._progress.update({name: running.step for name, running in self._running.items()})
                time.sleep(POLL_S)
        finally:
            for running in self._running.values():  # after an error here, no process is left behind
                running.process.terminate()
            self._progress.close()
        self._result.waiting = list(self._left)
        self._result.stopped_by = self._stop.signal
        return self._result

    def _start_ready(self) -> None:
        for name in list(self._left):
            if len(self._running) >= self._jobs or self._stop.count:
                return
            step = self._plan.steps[name]
            if any(need in self._result.failed for need in step.needs):
                self._left.remove(name)
                self._result.failed.append(name)
                failed = next(need for need in step.needs if need in self._result.failed)
                self._progress.note(f"{name}: not run, because {failed} failed")
            elif all(need in self._result.finished for need in step.needs):
                self._start(step)

    def _start(self, step: Step) -> None:
        """Starts a step's process, unless a process of an earlier start is still working on the step."""
        log = self._plan.directory / "logs" / f"{step.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            if not self._is_free(step, output):
                return
            self._left.remove(step.name)
            state = state_of(step)
            if state.status == "finished":  # by a process of an earlier start
                self._finish(step, state)
                return
            arguments = self._arguments(step, state)
            line = shlex.join(("dm2", *arguments))
            output.write(f"$ {line}\n".encode())
            output.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "dm2_ray.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # So that Ctrl-C only reaches this process, which passes it on once.
                start_new_session=True,
            )
            _pid_file(log).write_text(str(process.pid))
            self._running[step.name] = _Running(step=step, process=process, log=log, log_start=output.tell())
            self._progress.note(f"{step.name}: {'continued' if arguments[0] == 'resume' else 'started'}, log in {log}")

    def _is_free(self, step: Step, log: IO[bytes]) -> bool:
        """Locks the log file; the step's process inherits the lock and holds it as long as it lives.

        A process of an earlier start that still holds the lock is asked to save and stop.
        """
        if try_lock(log):
            return True
        if step.name not in self._left_behind:
            self._left_behind[step.name] = time.monotonic() + LEFT_BEHIND_TIMEOUT_S
            pid = _pid_file(Path(log.name)).read_text()
            self._progress.note(
                f"{step.name}: process {pid} of an earlier start is still working on it: stopping that process"
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        if time.monotonic() > self._left_behind[step.name]:
            self._left.remove(step.name)
            self._result.failed.append(step.name)
            self._progress.note(
                f"{step.name}: a process of an earlier start still has {log.name} locked: end that process"
            )
        return False

    def _arguments(self, step: Step, state: StepState) -> tuple[str, ...]:
        """Arguments of the step's command, or of the one that continues an interrupted run."""
        if state.status == "damaged":
            self._progress.note(f"{step.name}: {state.problem}; recording it again")
            shutil.rmtree(step.path)
        if state.status != "started":
            return step.arguments
        # Here because it imports torch (1.5 s), which only interrupted runs need.
        from dm2_ray.checkpoints import intact_checkpoints

        if not intact_checkpoints(step.path / "checkpoints"):
            self._progress.note(f"{step.name}: ended before its first checkpoint; starting it again")
            shutil.rmtree(step.path)
            return step.arguments
        assert step.experiment is not None
        limits = step.experiment.stop
        resume = ["resume", str(step.path)]
        if limits.env_steps is not None:
            resume += ["--env-steps", str(limits.env_steps)]
        if limits.iterations is not None:
            resume += ["--iterations", str(limits.iterations)]
        return tuple(resume)

    def _collect(self) -> None:
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is None:
                continue
            del self._running[name]
            try:
                state = state_of(running.step)
            except RunDirectoryError as error:
                # The package has changed since this start, for example its defaults.
                self._result.failed.append(name)
                self._progress.note(f"{name}: {error}")
                continue
            if state.status == "finished":
                self._finish(running.step, state)
            elif self._stop.count:
                self._left.appendleft(name)
            else:
                self._result.failed.append(name)
                self._progress.failed(running.step, code, _tail(running.log, running.log_start), running.log)

    def _finish(self, step: Step, state: StepState) -> None:
        self._result.finished.append(step.name)
        self._progress.finished(step, state)

    def _pass_on_stop(self, count: int) -> None:
        waiting = "nothing is running" if not self._running else "waiting for the runs to save"
        self._progress.note(
            f"{self._stop.signal}: {waiting}" + ("; send it again to stop at once" if count == 1 else "")
        )
        for running in self._running.values():
            running.process.terminate()
        if count < 2:
            return
        deadline = time.monotonic() + SECOND_STOP_TIMEOUT_S
        for running in self._running.values():
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.process.kill()


@contextlib.contextmanager
def _directory_lock(directory: Path) -> Iterator[None]:
    with open(directory / ".lock", "ab") as lock:
        if not try_lock(lock):
            raise RunDirectoryError(f"{directory}: another `dm2` command is using it")
        yield


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _pid_file(log: Path) -> Path:
    return log.with_suffix(".pid")


def _tail(log: Path, start: int) -> list[str]:
    """The last lines that the step's latest process wrote."""
    with open(log, "rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
