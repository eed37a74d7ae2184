"""Hosts on one machine: each has its own address, host name, processes, /tmp/ray and /dev/shm; a bridge connects them.

                      switch: network namespace with the bridge br0
                 port1 │                 port2 │                 port3 │
                  eth0 │                  eth0 │                  eth0 │
    head 10.77.0.1 ────┘    worker-1 10.77.0.2 ┘    worker-2 10.77.0.3 ┘     each: net, pid, mount, uts namespaces

Namespaces have no names, and no link outlives its namespace. So a host disappears with its first process, which ends
with the process that created it, however that ends. Nothing outside of these namespaces can be reached.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

COMMAND_S = 30.0
"""Time limit for setting up a namespace or a link."""
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount", "hostname")
NAMESPACES = ("--net", "--pid", "--mount", "--uts")

# PID 1 of a host. It and everything in the host end with its standard input; until then, it reaps orphans.
FIRST_PROCESS = """
set -e
hostname "$1"
mkdir -p /tmp/ray
mount --bind "$2" /tmp/ray
mount -t tmpfs -o size=2g none /dev/shm
mount --bind "$3" /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind /dev/null /etc/resolv.conf; fi
echo ready
read -r || true
"""


def unsupported() -> str | None:
    """Why this machine cannot create such hosts, or None if it can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed (Debian: iproute2, util-linux, mount, hostname)"
    links = "ip link add br0 type bridge; ip link add eth0 type veth peer name eth1; mount -t tmpfs none /dev/shm"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "bash", "-ec", links],
        capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    if tried.returncode == 0:
        return None
    reason = tried.stderr.strip().splitlines()
    return f"no permission to create namespaces, links and mounts here: {reason[-1] if reason else tried.returncode}"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host, created by `Hosts.add`; `pid` is that of its first process, `switch` that of the bridge's namespace."""

    name: str
    address: str
    process: subprocess.Popen[str]
    pid: int
    switch: int
    port: str

    def start(
        self, command: Sequence[object], *, env: Mapping[str, str], output: IO[str] | int | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command in the host; its output goes to `output`, which may be subprocess.PIPE."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self.pid), *NAMESPACES, "--", *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True, env=dict(env),
            start_new_session=True,
        )  # fmt: skip

    def run(self, command: Sequence[object], *, env: Mapping[str, str], timeout_s: float) -> tuple[int, str]:
        """Runs a command in the host; returns its exit code and its output.

        Raises:
            TimeoutError: It took longer than `timeout_s` and was killed.
        """
        process = self.start(command, env=env, output=subprocess.PIPE)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(process, signal.SIGKILL)
            output, _ = process.communicate()
            raise TimeoutError(
                f"{self.name}: {command[0]} took more than {timeout_s:.0f} s:\n{output[-3000:]}"
            ) from None
        return process.returncode, output

    @staticmethod
    def signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
        """Sends a signal to a started command, but not to nsenter, which waits for it."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with suppress(ProcessLookupError, FileNotFoundError):
            for child in children.read_text().split():
                os.kill(int(child), number)

    def processes(self, title: str) -> list[int]:
        """Processes of the host whose command line starts with `title`."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):  # it has ended
                    if (directory / "cmdline").read_text().startswith(title):
                        if os.readlink(directory / "ns/pid") == namespace:
                            found.append(int(directory.name))
        return found

    def unplug(self) -> None:
        """Cuts the link: packets are dropped silently."""
        _in_network(self.switch, "ip", "link", "set", self.port, "down")

    def plug_in(self) -> None:
        """Restores the link."""
        _in_network(self.switch, "ip", "link", "set", self.port, "up")

    def power_off(self) -> None:
        """Ends everything in the host at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(COMMAND_S)


class Hosts:
    """The bridge and its hosts, for the duration of a `with` block.

    Args:
        directory: Directory for the hosts' /tmp/ray and /etc/hosts.
        network: First three bytes of all addresses.
    """

    def __init__(self, directory: Path, network: str = "10.77.0") -> None:
        self._directory = directory
        self._network = network
        self._processes: list[subprocess.Popen[str]] = []
        self._switch = 0
        self.hosts: list[Host] = []

    def __enter__(self) -> Hosts:
        switch = _first_process(["unshare", "--net"], ["bash", "-c", "echo ready; read -r || true"])
        self._processes.append(switch)
        try:
            self._switch = _children(switch.pid)[0]
            _in_network(self._switch, "ip", "link", "add", "br0", "type", "bridge")
            _in_network(self._switch, "ip", "link", "set", "br0", "up")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def add(self, name: str) -> Host:
        """Adds a host, connected to all others.

        Raises:
            RuntimeError: It did not start; the message has the output of its first process.
        """
        number = len(self.hosts) + 1
        address, port = f"{self._network}.{number}", f"port{number}"
        ray_directory, names = self._directory / name, self._directory / "hosts"
        ray_directory.mkdir()
        # All hosts share this file, so that they also know later ones: a host name that does not resolve delays every
        # start by ten seconds.
        known = [(host.name, host.address) for host in self.hosts] + [(name, address)]
        names.write_text("".join(f"{where} {who}\n" for who, where in [("localhost", "127.0.0.1"), *known]))
        process = _first_process(
            ["unshare", *NAMESPACES, "--mount-proc"],
            ["bash", "-c", FIRST_PROCESS, name, name, str(ray_directory), str(names)],
        )
        self._processes.append(process)
        (pid,) = _children(process.pid)
        _in_network(self._switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _in_network(self._switch, "ip", "link", "set", port, "master", "br0", "up")
        for setting in (
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            "route add default dev eth0",
        ):
            _in_network(pid, "ip", *setting.split())
        self.hosts.append(Host(name=name, address=address, process=process, pid=pid, switch=self._switch, port=port))
        return self.hosts[-1]

    def _end(self) -> None:
        for process in self._processes:
            for child in _children(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        for process in self._processes:
            process.wait(COMMAND_S)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self._processes, self.hosts = [], []


def _first_process(namespaces: Sequence[str], command: Sequence[str]) -> subprocess.Popen[str]:
    """Starts the first process of new namespaces; it ends with this process (by signal and by end of input)."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *namespaces, "--fork", "--kill-child=SIGKILL", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.strip() != "ready":
        process.kill()
        raise RuntimeError(f"a host did not start: {line}{process.communicate(timeout=COMMAND_S)[0]}")
    return process


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _in_network(pid: int, *command: str) -> None:
    """Runs a command in the network of a process."""
    done = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "--", *command],
        capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until `condition()` is true; raises TimeoutError with `what` if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
