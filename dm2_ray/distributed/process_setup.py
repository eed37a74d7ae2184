"""One torch thread where numbers must not depend on the machine.

Names of processes, by which a replacement shows itself.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Torch computes with one thread inside the block.

    Sums are split between threads, so their number changes results in the last bits; Ray gives its actors one, a driver
    has as many as the machine. These networks are too small for more anyway.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def process_name() -> str:
    """Of this process; that which Ray starts in its place has another."""
    if ray.is_initialized():
        return str(ray.get_runtime_context().get_worker_id())
    return f"{platform.node()}:{os.getpid()}"
