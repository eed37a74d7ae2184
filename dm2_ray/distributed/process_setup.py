"""Set-up of a process: torch with one thread, and a name that tells it from its replacement."""

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

    Torch splits sums between threads, so the number of threads changes results in the last bits. Ray gives its actors
    one thread, while a driver has as many as the machine has cores. These networks are too small to gain from more.
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
    """Name of this process; a process that Ray starts in its place has another name."""
    if ray.is_initialized():
        return str(ray.get_runtime_context().get_worker_id())
    return f"{platform.node()}:{os.getpid()}"
