"""A time limit for calls without one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class CallTimeout(TimeoutError):
    """A call did not return in time."""


def call_with_timeout(function: Callable[[], Result], timeout_s: float) -> Result:
    """Calls `function` in a thread and returns its result.

    For network clients whose own time limits do not cover everything, such as the lookup of a host name or retries. A
    call that takes too long is not ended, but its daemon thread does not keep the process alive.

    Raises:
        CallTimeout: The call did not return within `timeout_s` seconds.
        Exception: Any exception that `function` raised.
    """
    outcomes: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put((function(), None))
        except Exception as error:  # raised again in the calling thread
            outcomes.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = outcomes.get(timeout=timeout_s)
    except queue.Empty:
        raise CallTimeout(f"no answer within {timeout_s:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
