"""From the discriminator's logit to what the agent learns from.

Shapes: E episodes, S steps of all episodes laid end to end.

With D the probability of "expert" and l = log D - log(1 - D) its logit (expert is high), `matching.form` is

    airl      l                log D - log(1 - D)          (Fu et al. 2018, arXiv 1710.11248; DM2)
    gail      softplus(l)      -log(1 - D), above 0        (Ho and Ermon 2016, arXiv 1606.03476)
    log_d     -softplus(-l)    log D, below 0              (the other half of airl: gail + log_d = airl)
    fairl     -l exp(l)        l clipped to +-5            (Ghasemipour et al. 2019, arXiv 1911.02256)
    bounded   tanh(l / 2)      2 D - 1

and `matching.reward` says what is learnt from:

    both      r = r_team + c * r_match                     (DM2, Wang et al. 2023, arXiv 2206.00233)
    matching  r = c * r_match
    task      r = r_team

At the optimal D, l is the log-ratio of the expert's to the agent's visitation, so that maximizing the expected sum of
airl is minimizing KL(own visitation || own expert's visitation), and of fairl the KL the other way round. gail pays
for every step that is lived, log_d takes away: where battles can end early, the sign alone says something.

After a battle of length L the padded visitations go on, in one and the same state, to the horizon H, earning the
padding state's r_match at every step. Nothing can be decided any more, so the sum

    r_match(padding) * (gamma + gamma^2 + ... + gamma^(H - L))

is known when the last real step is taken, and is paid there (at the last step's own time, hence from gamma^1 on).
Returns from every real step are then what they would be if the padded steps were rows of the batch and the critic
knew their value exactly; no loss ever sees a padded step. A battle cut by its time limit instead of ended has its
bootstrap value in place of this sum. `masked` visitations end with the battle and pay nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

RewardForm = Literal["airl", "gail", "log_d", "fairl", "bounded"]
RewardSource = Literal["both", "matching", "task"]

FAIRL_CLIP = 5.0
"""Largest |logit| of the fairl form, whose exponential would otherwise drown every other reward."""


def matching_reward(logits_expert_is_high: Tensor, form: RewardForm) -> Tensor:
    """r_match of each logit, before normalization and coefficient; formulas at the head of this file."""
    logits = logits_expert_is_high
    if form == "airl":
        return logits
    if form == "gail":
        return functional.softplus(logits)
    if form == "log_d":
        return -functional.softplus(-logits)
    if form == "fairl":
        clipped = logits.clamp(-FAIRL_CLIP, FAIRL_CLIP)
        return -clipped * clipped.exp()
    return torch.tanh(0.5 * logits)


def mix_rewards(team: Tensor, matching: Tensor, coefficient: float, source: RewardSource = "both") -> Tensor:
    """What is learnt from, step by step; with `task` the team's reward itself, bit for bit."""
    if source == "task":
        return team
    paid = coefficient * matching
    return paid if source == "matching" else team + paid


def absorbing_state_weight(
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


def add_at_last_step(rewards: Tensor, amounts: Tensor, episode_lengths: npt.NDArray[np.int64]) -> Tensor:
    """[S] rewards with `amounts` [E] added at each battle's last step; the argument is left as it is."""
    last_rows = torch.as_tensor(np.cumsum(episode_lengths) - 1, device=rewards.device)
    return rewards.index_add(0, last_rows, amounts.to(rewards))


def matching_shares(
    team: Tensor, matching: Tensor, coefficient: float, source: RewardSource = "both"
) -> dict[str, float]:
    """What the matching reward contributes; names as logged.

    `matching_reward_mean`, `matching_reward_std` (before the coefficient, whether it is paid or not) and
    `matching_reward_share`: sum |c r_match| / (sum |c r_match| + sum |r_team|) of what is paid, 0 where nothing is
    paid at all. So the share is 0 with `task`, and 1 with `matching`.
    """
    from_matching = 0.0 if source == "task" else float((coefficient * matching).abs().sum())
    from_team = 0.0 if source == "matching" else float(team.abs().sum())
    total = from_matching + from_team
    return {
        "matching_reward_mean": float(matching.mean()),
        "matching_reward_std": float(matching.std(correction=0)),
        "matching_reward_share": from_matching / total if total > 0 else 0.0,
    }
