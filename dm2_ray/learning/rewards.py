"""From the discriminator's logit to what the agent learns from.

Shapes: E episodes, S steps of all episodes laid end to end.

With D the probability of "expert" and l = log D - log(1 - D) its logit (expert is high),

    r_match(o) = l(o)                      the log-ratio of the expert's to the agent's visitation, when D is optimal
    r          = r_team + c * r_match      (DM2, Wang et al. 2023, arXiv 2206.00233)

so that maximising the expected sum of r_match is minimising KL(own visitation || own expert's visitation).

After a battle of length L the padded visitations go on, in one and the same state, to the horizon H, earning the
padding state's l at every step. Nothing can be decided any more, so the sum

    r_match(padding) * (gamma + gamma^2 + ... + gamma^(H - L))

is known when the last real step is taken, and is paid there (at the last step's own time, hence from gamma^1 on).
Returns from every real step are then what they would be if the padded steps were rows of the batch and the critic
knew their value exactly; no loss ever sees a padded step. A battle cut by its time limit instead of ended has its
bootstrap value in place of this sum. `masked` visitations end with the battle and pay nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def airl_reward(logits_expert_is_high: Tensor) -> Tensor:
    """log D - log(1 - D), which is the logit itself."""
    return logits_expert_is_high


def mix_rewards(team: Tensor, matching: Tensor, coefficient: float) -> Tensor:
    """r_team + coefficient * r_match, step by step."""
    return team + coefficient * matching


def discounted_remainder(
    episode_lengths: npt.NDArray[np.int64], terminated: npt.NDArray[np.bool_], horizon: int, gamma: float
) -> npt.NDArray[np.float64]:
    """[E] gamma + gamma^2 + ... + gamma^(horizon - length): the weight of the padding state's reward; 0 where cut.

    Raises ValueError when a battle is longer than the horizon.
    """
    remaining = horizon - np.asarray(episode_lengths)
    if remaining.min() < 0:
        raise ValueError(f"a battle of {horizon - int(remaining.min())} steps is longer than the horizon of {horizon}")
    weights = remaining.astype(np.float64) if gamma == 1.0 else gamma * (1.0 - gamma**remaining) / (1.0 - gamma)
    return np.where(terminated, weights, 0.0)


def pay_at_last_step(rewards: Tensor, amounts: Tensor, episode_lengths: npt.NDArray[np.int64]) -> Tensor:
    """[S] rewards with `amounts` [E] added at each battle's last step; the argument is left as it is."""
    last_rows = torch.as_tensor(np.cumsum(episode_lengths) - 1, device=rewards.device)
    return rewards.index_add(0, last_rows, amounts.to(rewards))


def matching_shares(team: Tensor, matching: Tensor, coefficient: float) -> dict[str, float]:
    """What the matching reward contributes; names as logged.

    `matching_reward_mean`, `matching_reward_std` (before the coefficient) and `matching_reward_share`:
    sum |c r_match| / (sum |c r_match| + sum |r_team|), 0 where nothing is paid at all.
    """
    paid = float((coefficient * matching).abs().sum())
    total = paid + float(team.abs().sum())
    return {
        "matching_reward_mean": float(matching.mean()),
        "matching_reward_std": float(matching.std(correction=0)),
        "matching_reward_share": paid / total if total > 0 else 0.0,
    }
