"""The gymnasium environments against gymnasium's own checker, and what they make of actions, ends and seeds."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from support.maps import EVERY_MAP

from dm2_ray.world import BattleVector, TeamEnv, TeamVectorEnv, map_names


def make(map_name: str, **arguments) -> TeamEnv:
    return gymnasium.make(f"dm2_ray/{map_name}-v0", **arguments).unwrapped


def available(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """One available action for every row of masks [..., A]."""
    return (mask * (1 + rng.random(mask.shape))).argmax(-1)


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_passes_gymnasiums_checker(map_name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(map_name), skip_render_check=True)


@pytest.mark.parametrize("map_name", ["2m_vs_1z", "corridor"])
def test_passes_gymnasiums_checker_with_everything_shown(map_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = dict.fromkeys(("obs_last_action", "obs_pathing_grid", "obs_terrain_height", "obs_timestep_number"), True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(map_name, render_mode="rgb_array", **shown))


@pytest.mark.cli
def test_importing_the_package_is_enough_and_loads_no_compiler() -> None:
    code = (
        "import dm2_ray, gymnasium, sys;"
        "names = {name for name in gymnasium.registry if name.startswith('dm2_ray/')};"
        "assert len(names) == 23 and 'dm2_ray/5m_vs_6m-v0' in names, names;"
        "assert not {'numba', 'torch', 'ray'} & set(sys.modules);"
        "from dm2_ray.world.envs.gymnasium_ids import register_maps; register_maps()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert {f"dm2_ray/{name}-v0" for name in map_names()} <= set(gymnasium.registry)


def test_battles_are_those_of_the_vector() -> None:
    env, vector, rng = make("2s3z"), BattleVector("2s3z", 1, seed=11), np.random.default_rng(0)
    seen, info = env.reset(seed=11)
    vector.reset()
    assert info == {}
    for _ in range(2):
        ended = False
        while not ended:
            assert env.observation_space.contains(seen)
            np.testing.assert_array_equal(seen["observation"], vector.observations[0])
            np.testing.assert_array_equal(seen["action_mask"], vector.action_mask[0])
            np.testing.assert_array_equal(seen["state"], vector.state[0])
            actions = available(rng, seen["action_mask"])
            seen, reward, terminated, truncated, info = env.step(actions)
            vector.step(actions[np.newaxis])
            ended = terminated or truncated
            assert (reward, terminated, truncated) == (vector.rewards[0], vector.terminated[0], vector.truncated[0])
            assert info == {
                "battle_won": vector.battle_won[0],
                "dead_allies": vector.dead_allies[0],
                "dead_enemies": vector.dead_enemies[0],
                "unavailable_actions": 0,
            }
        np.testing.assert_array_equal(seen["state"], vector.final_state[0])
        with pytest.raises(RuntimeError, match=r"reset\(\)"):
            env.step(actions)
        seen, _ = env.reset()


def test_actions_that_are_not_available_are_played_as_stop_and_counted() -> None:
    env, other = make("3m"), make("3m")
    env.reset(seed=1)
    other.reset(seed=1)
    seen, *_, info = env.step([0, 8, 2])
    expected, *_ = other.step([1, 1, 2])
    assert info["unavailable_actions"] == 2
    assert data_equivalence(seen, expected, exact=True)
    for wrong, error in (
        ([0, 0], ValueError),
        ([9, 1, 1], ValueError),
        ([-1, 1, 1], ValueError),
        ([1.0] * 3, TypeError),
    ):
        with pytest.raises(error, match="expected"):
            env.step(wrong)


@pytest.mark.parametrize("continuing", [False, True])
def test_the_time_limit_terminates_or_truncates(continuing: bool) -> None:
    env = make("3s_vs_3z", continuing_episode=continuing)
    env.reset(seed=0)
    ended = (False, False)
    while not any(ended):  # hide in the north, which the zealots do not search
        _, _, *ended, info = env.step([2, 2, 2])
    assert ended == [not continuing, continuing]
    assert not info["battle_won"]


def test_seeds_decide_and_without_one_battles_differ() -> None:
    def opening(env: TeamEnv, seed: int | None) -> np.ndarray:
        env.reset(seed=seed)
        for _ in range(10):
            seen, *_ = env.step([1, 1, 1])
        return seen["state"]

    env = make("3m")
    first, second, again = opening(env, 7), opening(env, None), opening(env, 7)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(opening(make("3m", seed=7), None), first)
    unseeded = [opening(make("3m"), None) for _ in range(8)]  # two of them may agree by chance, not all
    assert any(not np.array_equal(unseeded[0], other) for other in unseeded[1:])


def test_pictures_and_refusals() -> None:
    env = make("3m", render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.render()
    env.reset(seed=0)
    before = env.render()
    env.step([4, 4, 4])
    assert (env.render() != before).any()
    env.close()
    with pytest.raises(ValueError, match="render mode 'ansi'"):
        TeamEnv("3m", render_mode="ansi")
    with pytest.raises(TypeError, match="obs_last_action"):
        make("3m", obs_last_actoin=True)
    with pytest.raises(ValueError, match="gymnasium.make"):
        TeamVectorEnv("3m", render_mode="rgb_array")


def test_many_battles_are_those_of_the_vector() -> None:
    envs = gymnasium.make_vec("dm2_ray/3m-v0", num_envs=8)
    assert isinstance(envs, TeamVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    vector, rng = BattleVector("3m", 8, seed=5), np.random.default_rng(0)
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        envs.step(envs.action_space.sample())
    seen, infos = envs.reset(seed=5)
    vector.reset()
    assert infos == {}
    endings = 0
    for _ in range(120):
        assert envs.observation_space.contains(seen)
        np.testing.assert_array_equal(seen["state"], vector.state)
        actions = available(rng, seen["action_mask"])
        seen, rewards, terminated, truncated, infos = envs.step(actions)
        vector.step(actions)
        np.testing.assert_array_equal(rewards, vector.rewards)
        np.testing.assert_array_equal(terminated, vector.terminated)
        assert not truncated.any()
        np.testing.assert_array_equal(infos["_battle_won"], ~terminated)
        assert ("final_obs" in infos) == terminated.any()
        for b in np.flatnonzero(terminated):
            endings += 1
            assert infos["_final_obs"][b]
            assert infos["_final_info"][b]
            assert infos["final_info"]["dead_allies"][b] == vector.dead_allies[b]
            np.testing.assert_array_equal(infos["final_obs"][b]["state"], vector.final_state[b])
    assert endings > 8
    envs.reset()
    assert envs.step(envs.action_space.sample())[0]["state"].shape == vector.state.shape
    envs.close()


def test_infos_have_the_form_of_gymnasiums_own_vectors() -> None:
    ours = gymnasium.make_vec("dm2_ray/3m-v0", num_envs=2)
    theirs = gymnasium.make_vec(
        "dm2_ray/3m-v0",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    forms = []
    for envs in (ours, theirs):
        envs.reset(seed=0)
        ended = np.zeros(2, bool)
        while not ended.any():
            _, rewards, ended, _, infos = envs.step(np.ones((2, 3), np.int64))
        forms.append((set(infos), set(infos["final_info"]), rewards.dtype, infos["final_obs"].dtype))
    # Where all battles end in one step there is nothing to tell of those that go on.
    assert forms[0][1:] == forms[1][1:]
    assert forms[0][0] >= forms[1][0]


def test_plays_under_gymnasiums_wrappers_with_its_own_masked_samples() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("dm2_ray/2s3z-v0", seed=3)
        env.action_space.seed(0)
        seen, _ = env.reset()
        terminated = False
        while not terminated:
            seen, _, terminated, _, info = env.step(env.action_space.sample(mask=tuple(seen["action_mask"])))
            assert info["unavailable_actions"] == 0
        env.close()
