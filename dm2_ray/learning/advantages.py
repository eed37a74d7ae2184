"""Generalized advantage estimation over whole battles of different lengths.

Shapes: E episodes, S steps of all episodes laid end to end, T steps of the longest episode.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dm2_ray.learning.sequences import PackedLayout


@torch.no_grad()
def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    episode_lengths: npt.NDArray[np.int64] | Tensor,
    terminated: Tensor,
    bootstrap_values: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of every step (Schulman et al. 2016, arXiv 1506.02438, eq. 16), within each episode:

        delta_t = r_t + gamma V_(t+1) - V_t,    A_t = delta_t + gamma lam A_(t+1),    A_L = 0,    return_t = A_t + V_t

    where V_L is 0 when the battle ended, and the value of the final observation when the time limit cut it.

    Args:
        rewards: [S] the rewards that the agent learns from (team and matching reward together).
        values: [S] in reward units.
        episode_lengths: [E], sum S.
        terminated: [E] bool.
        bootstrap_values: [E] value of the final observations in reward units; ignored where `terminated`.

    Returns:
        Advantages [S] and returns [S] in flat order, in the dtype of `values`.
    """
    layout = PackedLayout.from_lengths(episode_lengths, device=values.device)
    last_rows = torch.as_tensor(np.cumsum(np.asarray(episode_lengths)) - 1, device=values.device)
    next_values = torch.empty_like(values)
    next_values[:-1] = values[1:]
    next_values[last_rows] = torch.where(terminated, 0.0, bootstrap_values).to(values.dtype)
    # In packed order the steps at time t are one slice, and those that go on to t + 1 are its head.
    advantages = layout.pack(rewards + gamma * next_values - values)
    running = list(torch.split(advantages, layout.batch_sizes.tolist()))
    for now, later in zip(running[-2::-1], running[:0:-1], strict=True):
        now[: len(later)].add_(later, alpha=gamma * lam)
    flat = layout.unpack(advantages)
    return flat, flat + values
