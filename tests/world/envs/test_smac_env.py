"""SMACEnv behaves as oxwhirl/smac's StarCraft2Env toward code that only knows the latter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.maps import EVERY_MAP

from dm2_ray.world import BattleVector, SMACEnv

SMAC = json.loads((Path(__file__).parents[1] / "data" / "smac_dims.json").read_text())


def play(env: SMACEnv, rng: np.random.Generator) -> tuple[float, int, dict]:
    """One battle of random available actions, the way PyMARL's runner goes through it."""
    env.reset()
    total, steps, terminated, info = 0.0, 0, False, {}
    while not terminated:
        avail = env.get_avail_actions()
        assert len(env.get_obs()) == env.n_agents
        actions = [rng.choice(np.flatnonzero(env.get_avail_agent_actions(i))) for i in range(env.n_agents)]
        assert all(avail[i][a] for i, a in enumerate(actions))
        reward, terminated, info = env.step(actions)
        total, steps = total + reward, steps + 1
    return total, steps, info


@pytest.mark.parametrize("name", EVERY_MAP)
def test_env_info_equals_smac(name: str) -> None:
    assert SMACEnv(name).get_env_info() == SMAC[name]["env_info"]


def test_sizes_under_all_options() -> None:
    options = dict.fromkeys(
        ("obs_last_action", "obs_pathing_grid", "obs_terrain_height", "obs_timestep_number", "state_timestep_number"),
        True,
    )
    env = SMACEnv("2s3z", **options)
    obs, state = env.reset()
    sizes = SMAC["2s3z"]["variants"]["all_options"]
    assert (env.get_obs_size(), env.get_state_size()) == (sizes["obs_size"], sizes["state_size"])
    # SMAC's own observations are float64 and one longer than it says when they hold the time.
    assert {(row.shape, row.dtype) for row in obs} == {((sizes["obs_size"] + 1,), np.dtype(np.float64))}
    assert (state.shape, state.dtype) == ((sizes["state_size"],), np.dtype(np.float32))
    widths = env.get_obs_enemy_feats_size(), env.get_obs_ally_feats_size()
    blocks = sum(rows * width for rows, width in widths)
    assert env.get_obs_move_feats_size() + blocks + env.get_obs_own_feats_size() == env.get_obs_size()


def test_battles_are_those_of_the_vector() -> None:
    env, vector = SMACEnv("3m", seed=5), BattleVector("3m", 1, seed=5)
    vector.reset()
    rng = np.random.default_rng(0)
    for _ in range(2):
        env.reset()
        terminated = False
        while not terminated:
            np.testing.assert_array_equal(env.get_obs(), vector.observations[0])
            np.testing.assert_array_equal(env.get_state(), vector.state[0])
            actions = [rng.choice(np.flatnonzero(row)) for row in env.get_avail_actions()]
            reward, terminated, info = env.step(actions)
            vector.step([actions])
            assert reward == vector.rewards[0]
            assert info["battle_won"] == vector.battle_won[0]
        np.testing.assert_array_equal(env.get_obs(), vector.final_observations[0])


def test_same_seed_same_battles_other_seed_others() -> None:
    def returns(seed: int) -> list[tuple[float, int, dict]]:
        env, rng = SMACEnv("3m", seed=seed), np.random.default_rng(1)
        return [play(env, rng) for _ in range(3)]

    assert returns(3) == returns(3)
    assert returns(3) != returns(4)


def test_reset_in_the_middle_goes_on_to_the_next_battle() -> None:
    env, other = SMACEnv("3m"), SMACEnv("3m")
    env.reset()
    env.step([1, 1, 1])
    env.reset()
    play(other, np.random.default_rng(0))
    other.reset()
    for _ in range(12):
        assert env.step([1, 1, 1]) == other.step([1, 1, 1])
        np.testing.assert_array_equal(env.get_state(), other.get_state())


def test_the_end_of_a_battle_is_seen_before_the_next_one_begins() -> None:
    env = SMACEnv("3m")
    _, _, info = play(env, np.random.default_rng(0))
    assert not info["battle_won"]
    assert info["dead_allies"] == 3
    assert env.get_avail_actions() == [[1] + [0] * 8] * 3
    assert not np.any(env.get_obs())
    assert not env.get_visibility_matrix().any()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step([0, 0, 0])
    env.reset()
    assert np.any(env.get_obs())
    assert env.get_visibility_matrix()[:, :3].sum() == 6


def test_stats_count_battles_and_time_limits() -> None:
    env = SMACEnv("3s_vs_3z", continuing_episode=True)
    assert env.get_stats()["win_rate"] == 0
    env.reset()
    terminated = False
    while not terminated:  # hide in the north, which the zealots do not search
        _, terminated, info = env.step([2 if avail[2] else 1 for avail in env.get_avail_actions()])
    assert info == {"battle_won": False, "dead_allies": 0, "dead_enemies": 0, "episode_limit": True}
    stats = env.get_stats()
    assert (stats["battles_game"], stats["battles_won"], stats["timeouts"], stats["battles_draw"]) == (1, 0, 1, 1)


def test_takes_the_arguments_that_pymarl_passes() -> None:
    arguments = {
        "continuing_episode": False, "difficulty": "7", "game_version": None, "map_name": "3m", "move_amount": 2,
        "obs_all_health": True, "obs_instead_of_state": False, "obs_last_action": False, "obs_own_health": True,
        "obs_pathing_grid": False, "obs_terrain_height": False, "obs_timestep_number": False,
        "reward_death_value": 10, "reward_defeat": 0, "reward_negative_scale": 0.5, "reward_only_positive": True,
        "reward_scale": True, "reward_scale_rate": 20, "reward_sparse": False, "reward_win": 200, "replay_dir": "",
        "replay_prefix": "", "state_last_action": True, "state_timestep_number": False, "step_mul": 8, "seed": None,
        "heuristic_ai": False, "heuristic_rest": False, "debug": False,
    }  # fmt: skip
    assert SMACEnv(**arguments).get_env_info() == SMAC["3m"]["env_info"]
    assert isinstance(SMACEnv(**arguments).seed(), int)


def test_refusals() -> None:
    env = SMACEnv("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.get_obs()
    env.reset()
    with pytest.raises(ValueError, match="action 0"):
        env.step([0, 1, 1])
    with pytest.raises(TypeError, match=r"action 1\.5 is not an integer"):
        env.step([1.5, 1, 1])
    with pytest.raises(TypeError, match="obs_last_action"):
        SMACEnv("3m", obs_last_actoin=True)
