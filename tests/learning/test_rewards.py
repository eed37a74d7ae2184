"""Matching rewards and what is paid for the time after a battle's end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dm2_ray.learning.rewards import (
    airl_reward,
    discounted_remainder,
    matching_shares,
    mix_rewards,
    pay_at_last_step,
)


def test_airl_reward_is_the_log_odds():
    d = torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(airl_reward(torch.logit(d)), d.log() - (1 - d).log())


def test_mixing():
    mixed = mix_rewards(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 4.0]), 0.5)
    assert mixed.tolist() == [0.5, 4.0]


def test_discounted_remainder_by_hand():
    weights = discounted_remainder(np.array([3, 5, 4, 2]), np.array([True, True, True, False]), horizon=5, gamma=0.5)
    assert weights.tolist() == [0.5 + 0.25, 0.0, 0.5, 0.0]
    assert discounted_remainder(np.array([2]), np.array([True]), horizon=5, gamma=1.0).tolist() == [3.0]
    assert discounted_remainder(np.array([2]), np.array([True]), horizon=5, gamma=0.0).tolist() == [0.0]
    with pytest.raises(ValueError, match="6 steps is longer than the horizon of 5"):
        discounted_remainder(np.array([6]), np.array([True]), horizon=5, gamma=0.5)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99, 1.0])
def test_returns_are_those_of_the_explicitly_padded_battle(gamma):
    rng = np.random.default_rng(0)
    horizon, padding_reward, lengths = 9, -0.7, np.array([4, 9, 1])
    rewards = rng.normal(size=lengths.sum())
    weights = discounted_remainder(lengths, np.full(3, True), horizon, gamma)
    paid = pay_at_last_step(torch.from_numpy(rewards), padding_reward * torch.from_numpy(weights), lengths).numpy()
    first = 0
    for length in lengths:
        padded = np.concatenate([rewards[first : first + length], np.full(horizon - length, padding_reward)])
        for t in range(length):
            expected = sum(gamma**k * r for k, r in enumerate(padded[t:]))
            found = sum(gamma**k * r for k, r in enumerate(paid[first + t : first + length]))
            assert found == pytest.approx(expected, abs=1e-9)
        first += length


def test_payment_leaves_its_argument_alone():
    rewards = torch.zeros(3)
    assert pay_at_last_step(rewards, torch.tensor([1.0, 2.0]), np.array([2, 1])).tolist() == [0, 1, 2]
    assert rewards.tolist() == [0, 0, 0]


def test_shares_by_hand():
    shares = matching_shares(torch.tensor([1.0, 0.0]), torch.tensor([3.0, -1.0]), 0.5)
    assert shares == pytest.approx(
        {"matching_reward_mean": 1.0, "matching_reward_std": 2.0, "matching_reward_share": 2.0 / 3.0}
    )
    assert matching_shares(torch.zeros(2), torch.zeros(2), 0.5)["matching_reward_share"] == 0.0
