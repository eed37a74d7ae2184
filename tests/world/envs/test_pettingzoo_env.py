"""The PettingZoo environment against PettingZoo's own tests, and its handling of deaths and ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.utils.conversions import parallel_to_aec
from support.maps import EVERY_MAP

from dm2_ray.world import BattleVector, parallel_env
from dm2_ray.world.maps.smac_maps import map_names


@pytest.fixture(params=[{}, {"obs_last_action": True, "obs_timestep_number": True, "continuing_episode": True}])
def switches(request: pytest.FixtureRequest) -> dict:
    return request.param


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_passes_pettingzoos_api_test(map_name: str, switches: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel_env(map_name, **switches), num_cycles=25)


@pytest.mark.long
@pytest.mark.parametrize("map_name", map_names())
def test_passes_pettingzoos_api_test_for_whole_battles(map_name: str, switches: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel_env(map_name, **switches), num_cycles=1000)


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_passes_pettingzoos_seed_test(map_name: str) -> None:
    parallel_seed_test(lambda: parallel_env(map_name), num_cycles=10)


def test_passes_pettingzoos_tests_of_rendering_and_of_its_other_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    # Their other interface warns of every observation that is a dictionary.
    warnings.simplefilter("ignore")
    render_test(lambda render_mode: parallel_to_aec(parallel_env("2m_vs_1z", render_mode=render_mode, step_mul=2)))
    api_test(parallel_to_aec(parallel_env("3m")), num_cycles=30)
    seed_test(lambda: parallel_to_aec(parallel_env("3m")), num_cycles=30)


def test_pictures_show_the_battle() -> None:
    env = parallel_env("3m", render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.render()
    env.reset()
    before = env.render()
    assert (before.dtype, before.ndim, before.shape[2]) == (np.uint8, 3, 3)
    env.step(dict.fromkeys(env.agents, 4))
    assert (env.render() != before).any()
    while env.agents:
        env.step(dict.fromkeys(env.agents, 1))
    assert env.render().shape == before.shape
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert parallel_env("3m").render() is None


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_the_state_stays_within_its_space(map_name: str) -> None:
    env = parallel_env(map_name)
    rng = np.random.default_rng(0)
    observations, _ = env.reset()
    for _ in range(30):
        assert env.state_space.contains(env.state())
        if not env.agents:
            break
        observations, *_ = env.step(sample(env, observations, rng))


def test_with_the_heuristic_any_action_goes() -> None:
    env, vector = parallel_env("3m", heuristic_ai=True), BattleVector("3m", 1, heuristic_ai=True)
    env.reset()
    vector.reset()
    for _ in range(15):
        *_, infos = env.step(dict.fromkeys(env.agents, 0))
        vector.step(np.zeros((1, 3), np.int64))
        np.testing.assert_array_equal(env.state(), vector.state[0])
        assert not any(info["unavailable_action"] for info in infos.values())


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
    with pytest.raises(ValueError, match="render mode 'ansi' is not supported; expected one of human, rgb_array"):
        parallel_env("3m", render_mode="ansi")
    env = parallel_env("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.state()
    env.reset()
    with pytest.raises(ValueError, match="no action for agent_2"):
        env.step({"agent_0": 1, "agent_1": 1})
    with pytest.raises(ValueError, match="agent_0: action 9"):
        env.step({"agent_0": 9, "agent_1": 1, "agent_2": 1})
