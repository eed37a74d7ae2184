"""Training drivers in processes of their own, which tests kill or stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ray
from support.tiny_runs import TINY, lines

PR_SET_PDEATHSIG = 1
# An iteration takes some tens of milliseconds, in the driver alone.
VERY_TINY = [
    *TINY,
    "rollout.battles_per_env_runner=4",
    "rollout.env_steps=128",
    "policy.hidden_size=8",
    "ppo.epochs=1",
    "evaluation.every_env_steps=2000",
    "evaluation.episodes=2",
    "checkpoint.every_iterations=1",
]
WITH_PROCESSES = [*VERY_TINY, "rollout.env_runners=1", "learners.processes=per_agent", "demonstrations.expert_actors=1"]


class Driver:
    """A `dm2` process."""

    def __init__(self, *arguments: object, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dm2_ray.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", **(env or {})},
            preexec_fn=_die_with_parent,
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, timeout_s: float = 120) -> tuple[int, str, str]:
        """Waits for its end; returns exit code, stdout and stderr."""
        out, err = self._process.communicate(timeout=timeout_s)
        return self._process.returncode, out, err

    def wait_for(self, run: Path, iterations: int, timeout_s: float = 120) -> None:
        """Waits until the run has `iterations` records or the process has ended."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive and len(lines(run)) < iterations:
            assert time.monotonic() < deadline, f"no iteration {iterations} within {timeout_s} s"
            time.sleep(0.01)


@contextlib.contextmanager
def driver(*arguments: object, env: dict[str, str] | None = None) -> Iterator[Driver]:
    """A driver that is killed at the end of the block if it still runs."""
    started = Driver(*arguments, env=env)
    try:
        yield started
    finally:
        if started.is_alive:
            started.send(signal.SIGKILL)
            started.end()


def train_command(run: Path, iterations: int, *settings: str, tiny: list[str] = VERY_TINY) -> list[str]:
    command = ["train", "--variant", "ippo", "--map", "2m_vs_1z", "--run-dir", str(run)]
    return [*command, "--iterations", str(iterations), *address(), *tiny, *settings]


def address() -> list[str]:
    """Options that connect a command to the tests' Ray; it would spend most of its time starting its own."""
    return ["--address", ray.get_runtime_context().gcs_address]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
