"""How a run responds to SIGINT and SIGTERM.

    first signal    the run ends after the current iteration
    second signal   the run ends at once: the current iteration is dropped, the state before it is saved
    SIGTERM         (pre-emption, a scheduler's stop) is repeated automatically after a grace period

Only work that can be repeated is dropped; no write is ever interrupted.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

FORCE_STOP_S = 2.0
"""Seconds between two repetitions of SIGTERM."""


class ForcedStop(BaseException):
    """The current iteration was dropped because the run must end.

    Like KeyboardInterrupt it is not an Exception, so that code that continues after errors does not catch it.
    """


class StopRequest:
    """The signal handler of a run.

    Args:
        grace_s: Seconds that the current iteration may still take after SIGTERM.
    """

    def __init__(self, grace_s: float) -> None:
        self.signal: signal.Signals | None = None
        """The first signal received."""
        self._grace_s = grace_s
        self._is_forced = False
        self._is_interruptible = False
        self._closed = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            log.info("%s: finishing this iteration and saving; once more to stop at once", self.signal.name)
            if self.signal is signal.SIGTERM:
                threading.Thread(target=self._repeat_sigterm, daemon=True).start()
            return
        self._is_forced = True
        if self._is_interruptible:
            raise ForcedStop

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Marks the block as work that a second signal interrupts.

        Raises:
            ForcedStop: A second signal was received, during the block or before it.
        """
        if self._is_forced:
            raise ForcedStop
        self._is_interruptible = True
        try:
            yield
        finally:
            self._is_interruptible = False

    def close(self) -> None:
        """Stops the repetition of SIGTERM."""
        self._closed.set()

    def _repeat_sigterm(self) -> None:
        """Repeats the signal after the grace period until the run has ended.

        Once may not be enough: the handler runs in the main thread, and code running there may swallow its exception.
        """
        wait_s = self._grace_s
        while not self._closed.wait(wait_s):
            os.kill(os.getpid(), signal.SIGTERM)
            wait_s = FORCE_STOP_S


@contextmanager
def stop_request(grace_s: float) -> Iterator[StopRequest]:
    """Handles SIGINT and SIGTERM for the duration of the block."""
    request = StopRequest(grace_s)
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        request.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
