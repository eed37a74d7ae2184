"""The check behind every dataclass of arrays: each field has the type and shape that its docstring promises."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Expected = Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]]


def check_arrays(holder: object, expected: Expected) -> None:
    """Raises ValueError unless each named attribute of `holder` is an array of the given dtype and shape."""
    for name, (dtype, shape) in expected.items():
        array: npt.NDArray[np.generic] = getattr(holder, name)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{name} must be {np.dtype(dtype)} {list(shape)}, found {array.dtype} {list(array.shape)}")
