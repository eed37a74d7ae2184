"""Everything that code written for oxwhirl/smac's StarCraft2Env may ask an environment for."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import numpy as np
import pytest
from support.maps import EVERY_MAP
from support.reference_rules import ReferenceRules

from dm2_ray.world import BattleVector, SMACEnv, load_map, scenario_from_mapping
from dm2_ray.world.envs.smac_interface import Direction
from dm2_ray.world.viewing.action_log import ActionLog

METHODS = """
    can_move check_bounds close distance full_restart get_ally_num_attributes get_avail_actions get_avail_agent_actions
    get_enemy_num_attributes get_env_info get_obs get_obs_agent get_obs_ally_feats_size get_obs_enemy_feats_size
    get_obs_move_feats_size get_obs_own_feats_size get_obs_size get_state get_state_dict get_state_size get_stats
    get_surrounding_height get_surrounding_pathing get_surrounding_points get_total_actions get_unit_by_id
    get_unit_type_id get_unit_types get_visibility_matrix only_medivac_left render reset save_replay seed step
    unit_max_cooldown unit_max_shield unit_shoot_range unit_sight_range
""".split()
ATTRIBUTES = """
    agents ally_state_attr_names baneling_id battles_game battles_won colossus_id continuing_episode death_tracker_ally
    death_tracker_enemy debug difficulty enemies enemy_state_attr_names episode_limit force_restarts game_version
    heuristic_ai heuristic_rest hydralisk_id last_action map_name map_type map_x map_y marauder_id marine_id
    max_distance_x max_distance_y max_reward medivac_id n_actions n_actions_move n_actions_no_attack n_agents n_enemies
    n_obs_height n_obs_pathing obs_all_health obs_instead_of_state obs_last_action obs_own_health obs_pathing_grid
    obs_terrain_height obs_timestep_number pathing_grid replay_dir replay_prefix reward reward_death_value reward_defeat
    reward_negative_scale reward_only_positive reward_scale reward_scale_rate reward_sparse reward_win shield_bits_ally
    shield_bits_enemy stalker_id state_last_action state_timestep_number terrain_height timeouts unit_type_bits
    window_size zealot_id zergling_id
