"""A Ray cluster on the hosts of hosts.py, started as an administrator does: with a token, dashboard on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from hosts import Host, Hosts, wait_until

PORT = 6379
HEAD_CPUS = 1
"""Enough for a rollout worker, but for nothing else that a test wants on another host."""
WORKER_CPUS = 3
START_S = 90.0
HEALTH_CHECKS = '{"health_check_period_ms":1000,"health_check_timeout_ms":2000,"health_check_failure_threshold":3}'
"""A host that does not answer is declared dead after about 8 s instead of a minute."""
JOBS_ADDRESS = "http://127.0.0.1:8265"


class RayHosts:
    """A head and workers for the duration of a `with` block; commands run on the head.

    Args:
        directory: Directory for logs, the token and the files of the hosts. All hosts share it, and the rest of the
            disk except /tmp/ray.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._resources = ExitStack()
        for name in ("hosts", "home"):
            (directory / name).mkdir()
        private = directory / "private"
        private.mkdir(mode=0o700)
        self.token_file = private / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(secrets.token_hex(32))
        self._hosts = Hosts(directory / "hosts")
        self.head: Host

    def __enter__(self) -> RayHosts:
        with self._resources:
            self._resources.enter_context(self._hosts)
            self.head = self._start(
                "head", "--head", f"--port={PORT}", f"--num-cpus={HEAD_CPUS}", "--dashboard-host=127.0.0.1",
                f"--system-config={HEALTH_CHECKS}",
            )  # fmt: skip
            # Without an error until here, `__exit__` closes them.
            self._resources = self._resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def add_worker(self) -> Host:
        """Adds a host as a node of the cluster."""
        name = f"worker-{len(self.hosts)}"
        return self._start(name, f"--num-cpus={WORKER_CPUS}", f"--address={self.head.address}:{PORT}")

    @property
    def hosts(self) -> list[Host]:
        """All hosts that were ever added, the head first."""
        return self._hosts.hosts

    def environment(self, *, token: bool = True) -> dict[str, str]:
        """Environment of commands: without this machine's settings of Ray; the token is only given as a file name."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "WANDB_", "PYTEST_")) and name != "HOME"
        }
        programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        # With the compiled kernels of this process.
        cache = kept.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        ours = {
            "PATH": programs,
            "HOME": str(self._directory / "home"),
            "XDG_CACHE_HOME": cache,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
        }
        return {**kept, **ours, **({"RAY_AUTH_TOKEN_PATH": str(self.token_file)} if token else {})}

    def run(self, *command: object, token: bool = True, timeout_s: float) -> tuple[int, str]:
        """Runs a command on the head; returns its exit code and its output."""
        return self.head.run(command, env=self.environment(token=token), timeout_s=timeout_s)

    def start(self, *command: object, log: Path) -> subprocess.Popen[str]:
        """Starts a command on the head; its output goes to a file."""
        return self.head.start(command, env=self.environment(), output=self._open(log))

    def _start(self, name: str, *arguments: str) -> Host:
        host = self._hosts.add(name)
        log = self._directory / f"{name}.log"
        process = host.start(
            ["ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={host.address}",
             "--object-store-memory=200000000", *arguments],
            env=self.environment(), output=self._open(log),
        )  # fmt: skip

        def is_up() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"ray start on {name} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
            return "Ray runtime started" in log.read_text()

        wait_until(is_up, START_S, f"ray start on {name}")
        return host

    def _open(self, log: Path) -> IO[str]:
        return self._resources.enter_context(open(log, "w"))
