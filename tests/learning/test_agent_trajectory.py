"""A trajectory checks itself, survives the wire, and says what the agent's last action was."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest

from dm2_ray.learning.agent_trajectory import AgentTrajectory


def test_last_actions_are_none_at_first_steps_and_the_previous_action_elsewhere(battles):
    trajectory = battles([2, 1, 3])
    a = trajectory.actions
    assert trajectory.last_actions.tolist() == [-1, a[0], -1, -1, a[3], a[4]]
    assert trajectory.last_rows.tolist() == [1, 2, 5]


def test_arrays_survive_a_round_trip_through_a_file(battles):
    trajectory = battles([2, 1, 3], seed=7)
    file = io.BytesIO()
    np.savez(file, **trajectory.to_arrays())
    file.seek(0)
    back = AgentTrajectory.from_arrays(dict(np.load(file)))
    assert back.policy_version == 7 and isinstance(back.policy_version, int)
    for name, array in trajectory.to_arrays().items():
        np.testing.assert_array_equal(array, back.to_arrays()[name], strict=True)


def test_from_arrays_names_what_is_missing_and_what_is_unknown(battles):
    arrays = battles([2]).to_arrays()
    arrays["rewrads"] = arrays.pop("rewards")
    with pytest.raises(ValueError, match=r"missing arrays \['rewards'\], unknown arrays \['rewrads'\]"):
        AgentTrajectory.from_arrays(arrays)


def test_concatenation_lays_battles_end_to_end_and_keeps_the_oldest_version(battles):
    first, second = battles([2, 1], seed=5), battles([3], seed=3)
    both = AgentTrajectory.concatenate([first, second])
    assert both.episode_lengths.tolist() == [2, 1, 3] and both.policy_version == 3
    np.testing.assert_array_equal(both.observations[:3], first.observations)
    np.testing.assert_array_equal(both.observations[3:], second.observations)
    np.testing.assert_array_equal(both.last_actions[3:], second.last_actions)
    with pytest.raises(ValueError, match="nothing to concatenate"):
        AgentTrajectory.concatenate([])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("observations", lambda x: x.astype(np.float64), r"observations must be float32 \[5, 6\], found float64"),
        ("actions", lambda x: x[:-1], r"actions must be int64 \[5\], found int64 \[4\]"),
        ("episode_lengths", lambda x: x + 1, "sum to the 5 steps, found a sum of 7"),
        ("episode_lengths", lambda x: np.array([5, 0]), "minimum of 0"),
        ("actions", lambda x: x * 0 + 4, "must lie in 0 ... 3"),
        ("action_mask", lambda x: x & False, "at step 0 .* was not an available one"),
        ("rewards", lambda x: x * np.float32("nan"), "rewards must be finite"),
        ("final_observations", lambda x: x[:, 1:], r"final_observations must be float32 \[2, 6\]"),
        ("observations", lambda x: x[0], "found shapes"),
    ],
)
def test_contradictions_are_refused(battles, name, change, message):
    trajectory = battles([2, 3])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(trajectory, **{name: change(getattr(trajectory, name))})
