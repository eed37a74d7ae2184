"""Matching rewards and what is paid for the time after a battle's end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dm2_ray.learning.rewards import (
    absorbing_state_weight,
    add_at_last_step,
    matching_reward,
    matching_shares,
    mix_rewards,
)

# D = 1/2, 3/4, 1/4: logits 0, log 3, -log 3. What each form pays there, worked out from D.
FORMS = {
    "airl": [0.0, math.log(3), -math.log(3)],
    "gail": [math.log(2), math.log(4), math.log(4 / 3)],
    "log_d": [-math.log(2), -math.log(4 / 3), -math.log(4)],
    "fairl": [0.0, -3 * math.log(3), math.log(3) / 3],
    "bounded": [0.0, 0.5, -0.5],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_by_hand(form):
    logits = torch.tensor([0.0, math.log(3), -math.log(3)])
    assert matching_reward(logits, form).tolist() == pytest.approx(FORMS[form], abs=1e-6)


@pytest.mark.parametrize(
    ("form", "low", "high"),
    [
        ("airl", -200.0, 200.0),
        ("gail", 0.0, 200.0),
        ("log_d", -200.0, 0.0),
        ("fairl", 5 * math.exp(-5), -5 * math.exp(5)),
        ("bounded", -1.0, 1.0),
    ],
)
def test_certainty_pays_finite_amounts(form, low, high):
    assert matching_reward(torch.tensor([-200.0, 200.0]), form).tolist() == pytest.approx([low, high], rel=1e-5)


def test_gail_and_log_d_are_the_two_halves_of_airl():
    logits = torch.linspace(-20, 20, 41)
    halves = matching_reward(logits, "gail") + matching_reward(logits, "log_d")
    torch.testing.assert_close(halves, matching_reward(logits, "airl"))


def test_what_is_learnt_from_by_source():
    team, matching = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 4.0])
    assert mix_rewards(team, matching, 0.5).tolist() == [0.5, 4.0]
    assert mix_rewards(team, matching, 0.5, "both").tolist() == [0.5, 4.0]
    assert mix_rewards(team, matching, 0.5, "matching").tolist() == [-0.5, 2.0]
    assert mix_rewards(team, torch.full((2,), torch.nan), 0.5, "task").tolist() == [1.0, 2.0]


def test_discounted_remainder_by_hand():
    weights = absorbing_state_weight(np.array([3, 5, 4, 2]), np.array([True, True, True, False]), horizon=5, gamma=0.5)
    assert weights.tolist() == [0.5 + 0.25, 0.0, 0.5, 0.0]
    assert absorbing_state_weight(np.array([2]), np.array([True]), horizon=5, gamma=1.0).tolist() == [3.0]
    assert absorbing_state_weight(np.array([2]), np.array([True]), horizon=5, gamma=0.0).tolist() == [0.0]
    with pytest.raises(ValueError, match="6 steps is longer than the horizon of 5"):
        absorbing_state_weight(np.array([6]), np.array([True]), horizon=5, gamma=0.5)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99, 1.0])
def test_returns_are_those_of_the_explicitly_padded_battle(gamma):
    rng = np.random.default_rng(0)
    horizon, padding_reward, lengths = 9, -0.7, np.array([4, 9, 1])
    rewards = rng.normal(size=lengths.sum())
    weights = absorbing_state_weight(lengths, np.full(3, True), horizon, gamma)
    paid = add_at_last_step(torch.from_numpy(rewards), padding_reward * torch.from_numpy(weights), lengths).numpy()
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
    assert add_at_last_step(rewards, torch.tensor([1.0, 2.0]), np.array([2, 1])).tolist() == [0, 1, 2]
    assert rewards.tolist() == [0, 0, 0]


def test_shares_by_hand():
    shares = matching_shares(torch.tensor([1.0, 0.0]), torch.tensor([3.0, -1.0]), 0.5)
    assert shares == pytest.approx(
        {"matching_reward_mean": 1.0, "matching_reward_std": 2.0, "matching_reward_share": 2.0 / 3.0}
    )
    assert matching_shares(torch.zeros(2), torch.zeros(2), 0.5)["matching_reward_share"] == 0.0


def test_shares_are_of_what_is_paid_but_the_reward_is_told_all_the_same():
    team, matching = torch.tensor([1.0, 0.0]), torch.tensor([3.0, -1.0])
    for source, share in (("task", 0.0), ("matching", 1.0)):
        assert matching_shares(team, matching, 0.5, source) == pytest.approx(
            {"matching_reward_mean": 1.0, "matching_reward_std": 2.0, "matching_reward_share": share}
        )
