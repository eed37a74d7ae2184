"""LearnerState: everything that an agent's next update depends on, as it travels and as it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch


class _Always(TypedDict):
    agent: str
    version: int
    modules: dict[str, dict[str, np.ndarray]]
    optimizers: dict[str, dict[str, Any]]


class LearnerState(_Always, total=False):
    """A complete state: numpy arrays, numbers and strings only."""

    extras: dict[str, np.ndarray]
    """What belongs to no module: recent own visitations, running scale of the matching reward. Checkpoints of earlier
    versions lack it."""


def as_arrays(value: Any) -> Any:
    """A deep copy with arrays in the place of tensors, and lists in that of tuples."""
    if isinstance(value, Mapping):
        return {key: as_arrays(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_arrays(item) for item in value]
    return value.detach().cpu().numpy().copy() if isinstance(value, torch.Tensor) else value


def as_tensors(value: Any) -> Any:
    """A deep copy with tensors in the place of arrays, and lists in that of tuples."""
    if isinstance(value, Mapping):
        return {key: as_tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_tensors(item) for item in value]
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
