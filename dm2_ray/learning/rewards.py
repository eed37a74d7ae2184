"""From the discriminator's logit to what the agent learns from.

Shapes: E episodes, S steps of all episodes laid end to end.

With D the probability of "expert" and l = log D - log(1 - D) its logit (expert is high), `matching.form` names a
function of l: one of REWARD_FORMS below, or one of your own as `package.module:function`
(dm2_ray/examples/new_matching_reward.py shows one).

`matching.reward` says what the agent learns from:

    both      r = r_team + c * r_match                     (DM2, Wang et al. 2023, arXiv 2206.00233)
    matching  r = c * r_match
    task      r = r_team

At the optimal D, l is the log-ratio of the expert's to the agent's visitation, so that maximizing the expected sum of
airl is minimizing KL(own visitation || own expert's visitation), and of fairl the KL the other way round. gail pays
for every step survived, log_d charges for it: where battles can end early, the sign alone makes a difference.

After a battle of length L the padded visitations go on, in one and the same state, to the horizon H, earning the
padding state's r_match at every step. Nothing can be decided any more, so the sum

    r_match(padding) * (gamma + gamma^2 + ... + gamma^(H - L))

is known when the last real step is taken, and is paid there (at the last step's own time, hence from gamma^1 on).
Returns from every real step are then what they would be if the padded steps were rows of the batch and the critic
knew their value exactly; no loss ever sees a padded step. A battle cut by its time limit instead of ended has its
bootstrap value in place of this sum. `masked` visitations end with the battle and pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dm2_ray.config.dotted_path import import_function

RewardForm: TypeAlias = Callable[[Tensor], Tensor]
"""Logits [R], expert is high, to matching rewards [R], before normalization and coefficient. No gradient is needed."""
RewardSource = Literal["both", "matching", "task"]

FAIRL_CLIP = 5.0
"""Largest |logit| of the fairl form, whose exponential would otherwise drown every other reward."""


def airl(logits: Tensor) -> Tensor:
    """l = log D - log(1 - D): the log-ratio itself (Fu et al. 2018, arXiv 1710.11248; DM2)."""
    return logits


def gail(logits: Tensor) -> Tensor:
    """softplus(l) = -log(1 - D): above 0, so it pays for every step survived (Ho and Ermon 2016, arXiv 1606.03476)."""
    return functional.softplus(logits)


def log_d(logits: Tensor) -> Tensor:
    """-softplus(-l) = log D: below 0, so it charges for every step; the other half of airl (gail + log_d = airl)."""
    return -functional.softplus(-logits)


def fairl(logits: Tensor) -> Tensor:
    """-l exp(l), with l clipped to +-5: the reversed KL (Ghasemipour et al. 2019, arXiv 1911.02256)."""
    clipped = logits.clamp(-FAIRL_CLIP, FAIRL_CLIP)
    return -clipped * clipped.exp()


def bounded(logits: Tensor) -> Tensor:
    """tanh(l / 2) = 2 D - 1: between -1 and 1, however sure the discriminator is."""
    return torch.tanh(0.5 * logits)


REWARD_FORMS: dict[str, RewardForm] = {"airl": airl, "gail": gail, "log_d": log_d, "fairl": fairl, "bounded": bounded}
"""By the names that `matching.form` knows."""


def matching_reward(logits_expert_is_high: Tensor, form: str) -> Tensor:
    """r_match of each logit, before normalization and coefficient.

    Args:
        logits_expert_is_high: [R].
        form: A name in REWARD_FORMS, or `package.module:function`.

    Raises:
        ConfigError: The function cannot be imported.
        ValueError: The function does not return one reward per logit.
    """
    function: RewardForm = REWARD_FORMS[form] if form in REWARD_FORMS else import_function(form)
    rewards = function(logits_expert_is_high)
    if not isinstance(rewards, Tensor) or rewards.shape != logits_expert_is_high.shape:
        found = list(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(
            f"matching.form {form} must return a tensor {list(logits_expert_is_high.shape)}, one reward per logit; "
            f"found {found}"
        )
    return rewards


def mix_rewards(team: Tensor, matching: Tensor, coefficient: float, source: RewardSource = "both") -> Tensor:
    """What the agent learns from, step by step; with `task` the team's reward itself, bit for bit."""
    if source == "task":
        return team
    paid = coefficient * matching
    return paid if source == "matching" else team + paid


def absorbing_state_weight(
    episode_lengths: npt.NDArray[np.int64], terminated: npt.NDArray[np.bool_], horizon: int, gamma: float
) -> npt.NDArray[np.float64]:
    """[E] gamma + gamma^2 + ... + gamma^(horizon - length): the weight of the padding state's reward; 0 where cut.

    Raises:
        ValueError: A battle is longer than the horizon.
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
