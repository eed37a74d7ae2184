"""StarCraftGame: one StarCraft II process and the websocket on which it takes requests.

If a request is not answered in time, the socket is closed or the answer is an error, the game counts as lost
(`GameLost`); the caller decides what follows and starts another game.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dm2_ray.world.starcraft import watchdog
from dm2_ray.world.starcraft.install import Installation
from dm2_ray.world.starcraft.protocol import StarCraftError, load_protocol, load_websocket

_HOST = "127.0.0.1"
# Below the range from which Linux draws the ports of outgoing connections.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 1000
_QUIT_ID = 999_999_999
_LAUNCHED = 1
"""Status of a game that has just started."""


class GameLost(Exception):
    """The game crashed, hangs, or rejected a request."""


class StarCraftGame:
    """Starts a game and waits until it listens.

    Args:
        installation: The game to start.
        launch_timeout_s: Time limit until the game listens.
        request_timeout_s: Time limit for the answer to a request.

    Raises:
        StarCraftNotInstalled: A required package is missing.
        GameLost: The game did not start.
    """

    def __init__(self, installation: Installation, *, launch_timeout_s: float, request_timeout_s: float) -> None:
        self._websocket = load_websocket()
        self._protocol = load_protocol()
        self._request_timeout_s = request_timeout_s
        self._ids = itertools.count(1)
        self._socket: Any = None
        self._temp_dir = Path(tempfile.mkdtemp(prefix="dm2-ray-starcraft-"))
        self._port, self._port_lock = _reserve_port()
        command = [
            *("env", f"LD_LIBRARY_PATH={_library_path(installation.root)}", str(installation.binary)),
            *("-listen", _HOST, "-port", str(self._port)),
            *("-dataDir", f"{installation.root}/", "-tempDir", f"{self._temp_dir}/"),
        ]
        if installation.data_version is not None:
            command += ["-dataVersion", installation.data_version]
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, str(self._temp_dir), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.pid = self._read_pid()
            """Process id of the game itself."""
            self._connect(launch_timeout_s)
            self.version = str(self.request("ping", {}).game_version)
            """The version that the game reports, for example "4.10.0.75689"."""
            if self._status != _LAUNCHED:
                raise GameLost(f"the game on port {self._port} is already running; another program started it")
        except BaseException:
            self.kill()
            raise

    def request(self, kind: str, content: Mapping[str, Any]) -> Any:
        """Send one request and return the answer's field of the same name.

        Args:
            kind: A field of the protocol's Request.
            content: That field's content; messages as mappings, enumeration values by name.

        Raises:
            GameLost: No answer in time, no connection, or the answer is an error.
        """
        number = next(self._ids)
        try:
            self._socket.send_binary(self._protocol.request(id=number, **{kind: content}).SerializeToString())
            answer = self._socket.recv()
        except self._websocket.WebSocketTimeoutException:
            raise GameLost(f"no answer to {kind} within {self._request_timeout_s:g} s") from None
        except (self._websocket.WebSocketException, OSError) as error:
            raise GameLost(f"{self._describe_exit()} at {kind} ({type(error).__name__}: {error})") from None
        if not isinstance(answer, bytes) or not answer:
            raise GameLost(f"{self._describe_exit()} at {kind}")
        try:
            response = self._protocol.response.FromString(answer)
        except self._protocol.error as error:
            raise GameLost(f"the answer to {kind} cannot be read ({error})") from None
        self._status = response.status
        if response.error:
            raise GameLost(f"{kind} was rejected: {'; '.join(response.error)}")
        if response.WhichOneof("response") != kind or (response.HasField("id") and response.id != number):
            raise GameLost(f"the answer to {kind}, id {number}, is {response.WhichOneof('response')}, id {response.id}")
        part = getattr(response, kind)
        error_field = part.DESCRIPTOR.fields_by_name.get("error")
        if error_field is not None and part.HasField("error"):
            name = error_field.enum_type.values_by_number[part.error].name
            raise GameLost(f"{kind} was rejected: {name} {getattr(part, 'error_details', '')}".rstrip())
        return part

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the game's process; 0 if the system does not report it."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ask_to_quit(self) -> None:
        """Ask game and watchdog to end, without waiting."""
        if self._socket is not None:
            try:
                quit_request = self._protocol.request(id=_QUIT_ID, quit={})
                self._socket.send_binary(quit_request.SerializeToString())
            except (self._websocket.WebSocketException, OSError):
                pass  # The game has ended already.
            self._socket.shutdown()
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()

    def close(self) -> None:
        """End the game; the watchdog ends it if it does not react."""
        self.ask_to_quit()
        try:
            self._watchdog.wait(watchdog.GRACE_S + 2.0)
        except subprocess.TimeoutExpired:
            pass  # Then kill() ends it.
        self.kill()

    def kill(self) -> None:
        """End the game at once and remove its files; may be called again."""
        if self._watchdog.returncode is None:
            try:
                os.killpg(self._watchdog.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # All processes have ended.
            self._watchdog.wait()
        if self._socket is not None:
            self._socket.shutdown()
        for pipe in (self._watchdog.stdin, self._watchdog.stdout):
            if pipe is not None:
                pipe.close()
        self._port_lock.close()
        shutil.rmtree(self._temp_dir, ignore_errors=True)

    def _read_pid(self) -> int:
        assert self._watchdog.stdout is not None
        line = self._watchdog.stdout.readline()
        if not line.strip().isdigit():
            raise GameLost(f"the watchdog printed {line!r} instead of a process id")
        return int(line)

    def _connect(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for pause_s in itertools.chain((0.1,) * 20, itertools.repeat(0.5)):
            if self._watchdog.poll() is not None:
                raise GameLost(f"{self._describe_exit()} while starting; its last output: {self._last_output_line()}")
            try:
                self._socket = self._websocket.create_connection(
                    f"ws://{_HOST}:{self._port}/sc2api", timeout=self._request_timeout_s, http_no_proxy=[_HOST]
                )
                return
            except (self._websocket.WebSocketException, OSError) as error:
                # The game does not listen yet, or it listens but has not set up /sc2api.
                reason = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                output = self._last_output_line()
                raise GameLost(f"the game does not listen after {timeout_s:g} s ({reason}); its last output: {output}")
            time.sleep(pause_s)

    def _describe_exit(self) -> str:
        """How the game ended, as far as that is known."""
        try:
            code = self._watchdog.wait(0.2)
        except subprocess.TimeoutExpired:
            return "the game closed the connection"
        return f"the game was killed by signal {code - 128}" if code > 128 else f"the game ended with exit code {code}"

    def _last_output_line(self) -> str:
        """The last line of the game's output."""
        log = self._temp_dir / watchdog.LOG_NAME
        if self._watchdog.poll() is None and log.is_file():
            text = log.read_bytes()
        else:
            assert self._watchdog.stdout is not None
            text = self._watchdog.stdout.read()
        lines = text.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "none")[:300]


def _library_path(root: Path) -> str:
    return ":".join(part for part in (os.environ.get("LD_LIBRARY_PATH"), f"{root}/Libs/") if part)


def _reserve_port() -> tuple[int, socket.socket]:
    """A free port, and a socket that reserves it among our processes on this machine until the socket is closed.

    The game binds the port seconds later, so two processes that only probe ports could choose the same one. The
    reservation is an abstract socket name, which the kernel frees when its process ends.
    """
    for _ in range(_PORT_ATTEMPTS):
        port = random.SystemRandom().choice(_PORTS)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0dm2-ray/starcraft/{port}")
            with socket.socket() as probe:
                probe.bind((_HOST, port))
        except OSError:
            reservation.close()
            continue
        return port, reservation
    raise StarCraftError(f"no free port between {_PORTS.start} and {_PORTS.stop - 1} on {_HOST}")
