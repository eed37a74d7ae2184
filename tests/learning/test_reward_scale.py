"""The running deviation of the matching reward, against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dm2_ray.learning.reward_scale import RewardScale


def test_two_updates_by_hand():
    # beta 1/2. Batches -1, 3 (mean 1, square 5) and 4, 8 (mean 6, square 40); weights 1/4 and 1/2, so 1/3 and 2/3.
    scale = RewardScale(beta=0.5)
    assert scale.std.item() == 1.0
    scale.update(torch.tensor([-1.0, 3.0]))
    assert scale.std.item() == pytest.approx(2.0)
    scale.update(torch.tensor([4.0, 8.0]))
    mean, square = (1 + 2 * 6) / 3, (5 + 2 * 40) / 3
    assert scale.std.item() == pytest.approx(math.sqrt(square - mean**2))


def test_noise_around_nothing_is_not_blown_up():
    scale = RewardScale()
    scale.update(torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1e-3)
    assert scale.std.item() == pytest.approx(0.1)


def test_units_of_the_reward_cancel():
    rewards = torch.randn(8, 200, generator=torch.Generator().manual_seed(0))
    scaled = {}
    for unit in (1.0, 50.0):
        scale = RewardScale()
        for batch in rewards * unit:
            scale.update(batch)
        scaled[unit] = rewards[-1] * unit / scale.std
    torch.testing.assert_close(scaled[1.0], scaled[50.0], rtol=1e-4, atol=1e-5)


def test_the_state_goes_on_bit_for_bit_among_other_arrays():
    original, restored = RewardScale(), RewardScale()
    original.update(torch.tensor([1.0, 7.0]))
    restored.update(torch.tensor([100.0, 0.0]))
    restored.load_arrays({**original.to_arrays(), "something_else": np.zeros(3)})
    for scale in (original, restored):
        scale.update(torch.tensor([2.0, 3.0]))
    assert torch.equal(original.std, restored.std)
    restored.load_arrays({"something_else": np.zeros(3)})
    assert restored.std.item() == 1.0


def test_a_snapshot_does_not_change_with_the_scale():
    scale = RewardScale()
    scale.update(torch.tensor([1.0, 7.0]))
    snapshot = scale.to_arrays()
    before = {name: value.copy() for name, value in snapshot.items()}
    scale.update(torch.tensor([50.0, 0.0]))
    assert all(np.array_equal(snapshot[name], before[name]) for name in before)
