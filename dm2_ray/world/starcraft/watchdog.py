"""A small process between us and a game: whoever started it may die in any way, the game does not outlive it.

    worker ──stdin: a pipe that only the worker holds──► guard ──► game        (guard and game: a session of their own)

Run as a script, with the standard library alone: `python guard.py TEMP_DIR BINARY ARGUMENTS…`. The guard
prints the game's process id, then waits for whichever ends first. The game: the guard prints its last words and ends
with its exit code (128 + n for signal n). The pipe, because the worker closed it or is gone, SIGKILL included: the game
is ended. Either way the temporary directory is removed. On Linux the kernel ends the game with the guard as well. (A
death signal set by the worker itself would not do: it is bound to the worker's *thread* that started the game.)
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""
LOG_NAME = "game.log"
"""What the game writes to its stdout and stderr, in its temporary directory."""
LOG_TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1


def _die_with_watchdog() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(temp_dir: str, command: list[str]) -> int:
    """Runs the game until it ends or stdin does."""
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
            # Whatever the game itself has started, and this process.
            os.killpg(0, signal.SIGKILL)
    with open(log_path, "rb") as log:
        log.seek(max(0, os.path.getsize(log_path) - LOG_TAIL_BYTES))
        sys.stdout.buffer.write(log.read())
    shutil.rmtree(temp_dir, ignore_errors=True)
    return game.returncode if game.returncode >= 0 else 128 - game.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
