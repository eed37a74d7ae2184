"""References to objects in Ray's object store, and plain values in their place where a run has no processes."""

from __future__ import annotations

from typing import Any

import ray

from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.world.starcraft.protocol import StarCraftError


def get_if_ref(item: Any, timeout_s: float | None = None) -> Any:
    """Returns the object that a reference refers to; anything else is returned unchanged.

    Args:
        item: A reference or a value.
        timeout_s: Longest wait in seconds; None waits without a limit.

    Raises:
        ray.exceptions.GetTimeoutError: The object did not arrive in time.
        DemonstrationError, StarCraftError: Raised in the process that computed the object. They are raised again
            without Ray's wrapper: their one line replaces a traceback of thirty.
        ray.exceptions.RayError: The task failed in another way, or its process or its result was lost.
    """
    if not isinstance(item, ray.ObjectRef):
        return item
    try:
        return ray.get(item, timeout=timeout_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (DemonstrationError, StarCraftError)):
            raise error.cause from None
        raise
