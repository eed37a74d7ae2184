"""Decorators for kernels that are only ever called by other kernels.

numba counts references to every array that a function receives or takes out of a tuple, with atomic instructions that
outweigh the work of the engine's small functions: without them a step takes a sixth of the time. That is safe where a
function neither creates nor returns arrays and its caller keeps them all alive, which holds for every kernel declared
here. They have no cache entries of their own: they become part of the `compile_cache.kernel` that calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from dm2_ray.world import compile_cache

KernelFunction = TypeVar("KernelFunction", bound=Callable[..., Any])

__all__ = ["compile_cache", "inlined_kernel", "inner_kernel"]


def inner_kernel(function: KernelFunction) -> KernelFunction:
    """Compile `function` as a subroutine of other kernels. It must neither create nor return arrays."""
    compiled: KernelFunction = numba.njit(error_model="numpy", _nrt=False)(function)
    return compiled


def inlined_kernel(function: KernelFunction) -> KernelFunction:
    """As `inner_kernel`, but copied into each caller: for a few lines that are called often."""
    compiled: KernelFunction = numba.njit(error_model="numpy", _nrt=False, inline="always")(function)
    return compiled
