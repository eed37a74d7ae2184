"""Who writes a run: one driver at a time, the one that started last.

RUN_DIR/
  run.lock           held (flock) by the driver as long as it lives
  generation.json    number of the run's newest start or resume, and who that was

The lock refuses a second driver where the first is alive and the file system knows locks. Where it does not, or where
a machine was cut off and the run was resumed elsewhere, the generation decides: every driver looks before it writes
anything, and one that finds a later generation stops at once and leaves everything to that one.
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


class RunSuperseded(RunStopped, RuntimeError):
    """Another driver has taken over this one's run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGeneration:
    """One start or resume of a run."""

    number: int
    """Counted from 1."""
    host: str
    pid: int
    started: str
    """In UTC."""
    token: str
    """Tells two drivers apart that took the same number at the same moment."""

    def __str__(self) -> str:
        return f"generation {self.number} (process {self.pid} on {self.host}, since {self.started})"

    def content(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def of_content(content: bytes, origin: str) -> RunGeneration:
        """Inverse of `content`.

        Raises:
            RunDirectoryError: It is something else.
        """
        try:
            return RunGeneration(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(f"{origin}: no generation of a run ({error}); remove the file") from error

    @staticmethod
    def after(previous: RunGeneration | None) -> RunGeneration:
        """This process's."""
        return RunGeneration(
            number=1 if previous is None else previous.number + 1,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            token=secrets.token_hex(8),
        )


class RunLock:
    """This process's right to write a run, as long as nobody took it over."""

    def __init__(self, run_dir: Path, generation: RunGeneration) -> None:
        self.generation = generation
        self._run_dir = run_dir
        self._lost_to: RunGeneration | None = None

    def check(self) -> None:
        """To be called before anything of the run is written.

        Raises:
            RunSuperseded: Another driver has taken over.
        """
        newest = self._lost_to or read_generation(self._run_dir)
        if newest is None:
            raise RunSuperseded(f"{self._run_dir}: its {GENERATION_FILE} is gone; nothing more is written there")
        self.compare(newest)

    def compare(self, newest: RunGeneration) -> None:
        """Raises RunSuperseded, from then on always, where `newest` is somebody else's."""
        if newest.token != self.generation.token:
            self._lost_to = newest
            raise RunSuperseded(
                f"{self._run_dir}: {newest} has taken over this run; generation {self.generation.number} ends here and "
                "writes nothing more"
            )


@contextmanager
def lock_run(run_dir: Path) -> Iterator[RunLock]:
    """Takes the run's next generation, and keeps its lock for the duration of the block.

    Raises:
        RunDirectoryError: Another driver that is alive has the run.
        OSError: The directory cannot be written to.
    """
    descriptor = _lock(run_dir)
    try:
        generation = RunGeneration.after(read_generation(run_dir))
        write_atomically(run_dir / GENERATION_FILE, generation.content())
        yield RunLock(run_dir, generation)
    finally:
        os.close(descriptor)


def check_unused(run_dir: Path) -> None:
    """Raises RunDirectoryError where another driver that is alive has the run."""
    if (run_dir / LOCK_FILE).exists():
        os.close(_lock(run_dir))


def read_generation(run_dir: Path) -> RunGeneration | None:
    """The newest generation of a run; None where it has none yet.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    path = run_dir / GENERATION_FILE
    try:
        # Opened anew each time: that is when a network file system asks its server for the newest content.
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return RunGeneration.of_content(content, str(path))


def _lock(run_dir: Path) -> int:
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    # A network file system may have no locks: then the generation alone decides.
    if not try_lock(descriptor):
        os.close(descriptor)
        raise RunDirectoryError(
            f"{run_dir} is being trained by {read_generation(run_dir) or 'another process'}: wait for it, or stop it"
        )
    return descriptor
