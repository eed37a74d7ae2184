"""References to objects in Ray's object store, and plain values in their place where a run has no processes."""

from __future__ import annotations

from typing import Any

import ray

from dm2_ray.errors import RunFailed, UserError


def get_if_ref(item: Any, timeout_s: float | None = None) -> Any:
    """Returns the object that a reference refers to; anything else is returned unchanged.

    Args:
        item: A reference or a value.
        timeout_s: Longest wait in seconds; None waits without a limit.

    Raises:
        ray.exceptions.GetTimeoutError: The object did not arrive in time.
        UserError, RunFailed: Raised in the process that computed the object, and raised again here without Ray's
            wrapper: the one-line message replaces the process's traceback.
        ray.exceptions.RayError: The task failed in another way, or its process or its result was lost.
    """
    if not isinstance(item, ray.ObjectRef):
        return item
    try:
        return ray.get(item, timeout=timeout_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (UserError, RunFailed)):
            raise error.cause from None
        raise
