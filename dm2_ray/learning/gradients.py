"""NaN and infinity stop an update: data are checked before the update, gradients before they are applied."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dm2_ray.arrays import is_finite
from dm2_ray.errors import RunFailed


class LearningDiverged(RunFailed, ArithmeticError):
    """An observation, a reward, a loss or a gradient is NaN or infinite."""


def check_finite(data: Mapping[str, npt.NDArray[np.floating]], *, owner: str) -> None:
    """Checks an update's data.

    Args:
        data: Arrays of any shape, by name.
        owner: Whose data these are, for the message.

    Raises:
        LearningDiverged: A number is NaN or infinite.
    """
    for name, values in data.items():
        if not is_finite(values):
            count = values.size - int(np.isfinite(values).sum())
            raise LearningDiverged(
                f"{owner}: {count:,} of {values.size:,} {name} are not finite; check the world that they come from"
            )


def clip_grad_norm_checked(
    parameters: Iterable[Tensor], loss: Tensor, *, limit: float = math.inf, owner: str
) -> Tensor:
    """Clips the gradient of all parameters together to the norm `limit`; returns the norm it had before.

    Args:
        loss: The loss of this gradient, for the message.
        owner: Whose gradient this is, for the message.

    Raises:
        LearningDiverged: The norm is not finite.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if not torch.isfinite(norm):
        value = float(loss.detach())
        raise LearningDiverged(
            f"{owner}: the gradient is not finite (loss {value}); lower the learning rate or check the data"
        )
    return norm
