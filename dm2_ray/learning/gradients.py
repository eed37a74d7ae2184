"""The last look at a gradient before it is applied."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class LearningDiverged(ArithmeticError):
    """A loss or gradient is NaN or infinite."""


def checked_norm(parameters: Iterable[Tensor], loss: Tensor, *, limit: float = math.inf, of: str) -> Tensor:
    """Clips the gradient of all parameters together to the norm `limit`; returns the norm it had before.

    Args:
        loss: for the message.
        of: whose gradient this is, for the message.

    Raises:
        LearningDiverged: The norm is not finite.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if not torch.isfinite(norm):
        value = float(loss.detach())
        raise LearningDiverged(
            f"{of}: the gradient is not finite (loss {value}); lower the learning rate or look at the data"
        )
    return norm
