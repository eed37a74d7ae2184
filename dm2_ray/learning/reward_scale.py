"""The running scale of the matching reward, so that its coefficient means the same on every map.

Shapes: S steps of one iteration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from dm2_ray.learning.ppo import ValueNormalizer

PREFIX = "matching_reward_scale_"


class RewardScale:
    """Running standard deviation of the matching reward: r_match becomes r_match / std.

    With m_j and v_j mean and variance of r_match over the real steps of iteration j, and the weights
    w_j = (1 - beta) beta^(k-j) of the iterations j = 1 ... k so far,

        mean = sum_j w_j m_j / sum_j w_j        std^2 = sum_j w_j (v_j + m_j^2) / sum_j w_j - mean^2

    an exponential average corrected for its start value (computed by ValueNormalizer). The rewards of an iteration
    enter the average before they are divided. The mean is not subtracted: where battles differ in length, a constant
    in the reward carries information. The reward for padding is divided by the same number, but is not part of the
    average.

    std is at least `minimum_std`: a discriminator that cannot tell the sides apart has logits near 0, and its noise
    must not be amplified to the size of a signal.
    """

    def __init__(self, beta: float = 0.99, minimum_std: float = 0.1) -> None:
        self._statistics = ValueNormalizer(beta, minimum_std)

    def update(self, rewards: Tensor) -> None:
        """Adds r_match [S] of one iteration to the statistics."""
        self._statistics.to(rewards.device)
        self._statistics.update(rewards)

    @property
    def std(self) -> Tensor:
        """Scalar; 1 before the first update."""
        return self._statistics.std

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of the state, for a snapshot."""
        state = self._statistics.state_dict()
        return {f"{PREFIX}{name}": value.cpu().numpy().copy() for name, value in state.items()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Restores the state from `to_arrays`, which may be mixed with other arrays; starts anew if it is absent."""
        fresh = ValueNormalizer(self._statistics.beta, self._statistics.minimum_std).state_dict()
        values = {name: float(arrays.get(f"{PREFIX}{name}", start)) for name, start in fresh.items()}
        self._statistics.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