""".split()
ALL_SHOWN = dict.fromkeys(
    ("obs_last_action", "obs_pathing_grid", "obs_terrain_height", "obs_timestep_number", "state_timestep_number"), True
)


def play(env: SMACEnv, steps: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        _, terminated, _ = env.step([rng.choice(np.flatnonzero(row)) for row in env.get_avail_actions()])
        if terminated:
            env.reset()


def test_every_name_is_there() -> None:
    env = SMACEnv("MMM")
    assert all(inspect.ismethod(getattr(env, name)) or inspect.isfunction(getattr(env, name)) for name in METHODS)
    for name in ATTRIBUTES:
        assert not callable(getattr(env, name)), name
    assert SMACEnv().map_name == "8m"


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_the_state_has_the_parts_that_it_is_made_of(map_name: str) -> None:
    env = SMACEnv(map_name, state_timestep_number=True)
    env.reset()
    for _ in range(4):
        play(env, 6)
        parts = env.get_state_dict()
        assert parts["allies"].shape == (env.n_agents, env.get_ally_num_attributes())
        assert parts["enemies"].shape == (env.n_enemies, env.get_enemy_num_attributes())
        flat = np.concatenate([np.ravel(part) for part in parts.values()])
        np.testing.assert_array_equal(flat.astype(np.float32), env.get_state())
    short = SMACEnv(map_name, state_last_action=False)
    short.reset()
    assert set(short.get_state_dict()) == {"allies", "enemies"}


def test_scenarios_are_maps_like_any_other() -> None:
    spec = scenario_from_mapping(
        {
            "name": "mixed",
            "episode_limit": 40,
            "agents": [{"kind": kind, "count": 2, "x": 6, "y": 6} for kind in ("zealot", "marine", "medivac")],
            "enemies": [{"kind": kind, "count": 1, "x": 16, "y": 6} for kind in ("hydralisk", "stalker")],
            "terrain": {"size": [24, 12]},
        },
        origin="here",
    )
    env = SMACEnv(spec, **ALL_SHOWN)
    obs, _ = env.reset()
    assert (env.map_x, env.map_y, env.episode_limit) == (24, 12, 40)
    assert len(env.get_obs_feature_names(3)) == len(obs[3])
    for _ in range(5):
        play(env, 5)
        flat = np.concatenate([np.ravel(part) for part in env.get_state_dict().values()])
        np.testing.assert_array_equal(flat.astype(np.float32), env.get_state())
        before = env.get_obs()
        np.testing.assert_array_equal(env.set_units(env.units())[0], before)


@pytest.mark.parametrize("map_name", ["3m", "MMM2", "2s3z", "bane_vs_bane", "2c_vs_64zg"])
@pytest.mark.parametrize("switches", [{}, ALL_SHOWN, {"obs_all_health": False, "obs_instead_of_state": True}])
def test_every_number_has_a_name(map_name: str, switches: dict) -> None:
    env = SMACEnv(map_name, **switches)
    obs, state = env.reset()
    for agent in range(env.n_agents):
        names = env.get_obs_feature_names(agent)
        assert len(names) == len(set(names)) == len(obs[agent])
    names = env.get_state_feature_names()
    assert len(names) == len(set(names)) == len(state)


def test_names_stand_for_what_they_say() -> None:
    env = SMACEnv("MMM", **ALL_SHOWN)
    env.reset()
    env.step([2] * 10)
    me, other = env.get_unit_by_id(9), env.get_unit_by_id(4)
    seen = dict(zip(env.get_obs_feature_names(9), env.get_obs_agent(9), strict=True))
    assert seen["ally_relative_x_4"] == np.float32((other.pos.x - me.pos.x) / 9)
    assert seen["own_unit_type_bit_2"] == 1
    assert seen["ally_unit_type_4_bit_1"] == 1
    assert seen["ally_last_action_4_action_2"] == 1
    assert seen["timestep"] == 1 / 150
    state = dict(zip(env.get_state_feature_names(), env.get_state(), strict=True))
    assert state["ally_cooldown_9"] == np.float32(me.energy / 200)
    assert state["enemy_relative_y_3"] == np.float32((env.enemies[3].pos.y - 16) / 32)
    assert state["ally_last_action_9_action_2"] == 1


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_unit_types_are_consecutive_in_the_agents_order_and_stock_for_enemies(map_name: str) -> None:
    env = SMACEnv(map_name)
    spec = load_map(map_name)
    env.reset()
    assert list(env.agents) == list(range(spec.num_agents))
    assert list(env.enemies) == list(range(spec.num_enemies))
    own = [unit.unit_type for unit in env.agents.values()]
    assert own == sorted(own)
    assert max(own) - min(own) == len(set(spec.ally_kinds)) - 1
    assert env.get_unit_types() == own + [unit.unit_type for unit in env.enemies.values()]
    stock = {"zealot": 73, "stalker": 74, "colossus": 4, "baneling": 9, "marine": 48, "marauder": 51, "medivac": 54}
    for kind, unit in zip(spec.enemy_kinds, env.enemies.values(), strict=True):
        assert (unit.owner, unit.unit_type) == (2, stock.get(kind, unit.unit_type))
    if spec.unit_type_bits:
        for kind, unit in zip(spec.ally_kinds, env.agents.values(), strict=True):
            assert unit.unit_type == getattr(env, f"{kind}_id")
    tags = [unit.tag for unit in (*env.agents.values(), *env.enemies.values())]
    assert len(set(tags)) == len(tags)
    assert env.max_reward == SMACEnv(map_name).max_reward


def test_a_unit_tells_what_the_game_would() -> None:
    env = SMACEnv("3s_vs_3z")
    assert env.agents == env.enemies == {}
    env.reset()
    play(env, 14)
    record, unit = env.units().allies[1], env.get_unit_by_id(1)
    assert (unit.pos.x, unit.pos.y) == (record.x, record.y)
    assert (unit.health_max, unit.shield_max, unit.energy_max, unit.owner) == (80, 80, 0, 1)
    assert unit.weapon_cooldown == np.float32(record.cooldown)
    assert env.unit_max_cooldown(unit) == 35
    assert env.unit_max_shield(unit) == 80
    assert env.unit_max_shield(env.enemies[0]) == 50
    # Quirk: the table of cooldowns knows the agents' own kinds only.
    assert env.unit_max_cooldown(env.enemies[0]) == 15
    assert (env.unit_shoot_range(0), env.unit_sight_range(0)) == (6, 9)
    assert SMACEnv.distance(0, 0, 3, 4) == 5


@pytest.mark.parametrize("map_name", ["3m", "corridor", "2c_vs_64zg"])
def test_places_are_those_of_observations_and_masks(map_name: str) -> None:
    env = SMACEnv(map_name, obs_pathing_grid=True, obs_terrain_height=True)
    env.reset()
    for _ in range(3):
        play(env, 5)
        for agent, unit in env.agents.items():
            if unit.health == 0:
                continue
            can_move = [env.can_move(unit, direction) for direction in Direction]
            assert can_move == [bool(bit) for bit in env.get_avail_agent_actions(agent)[2:6]]
            obs = env.get_obs_agent(agent)
            np.testing.assert_array_equal(obs[4:12], np.float32(env.get_surrounding_pathing(unit)))
            np.testing.assert_array_equal(obs[12:21], np.float32(env.get_surrounding_height(unit)))
    assert not env.check_bounds(32, 0)
    assert env.pathing_grid.shape == (env.map_x, env.map_y) == (32, 32)


def test_returns_have_smacs_types() -> None:
    env = SMACEnv("3m")
    obs, state = env.reset()
    assert (type(obs), obs[0].dtype, state.dtype) == (list, np.float32, np.float32)
    assert {type(bit) for row in env.get_avail_actions() for bit in row} == {int}
    reward, terminated, info = env.step(np.ones((3, 1), dtype=np.int32))
    assert (type(reward), type(terminated)) == (float, bool)
    assert {name: type(value) for name, value in info.items()} == {
        "battle_won": bool,
        "dead_allies": int,
        "dead_enemies": int,
    }
    assert env.get_visibility_matrix().dtype == np.bool_
    env.step([1.0, True, np.float32(1)])
    assert (env.last_action.shape, env.last_action.dtype) == ((3, 9), np.float64)
    sparse = SMACEnv("3m", reward_sparse=True, reward_scale=False)
    sparse.reset()
    assert type(sparse.step([1, 1, 1])[0]) is int


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("map_name", ["3m", "MMM", "2s3z", "so_many_baneling"])
def test_the_heuristic_plays_and_tells_what_it_played(map_name: str, rest: bool) -> None:
    shown = {"obs_last_action": True, "state_timestep_number": True}
    env = SMACEnv(map_name, heuristic_ai=True, heuristic_rest=rest, **shown)
    spec = load_map(map_name)
    reference = ReferenceRules(map_name, np.zeros((32, 32)), **shown)
    rng = np.random.default_rng(0)
    for _ in range(2):
        env.reset()
        rows = [[[r.x, r.y, r.health, r.shield, r.energy, r.cooldown] for r in side] for side in env.units()]
        reference.reset(*rows)
        terminated = False
        while not terminated:
            expected = reference.heuristic(rest)
            given = rng.integers(0, spec.num_actions, spec.num_agents)
            actions = given.tolist()
            reward, terminated, info = env.step(actions)
            assert actions == expected
            rows = [[[r.x, r.y, r.health, r.shield, r.energy, r.cooldown] for r in side] for side in env.units()]
            # Quirk: last-action features show what was given, not what was played.
            obs, state, avail, *outcome = reference.step(given, *rows)
            np.testing.assert_array_equal(env.get_obs(), obs)
            np.testing.assert_array_equal(env.get_state(), state)
            np.testing.assert_array_equal(env.get_avail_actions(), avail)
            assert outcome == [reward, terminated, info]
    with pytest.raises(ValueError, match=f"action {spec.num_actions} is not in 0..{spec.num_actions - 1}"):
        env.reset()
        env.step([spec.num_actions] * spec.num_agents)


def test_heuristic_rest_alone_changes_nothing() -> None:
    env, plain = SMACEnv("3m", heuristic_rest=True), SMACEnv("3m")
    for one in (env, plain):
        one.reset()
        play(one, 8)
    assert env.units() == plain.units()


def test_a_restart_begins_the_seeds_battles_again() -> None:
    env = SMACEnv("3m", seed=3)
    env.reset()
    play(env, 30, seed=1)
    first = env.units()
    env.full_restart()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step([1, 1, 1])
    env.reset()
    play(env, 30, seed=1)
    assert env.units() == first
    assert env.get_stats()["restarts"] == 1


def test_resetting_too_early_leaves_the_greatest_reward_alone() -> None:
    env = SMACEnv("3m")
    for _ in range(3):
        env.reset()
    assert env.max_reward == 365
    env.set_units(enemies=[{"health": 1, "x": 14.0}, {"health": 0}, {"health": 0}], allies=[{"x": 13.0}] * 3)
    assert env.step([6, 6, 6])[0] == pytest.approx((1 + 10 + 200) / (365 / 20))


def test_debug_logs_what_smac_would(caplog: pytest.LogCaptureFixture) -> None:
    env = SMACEnv("3m", debug=True)
    with caplog.at_level(logging.DEBUG, logger="dm2_ray.world.envs.smac_env"):
        env.reset()
        env.step([1, 1, 1])
    text = caplog.text
    assert "battle 0 begins" in text
    assert "actions [1, 1, 1]" in text
    assert "reward 0.0" in text
    assert text.count("observes") == 3
    caplog.clear()
    quiet = SMACEnv("3m")
    quiet.reset()
    quiet.step([1, 1, 1])
    assert not caplog.records


def test_a_replay_is_written_whenever_it_is_wanted(tmp_path: Path) -> None:
    env = SMACEnv("2s3z", seed=7, replay_dir=str(tmp_path / "replays"), replay_prefix="try")
    with pytest.raises(RuntimeError, match="no step"):
        env.save_replay()
    env.reset()
    play(env, 5)
    path = Path(env.save_replay())
    assert path == tmp_path / "replays" / "try_2s3z_seed7_battle0.html"
    assert "<html" in path.read_text()
    first = path.read_bytes()
    play(env, 3)
    assert env.save_replay() == str(path)
    assert path.read_bytes() != first
    # A battle that has not begun to be fought gives way to the one before.
    env.reset()
    assert env.save_replay() == str(path)


@pytest.mark.parametrize("switches", [{}, {"heuristic_ai": True}])
def test_a_story_retold_is_the_battle(switches: dict) -> None:
    battles = BattleVector("MMM", 1, seed=3, first_battle=5, **switches)
    battles.reset()
    battles.step(np.ones((1, 10), np.int64))
    battles.place_units(0, allies={0: {"x": 12.0}})
    story = ActionLog(battle_number=5, start=battles.snapshot())
    rows, rewards, played = [], [], []
    while battles.battle_number[0] == 5:
        units = battles.units()
        rows.append([units.x[0].copy(), units.health[0].copy(), units.energy[0].copy()])
        can_shoot, is_alive = battles.action_mask[0, :, 7], battles.alive[0]
        given = np.where(can_shoot, 7, np.where(is_alive, 1, 0))
        battles.step(given[np.newaxis])
        story.actions.append(given)
        rewards.append(battles.rewards[0])
        played.append(battles.played_actions[0].copy() if switches else given)
    recording = story.replay(battles)
    shown = np.stack([recording.x, recording.health, recording.energy], axis=1)[:-1]
    np.testing.assert_array_equal(shown, np.float32(rows))
    np.testing.assert_array_equal(recording.rewards, rewards)
    np.testing.assert_array_equal(recording.actions, played)
    assert recording.provenance.battle == 5


def test_battles_are_shown_as_pictures_and_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SMACEnv("3m", window_size_x=400, window_size_y=200)
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.render("rgb_array")
    env.reset()
    picture = env.render("rgb_array")
    assert picture.dtype == np.uint8
    assert max(picture.shape) == 150
    play(env, 4)
    assert (env.render("rgb_array") != picture).any()
    with pytest.raises(ValueError, match="earlier calls used 'rgb_array'"):
        env.render()
    with pytest.raises(ValueError, match="'svg' is not supported"):
        SMACEnv("3m").render("svg")
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    other = SMACEnv("3m")
    other.reset()
    assert other.render() is None
    other.close()
    other.close()
