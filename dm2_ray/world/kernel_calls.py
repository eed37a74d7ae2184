"""Calls of kernels without numba's look-up of the arguments' types.

Not in `compile_cache`: what imports that module counts as a source of kernels, and an edit of it compiles them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

KernelFunction = TypeVar("KernelFunction", bound=Callable[..., Any])


def specialize(kernel_function: KernelFunction, *arguments: Any) -> KernelFunction:
    """The machine code of a kernel for arguments of exactly these types, compiled if need be.

    A call of a kernel looks at the types of all its arguments, every number in every tuple included: 8 of the 9
    microseconds that a call with the engine's tables takes beside its work. A call of the result does not, so later
    arguments must have the same types and layouts as these; only the right to write to an array does not matter.
    """
    dispatcher: Any = kernel_function
    signature = tuple(numba.typeof(argument) for argument in arguments)
    if signature not in dispatcher.overloads:
        dispatcher.compile(signature)
    specialized: KernelFunction = dispatcher.get_overload(signature)
    return specialized
