"""Advantages against a slow independent reference, a closed form, and the boundaries between battles."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.learning.advantages import generalized_advantages


def battle_of(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, bool, float]:
    return rng.normal(size=length), rng.normal(size=length), bool(rng.random() < 0.5), float(rng.normal())


def naive_advantages(rewards, values, terminated, bootstrap, gamma, lam) -> list[float]:
    """The definition, not the recursion: A_t = sum_k (gamma lam)^k delta_(t+k), one battle, double loop."""
    length = len(rewards)
    following = [*values[1:], 0.0 if terminated else bootstrap]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(length)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(length - t)) for t in range(length)]


def advantages_of(battles, gamma=0.99, lam=0.95):
    rewards, values, terminated, bootstrap = zip(*battles, strict=True)
    return generalized_advantages(
        torch.tensor(np.concatenate(rewards), dtype=torch.float32),
        torch.tensor(np.concatenate(values), dtype=torch.float32),
        np.array([len(r) for r in rewards]),
        torch.tensor(terminated),
        torch.tensor(bootstrap, dtype=torch.float32),
        gamma,
        lam,
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    gamma=st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    lam=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    seed=st.integers(0, 1000),
)
def test_equals_the_definition_battle_by_battle(lengths, gamma, lam, seed):
    rng = np.random.default_rng(seed)
    battles = [battle_of(length, rng) for length in lengths]
    advantages, returns = advantages_of(battles, gamma, lam)
    expected = np.concatenate([naive_advantages(*battle, gamma, lam) for battle in battles])
    np.testing.assert_allclose(advantages.numpy(), expected, rtol=1e-4, atol=1e-4)
    values = np.concatenate([battle[1] for battle in battles])
    np.testing.assert_allclose(returns.numpy(), expected + values, rtol=1e-4, atol=1e-4)


def test_two_battles_by_hand():
    # gamma 1/2, lambda 1/2, so gamma lambda = 1/4.
    #   ended: rewards 1, 2; values 4, 2      deltas 1 + 1 - 4 = -2, 2 + 0 - 2 = 0       A = -2 + 0/4, 0
    #   cut:   rewards 0, 4; values 2, 4; 8   deltas 0 + 2 - 2 =  0, 4 + 4 - 4 = 4       A = 0 + 4/4,  4
    ended = (np.array([1.0, 2.0]), np.array([4.0, 2.0]), True, 8.0)
    cut = (np.array([0.0, 4.0]), np.array([2.0, 4.0]), False, 8.0)
    advantages, returns = advantages_of([ended, cut], gamma=0.5, lam=0.5)
    assert advantages.tolist() == [-2.0, 0.0, 1.0, 4.0]
    assert returns.tolist() == [2.0, 2.0, 3.0, 8.0]


def test_closed_form_for_constant_reward_and_zero_values():
    length, gamma, lam = 10, 0.9, 0.8
    advantages, _ = advantages_of([(np.ones(length), np.zeros(length), True, 123.0)], gamma, lam)
    decay = gamma * lam
    expected = [(1 - decay ** (length - t)) / (1 - decay) for t in range(length)]
    np.testing.assert_allclose(advantages.numpy(), expected, rtol=1e-5)


def test_lambda_one_returns_are_discounted_sums_whatever_the_critic_says():
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=7)
    for terminated, bootstrap in ((True, 9.0), (False, 9.0)):
        _, returns = advantages_of([(rewards, rng.normal(size=7), terminated, bootstrap)], gamma=0.9, lam=1.0)
        tail = 0.0 if terminated else bootstrap
        expected = [sum(0.9**k * r for k, r in enumerate(rewards[t:])) + 0.9 ** (7 - t) * tail for t in range(7)]
        np.testing.assert_allclose(returns.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_battle_is_not_touched_by_its_neighbors():
    rng = np.random.default_rng(0)
    middle = battle_of(5, rng)
    alone, _ = advantages_of([middle])
    between, _ = advantages_of([battle_of(9, rng), middle, battle_of(2, rng)])
    torch.testing.assert_close(between[9:14], alone, rtol=0, atol=0)


def test_the_value_after_an_ended_battle_is_never_looked_at():
    battle = (np.ones(3), np.ones(3), True, float("nan"))
    advantages, returns = advantages_of([battle])
    assert advantages.isfinite().all() and returns.isfinite().all()
