"""Episodes laid end to end: they check themselves, survive as arrays, and are selected and concatenated whole."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest

from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory, JointEpisodes


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


def test_selection_takes_whole_battles_in_the_given_order_even_repeatedly(battles):
    trajectory = battles([2, 1, 3], seed=4)
    chosen = trajectory.select(np.array([2, 0, 2]))
    assert chosen.episode_lengths.tolist() == [3, 2, 3] and chosen.policy_version == 4
    rows = [3, 4, 5, 0, 1, 3, 4, 5]
    for name in ("observations", "actions", "action_mask", "alive", "behavior_logp", "rewards"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(trajectory, name)[rows])
    for name in ("terminated", "final_observations"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(trajectory, name)[[2, 0, 2]])
    for places in ([], [3], [-1]):
        with pytest.raises(IndexError, match="places must be 0 to 2"):
            trajectory.select(np.array(places, np.int64))


def test_demonstrations_of_different_agents_are_not_concatenated(battles):
    def shown(agent: int) -> AgentDemonstration:
        return AgentDemonstration.from_episodes(battles([2, 1]), agent_index=agent, episode_ids=np.arange(2))

    both = AgentDemonstration.concatenate([shown(1), shown(1)])
    assert both.agent_index == 1 and both.episode_ids.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"of one agent, got those of agents \[0, 1\]"):
        AgentDemonstration.concatenate([shown(0), shown(1)])


def test_views_of_a_team_are_of_the_same_battles(battles):
    team = JointEpisodes(agents=(battles([2, 1, 3], seed=1), battles([2, 1, 3], seed=2)))
    assert (team.num_agents, team.num_episodes, team.num_steps) == (2, 3, 6)
    assert team.steps.tolist() == [0, 1, 0, 0, 1, 2]
    with pytest.raises(ValueError, match="agents 0 and 1 have not seen the same battles"):
        JointEpisodes(agents=(battles([2, 1, 3]), battles([3, 1, 2])))
