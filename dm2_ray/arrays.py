"""Short names of array types, and checks for dataclasses of arrays: types, shapes and finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

Expected = Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]]


def check_fields(holder: object, expected: Expected) -> None:
    """Raises ValueError unless each named field of `holder` is an array of the expected dtype and shape."""
    for name, (dtype, shape) in expected.items():
        array: npt.NDArray[np.generic] = getattr(holder, name)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{name} must be {np.dtype(dtype)} {list(shape)}, found {array.dtype} {list(array.shape)}")


def is_finite(values: npt.NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite."""
    return bool(np.isfinite(values).all())


def check_finite_fields(holder: object, *names: str) -> None:
    """Raises ValueError if a named field of `holder` contains NaN or infinity."""
    for name in names:
        if not is_finite(getattr(holder, name)):
            raise ValueError(f"{name} must be finite, found NaN or infinity")
