"""StarCraftGame: one StarCraft II process and the websocket on which it takes requests.

A request that is not answered in time, a closed socket or an answer that says "error" all mean the same here: the game
is lost (`GameLost`). Whoever plays on it decides what that costs and starts another.
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
    """The game crashed, hangs, or refused a request."""


class StarCraftGame:
    """Starts a game and waits until it listens.

    Args:
        installation: which game.
        launch_timeout_s: for the game to listen.
        request_timeout_s: for the answer to a request.

    Raises:
        StarCraftNotInstalled: something needed is not.
        GameLost: the game did not start.
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
            """As the game says it, for example "4.10.0.75689"."""
            if self._status != _LAUNCHED:
                raise GameLost(f"port {self._port} answers, but with a game that is under way: it is not ours")
        except BaseException:
            self.kill()
            raise

    def request(self, kind: str, content: Mapping[str, Any]) -> Any:
        """Sends one request and returns the answer's part of the same kind.

        Args:
            kind: a field of the protocol's Request.
            content: its fields; parts as mappings, enumeration values by name.

        Raises:
            GameLost: no answer in time, no connection, or the answer is an error.
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
            raise GameLost(f"{kind} refused: {'; '.join(response.error)}")
        if response.WhichOneof("response") != kind or (response.HasField("id") and response.id != number):
            raise GameLost(f"{kind} answered with {response.WhichOneof('response')}, id {response.id} for {number}")
        part = getattr(response, kind)
        error_field = part.DESCRIPTOR.fields_by_name.get("error")
        if error_field is not None and part.HasField("error"):
            name = error_field.enum_type.values_by_number[part.error].name
            raise GameLost(f"{kind} refused: {name} {getattr(part, 'error_details', '')}".rstrip())
        return part

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the game's process; 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ask_to_quit(self) -> None:
        """Tells game and guard to end, and does not wait."""
        if self._socket is not None:
            try:
                quit_request = self._protocol.request(id=_QUIT_ID, quit={})
                self._socket.send_binary(quit_request.SerializeToString())
            except (self._websocket.WebSocketException, OSError):
                pass  # It is gone already.
            self._socket.shutdown()
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()

    def close(self) -> None:
        """Ends the game; the guard sees to it if the game does not."""
        self.ask_to_quit()
        try:
            self._watchdog.wait(watchdog.GRACE_S + 2.0)
        except subprocess.TimeoutExpired:
            pass  # kill() does not ask.
        self.kill()

    def kill(self) -> None:
        """Ends the game at once and removes what it left behind; may be called again."""
        if self._watchdog.returncode is None:
            try:
                os.killpg(self._watchdog.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # All of them have ended.
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
            raise GameLost(f"its guard process said {line!r} in place of a process id")
        return int(line)

    def _connect(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for pause_s in itertools.chain((0.1,) * 20, itertools.repeat(0.5)):
            if self._watchdog.poll() is not None:
                raise GameLost(f"{self._describe_exit()} while starting; its last words: {self._last_output_line()}")
            try:
                self._socket = self._websocket.create_connection(
                    f"ws://{_HOST}:{self._port}/sc2api", timeout=self._request_timeout_s, http_no_proxy=[_HOST]
                )
                return
            except (self._websocket.WebSocketException, OSError) as error:
                # It does not listen yet, or listens and has not set up /sc2api.
                reason = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                raise GameLost(
                    f"it does not listen after {timeout_s:g} s ({reason}); last words: {self._last_output_line()}"
                )
            time.sleep(pause_s)

    def _describe_exit(self) -> str:
        """What has become of the game, as far as one can see."""
        try:
            code = self._watchdog.wait(0.2)
        except subprocess.TimeoutExpired:
            return "the game closed the connection"
        return f"the game was killed by signal {code - 128}" if code > 128 else f"the game ended with exit code {code}"

    def _last_output_line(self) -> str:
        """The last line that the game has written."""
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
    """A free port, and what keeps our other processes on this machine from choosing it until it is closed.

    The game binds it seconds from now, so that probing alone would let two of them choose the same: an abstract socket
    name, which the kernel frees with its process, is the claim.
    """
    for _ in range(_PORT_ATTEMPTS):
        port = random.SystemRandom().choice(_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0dm2-ray/starcraft/{port}")
            with socket.socket() as probe:
                probe.bind((_HOST, port))
        except OSError:
            claim.close()
            continue
        return port, claim
    raise StarCraftError(f"no free port between {_PORTS.start} and {_PORTS.stop - 1} on {_HOST}")
