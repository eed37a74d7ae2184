"""Calls with a time limit."""

import threading
import time

import pytest

from dm2_ray.timeouts import CallTimeout, call_with_timeout


def test_results_and_errors_come_back() -> None:
    assert call_with_timeout(lambda: 3, 10.0) == 3
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 / 0, 10.0)


def test_a_call_that_takes_too_long_is_given_up() -> None:
    forever, began = threading.Event(), time.monotonic()
    with pytest.raises(CallTimeout, match=r"within 0\.2 s"):
        call_with_timeout(forever.wait, 0.2)
    forever.set()
    assert time.monotonic() - began < 5.0
