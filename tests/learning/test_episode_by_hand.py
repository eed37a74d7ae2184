"""One battle of three steps, from rewards to the loss, with pencil and paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dm2_ray.config.schema import PPOSettings
from dm2_ray.learning.advantages import generalized_advantages
from dm2_ray.learning.ppo import PPOBatch, normalize_advantages, ppo_losses

SETTINGS = PPOSettings(
    gamma=0.5, gae_lambda=0.5, clip=0.1, huber_delta=1.0, value_coef=0.5, entropy_coef=0.01, clip_value_loss=True
)
ALIVE = torch.tensor([True, True, True])


def advantages_and_returns(*, is_terminated: bool, next_value: float) -> tuple[torch.Tensor, torch.Tensor]:
    return generalized_advantages(
        torch.tensor([5.0, 1.0, 0.0]),
        torch.tensor([2.0, 2.0, 4.0]),
        np.array([3]),
        torch.tensor([is_terminated]),
        torch.tensor([next_value]),
        SETTINGS.gamma,
        SETTINGS.gae_lambda,
    )


def test_three_steps_from_reward_to_loss():
    """gamma = lambda = 1/2; the battle ends after the third step.

    step                         0                    1                2
    reward, old value            5, 2                 1, 2             0, 4
    delta                        5 + 2/2 - 2 = 4      1 + 4/2 - 2 = 1  0 + 0 - 4 = -4
    advantage                    4 + 0/4 = 4          1 - 4/4 = 0      -4
    return                       6                    2                0
    normalized (std sqrt 32/3)   s = sqrt 3/2         0                -s

    p new / p then               0.6 / 0.5 = 1.2      0.8 / 0.5 = 1.6  0.4 / 0.5 = 0.8
    clipped to 1 +- 0.1          1.1                  1.1              0.9
    the smaller gain             1.1 s                0                min(-0.8 s, -0.9 s) = -0.9 s

    new value, clipped           2.5, 2.1             2, 2             3, 3.9
    errors                       -3.5, -3.9           0, 0             3, 3.9
    the larger Huber loss        3.9 - 1/2 = 3.4      0                3.9 - 1/2 = 3.4
    """
    advantages, returns = advantages_and_returns(is_terminated=True, next_value=99.0)
    assert advantages.tolist() == [4.0, 0.0, -4.0] and returns.tolist() == [6.0, 2.0, 0.0]
    normalized = normalize_advantages(advantages, ALIVE)
    s = math.sqrt(1.5)
    assert normalized.tolist() == pytest.approx([s, 0.0, -s], abs=1e-5)

    taken = [0.6, 0.8, 0.4]
    losses = ppo_losses(
        torch.tensor([[math.log(p), math.log(1.0 - p)] for p in taken]),
        torch.tensor([2.5, 2.0, 3.0]),
        PPOBatch(
            actions=torch.zeros(3, dtype=torch.int64),
            behavior_logp=torch.full((3,), math.log(0.5)),
            advantages=normalized,
            alive=ALIVE,
            old_values=torch.tensor([2.0, 2.0, 4.0]),
            value_targets=returns,
        ),
        SETTINGS,
    )
    policy_loss, value_loss = -(1.1 * s + 0.0 - 0.9 * s) / 3, (3.4 + 0.0 + 3.4) / 3
    entropy = sum(-p * math.log(p) - (1.0 - p) * math.log(1.0 - p) for p in taken) / 3
    expected = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "total_loss": policy_loss + 0.5 * value_loss - 0.01 * entropy,
        "clip_fraction": 1.0,
    }
    assert {name: losses[name].item() for name in expected} == pytest.approx(expected, rel=1e-5)


def test_the_same_battle_cut_by_the_time_limit():
    """The value to come, 8, is worth 4 more in the last delta; a quarter of that arrives a step earlier, and so on."""
    advantages, returns = advantages_and_returns(is_terminated=False, next_value=8.0)
    assert advantages.tolist() == [4.25, 1.0, 0.0]
    assert returns.tolist() == [6.25, 3.0, 4.0]
