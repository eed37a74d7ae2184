"""Ensures that only one driver writes a run: the one that started last.

RUN_DIR/
  run.lock           locked (flock) by the driver for as long as it lives
  generation.json    number of the run's newest start or resume, and its process

The lock refuses a second driver while the first is alive, if the file system supports locks. If it does not, or if a
machine lost its connection and the run was resumed elsewhere, the generation decides: every driver reads it before each
write, and stops at once without writing if it finds a later one.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from dm2_ray.errors import RunStopped
from dm2_ray.files import try_lock, write_atomically
from dm2_ray.runs.run_directory import RunDirectoryError

GENERATION_FILE = "generation.json"
LOCK_FILE = "run.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGeneration:
    """One start or resume of a run.

    Attributes:
        number: Counted from 1.
        started: Time in UTC.
        token: Distinguishes two drivers that took the same number at the same moment.
    """

    number: int
    host: str
    pid: int
    started: str
    token: str

    def __str__(self) -> str:
        return f"generation {self.number} (process {self.pid} on {self.host}, since {self.started})"

    def to_bytes(self) -> bytes:
        """The content of a generation file."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_bytes(content: bytes, origin: str) -> RunGeneration:
        """Inverse of `to_bytes`.

        Args:
            content: The content of a generation file.
            origin: Name of the file, for the message of an error.

        Raises:
            RunDirectoryError: The content is damaged.
        """
        try:
            return RunGeneration(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(f"{origin}: not a generation of a run ({error}); remove the file") from error

    @staticmethod
    def after(previous: RunGeneration | None) -> RunGeneration:
        """The generation of this process, which follows `previous`."""
        return RunGeneration(
            number=1 if previous is None else previous.number + 1,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            token=secrets.token_hex(8),
        )


class RunSuperseded(RunStopped, RuntimeError):
    """Another driver has taken over this one's run."""


class RunLock:
    """This process's right to write a run, until another driver takes the run over."""

    def __init__(self, run_dir: Path, generation: RunGeneration) -> None:
        self.generation = generation
        self._run_dir = run_dir
        self._superseded_by: RunGeneration | None = None

    def check(self) -> None:
        """Call this before writing anything of the run.

        Raises:
            RunSuperseded: Another driver has taken over the run.
        """
        newest = self._superseded_by or read_generation(self._run_dir)
        if newest is None:
            raise RunSuperseded(f"{self._run_dir}: its {GENERATION_FILE} was removed; this driver stops writing")
        self.check_generation(newest)

    def check_generation(self, newest: RunGeneration) -> None:
        """Raises RunSuperseded if `newest` belongs to another driver; after that, `check` always raises it."""
        if newest.token != self.generation.token:
            self._superseded_by = newest
            raise RunSuperseded(
                f"{self._run_dir}: {newest} has taken over this run; generation {self.generation.number} stops writing"
            )


@contextmanager
def lock_run(run_dir: Path) -> Iterator[RunLock]:
    """Takes the run's next generation, and holds its lock for the duration of the block.

    Raises:
        RunDirectoryError: A live driver holds the lock.
        OSError: The directory is not writable.
    """
    descriptor = _lock(run_dir)
    try:
        generation = RunGeneration.after(read_generation(run_dir))
        write_atomically(run_dir / GENERATION_FILE, generation.to_bytes())
        yield RunLock(run_dir, generation)
    finally:
        os.close(descriptor)


def check_not_running(run_dir: Path) -> None:
    """Raises RunDirectoryError if a live driver holds the run's lock."""
    if (run_dir / LOCK_FILE).exists():
        os.close(_lock(run_dir))


def read_generation(run_dir: Path) -> RunGeneration | None:
    """The newest generation of a run; None if it has none yet.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    path = run_dir / GENERATION_FILE
    try:
        # Opened anew each time, because a network file system asks its server for new content on opening.
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return RunGeneration.from_bytes(content, str(path))


def _lock(run_dir: Path) -> int:
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    # Some network file systems have no locks: `try_lock` then succeeds, and the generation alone decides.
    if not try_lock(descriptor):
        os.close(descriptor)
        raise RunDirectoryError(
            f"{run_dir} is being trained by {read_generation(run_dir) or 'another process'}: wait for it or stop it"
        )
    return descriptor
