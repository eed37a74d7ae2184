"""A small process between a worker and its game: however the worker ends, the game ends with it.

    worker ──stdin: a pipe that only the worker holds──► watchdog ──► game        (watchdog and game: their own session)

Run as a script that needs only the standard library: `python watchdog.py TEMP_DIR BINARY ARGUMENTS…`. The watchdog
prints the game's process id and then waits for one of two events. If the game ends, the watchdog prints the end of the
game's output and exits with the game's exit code (128 + n for signal n). If the pipe ends, because the worker closed it
or died, even by SIGKILL, the watchdog ends the game. In both cases it removes the temporary directory. On Linux the
kernel also ends the game when the watchdog dies. (A death signal set by the worker itself would not be enough: it
depends on the *thread* of the worker that started the game.)
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

GRACE_S = 3.0
"""Seconds from SIGTERM to SIGKILL."""
LOG_NAME = "game.log"
"""File in the temporary directory that receives the game's stdout and stderr."""
LOG_TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1


def _die_with_watchdog() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(temp_dir: str, command: list[str]) -> int:
    """Run the game until it ends or stdin is closed."""
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    log_path = os.path.join(temp_dir, LOG_NAME)
    with open(log_path, "wb") as log:
        game = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_watchdog if sys.platform == "linux" else None,
        )
    print(game.pid, flush=True)
    while game.poll() is None:
        readable, _, _ = select.select([0, wake_reader], [], [])
        if wake_reader in readable:
            os.read(wake_reader, 64)
        if 0 in readable and not os.read(0, 64):
            game.terminate()
            try:
                game.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                game.kill()
                game.wait()
            shutil.rmtree(temp_dir, ignore_errors=True)
            # Ends all processes that the game has started, and this one.
            os.killpg(0, signal.SIGKILL)
    with open(log_path, "rb") as log:
        log.seek(max(0, os.path.getsize(log_path) - LOG_TAIL_BYTES))
        sys.stdout.buffer.write(log.read())
    shutil.rmtree(temp_dir, ignore_errors=True)
    return game.returncode if game.returncode >= 0 else 128 - game.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
