"""StopRequest: what SIGINT and SIGTERM mean to a run.

    first signal   the run ends after the iteration under way
    second one     at once: the iteration is dropped, what came before it is saved
    SIGTERM        (pre-emption, a scheduler's stop) becomes the second one by itself when its grace is over

Only work that can be done again is dropped: nothing is interrupted while it is written.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FORCE_STOP_S = 2.0
"""Between two reminders."""


class ForcedStop(BaseException):
    """The iteration under way was dropped because the run has to end.

    Like KeyboardInterrupt it is no Exception: what goes on after an error must not go on after this.
    """


class StopRequest:
    """Takes the signals of a run.

    Args:
        grace_s: Seconds after SIGTERM that the iteration under way may still take.
    """

    def __init__(self, grace_s: float) -> None:
        self.signal: signal.Signals | None = None
        """The first one that came."""
        self._grace_s = grace_s
        self._at_once = False
        self._droppable = False
        self._closed = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            print(f"{self.signal.name}: finishing this iteration and saving; once more to stop at once", flush=True)
            if self.signal is signal.SIGTERM:
                threading.Thread(target=self._second_signal, daemon=True).start()
            return
        self._at_once = True
        if self._droppable:
            raise ForcedStop

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that a second signal drops.

        Raises:
            ForcedStop: That signal came, now or before.
        """
        if self._at_once:
            raise ForcedStop
        self._droppable = True
        try:
            yield
        finally:
            self._droppable = False

    def close(self) -> None:
        """Ends the wait for the grace's end."""
        self._closed.set()

    def _second_signal(self) -> None:
        """Sends the signal again, for as long as it takes: the handler runs in the main thread, between two of its
        steps, and code that happens to run there may swallow what the handler raises."""
        wait_s = self._grace_s
        while not self._closed.wait(wait_s):
            os.kill(os.getpid(), signal.SIGTERM)
            wait_s = FORCE_STOP_S


@contextmanager
def stop_request(grace_s: float) -> Iterator[StopRequest]:
    """Takes the stop signals for the duration of the block."""
    request = StopRequest(grace_s)
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        request.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
