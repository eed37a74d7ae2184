"""The PettingZoo environment against PettingZoo's own tests, and its handling of deaths and ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from dm2_ray.world import BattleVector, parallel_env


@pytest.mark.parametrize("map_name", ["3m", "2s3z"])
def test_passes_pettingzoos_api_test(map_name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel_env(map_name), num_cycles=200)


def test_passes_pettingzoos_seed_test() -> None:
    parallel_seed_test(lambda: parallel_env("3m"), num_cycles=50)


def sample(env, observations: dict, rng: np.random.Generator) -> dict[str, int]:
    return {agent: int(rng.choice(np.flatnonzero(observations[agent]["action_mask"]))) for agent in env.agents}


def test_agents_leave_when_they_die_and_share_the_reward() -> None:
    env, vector = parallel_env("3m", seed=2), BattleVector("3m", 1, seed=2)
    observations, _ = env.reset()
    vector.reset()
    rng = np.random.default_rng(0)
    while env.agents:
        for agent, seen in observations.items():
            assert env.observation_space(agent).contains(seen)
        before = env.agents
        np.testing.assert_array_equal(env.state(), vector.state[0])
        actions = sample(env, observations, rng)
        joint = [actions.get(f"agent_{i}", 0) for i in range(3)]
        observations, rewards, terminations, truncations, infos = env.step(actions)
        vector.step([joint])
        assert set(observations) == set(rewards) == set(terminations) == set(truncations) == set(infos) == set(before)
        assert set(rewards.values()) == {vector.rewards[0]}
        assert not any(truncations.values())
        if not vector.terminated[0]:
            assert env.agents == [f"agent_{i}" for i in range(3) if vector.alive[0, i]]
        for agent in before:
            assert terminations[agent] == (agent not in env.agents)
    assert infos[before[0]]["battle_won"] == vector.battle_won[0]
    assert infos[before[0]]["dead_allies"] == 3
    np.testing.assert_array_equal(env.state(), vector.final_state[0])
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({})


@pytest.mark.parametrize("continuing", [False, True])
def test_time_limit_terminates_or_truncates(continuing: bool) -> None:
    env = parallel_env("3s_vs_3z", continuing_episode=continuing)
    env.reset()
    while env.agents:  # hide in the north, which the zealots do not search
        *_, terminations, truncations, infos = env.step(dict.fromkeys(env.agents, 2))
    assert set(truncations.values()) == {continuing}
    assert set(terminations.values()) == {not continuing}
    assert not infos["agent_0"]["battle_won"]


def test_unavailable_actions_are_played_as_stop_and_reported() -> None:
    env, other = parallel_env("3m"), parallel_env("3m")
    env.reset(seed=1)
    other.reset(seed=1)
    observations, *_, infos = env.step({"agent_0": 0, "agent_1": 8, "agent_2": 2})
    expected, *_ = other.step({"agent_0": 1, "agent_1": 1, "agent_2": 2})
    assert [infos[agent]["unavailable_action"] for agent in env.possible_agents] == [True, True, False]
    for agent in env.possible_agents:
        np.testing.assert_array_equal(observations[agent]["observation"], expected[agent]["observation"])


def test_reset_goes_on_to_other_battles_and_a_seed_goes_back() -> None:
    env = parallel_env("3m")

    def opening(seed: int | None) -> np.ndarray:
        env.reset(seed=seed)
        for _ in range(10):
            env.step(dict.fromkeys(env.agents, 1))
        return env.state()

    first, second, again = opening(7), opening(None), opening(7)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="render_mode 'human'"):
        parallel_env("3m", render_mode="human")
    env = parallel_env("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.state()
    env.reset()
    with pytest.raises(ValueError, match="no action for agent_2"):
        env.step({"agent_0": 1, "agent_1": 1})
    with pytest.raises(ValueError, match="agent_0: action 9"):
        env.step({"agent_0": 9, "agent_1": 1, "agent_2": 1})
