"""A real Ray head, started by cluster/baremetal/head.sh with a token, on ports and in a directory of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_S = 120.0
_PR_SET_PDEATHSIG = 1


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens now."""
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def with_parent() -> None:
    """Runs in a child before its program starts: the child ends with the test's process, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class RayHead:
    """A head that runs for the duration of a `with` block.

    Args:
        directory: For all its files. The path must be short, because names of sockets are.
        token: The token that it demands.
        num_cpus: CPUs that it offers.
        secrets: Environment variables of the head alone.
    """

    def __init__(self, directory: Path, token: str, *, num_cpus: int, secrets: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.token_file = directory / "token"
        self.token_file.write_text(token)
        self.token_file.chmod(0o600)
        self._num_cpus = num_cpus
        self._secrets = secrets or {}
        self._log = directory / "head.log"

    def environment(self) -> dict[str, str]:
        """Environment of a process that knows the token, without the variables of this process's own Ray."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))}
        # Jobs are started as `python3`, which must be the one that has the package.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**kept, "PATH": path, "HOME": str(self.directory), "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def __enter__(self) -> RayHead:
        gcs, dashboard, agent, client = free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.gcs_address = f"127.0.0.1:{gcs}"
        command = [
            ROOT / "cluster" / "baremetal" / "head.sh",
            f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", "--node-manager-port=0", "--object-manager-port=0",
            f"--temp-dir={self.directory / 'ray'}", f"--num-cpus={self._num_cpus}",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                command,
                env={**self.environment(), **self._secrets},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=with_parent,
            )
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"the head did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Pids of everything that runs with this head's directory in its command line or environment."""
        mark, found = os.fsencode(self.directory / "ray"), []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    if mark in words:
                        found.append(int(entry.name))
        return found
