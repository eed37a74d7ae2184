"""One torch thread where numbers must not depend on the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
