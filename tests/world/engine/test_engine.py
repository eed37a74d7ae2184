"""The engine's physics: invariants of play, and single mechanisms against StarCraft II's published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.maps import EVERY_MAP
from support.staging import ATTACK, EAST, NORTH, SOUTH, STOP, WEST, stage

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine.movement import POSITION_GRID
from dm2_ray.world.engine.weapons import center_distance, is_within
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.maps.terrain import build_terrain
from dm2_ray.world.scripted.scripted_team import ScriptedTeam
from dm2_ray.world.unit_kinds import unit_kind
from dm2_ray.world.units.state import GOAL_X, GOAL_Y, HEALTH, NUM_UNIT_ROWS, X, Y

LOOPS = 8


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-40_000, 40_000),
    st.integers(-40_000, 40_000),
    st.floats(0.05, 12.0),
    st.sampled_from((-1, 0, 1, 9, None)),
)
def test_is_within_decides_as_the_rounded_distance_does(grid_x, grid_y, distance, ulps):
    units = np.zeros((NUM_UNIT_ROWS, 2))
    units[[X, Y], 1] = grid_x / POSITION_GRID, grid_y / POSITION_GRID
    if ulps is not None:  # a limit next to the distance, where rounding decides
        exact = center_distance(units, 0, 1)
        distance = max(exact + ulps * np.spacing(exact), 1e-3)
    assert is_within(units, 0, 1, distance) == (center_distance(units, 0, 1) <= distance)


@settings(max_examples=25, deadline=None)
@given(
    map_name=st.sampled_from(map_names()),
    seed=st.integers(0, 2**63),
    team_name=st.sampled_from(("random", "nearest", "focus_fire", "kite")),
    jitter=st.sampled_from((0.0, 0.5)),
)
def test_invariants_of_play(map_name, seed, team_name, jitter):
    battles = BattleVector(map_name, 2, seed, engine=EngineSettings(spawn_jitter=jitter), reward_scale=False)
    battles.reset()
    team = ScriptedTeam(team_name, battles, seed)
    spec = battles.map_spec
    num_agents = spec.num_agents
    kinds = [unit_kind(name) for name in (*spec.ally_kinds, *spec.enemy_kinds)]
    separation = np.array([kind.separation_radius for kind in kinds])
    health_max = np.array([kind.health for kind in kinds])
    shield_max = np.array([kind.shield for kind in kinds])
    layer = np.array([2 if kind.flies else 1 if kind.cliff_walker else 0 for kind in kinds])
    passable = build_terrain(spec.walkable).passable
    fastest = max(kind.speed_per_loop for kind in kinds) * LOOPS
    for _ in range(70):
        before = battles.units()
        old_points = before.health + before.shield
        old_alive, old_x, old_y = before.alive.copy(), before.x.copy(), before.y.copy()
        battles.step(team.act(battles))
        ended = battles.terminated
        team.reset_finished(ended)
        # Where a battle ended the units now are those of the next.
        now, last = battles.units(), battles.final_units()
        x, y, health, shield = (
            np.where(ended[:, None], getattr(last, name), getattr(now, name)) for name in ("x", "y", "health", "shield")
        )
        assert np.isfinite([x, y, health, shield, now.cooldown]).all()
        assert np.isfinite(battles.observations).all() and np.isfinite(battles.state).all()
        alive = health > 0
        assert not (alive & ~old_alive).any(), "the dead stay dead"
        assert (health >= 0).all() and (health <= health_max).all()
        assert (shield >= 0).all() and (shield <= shield_max).all()
        assert (x >= 0).all() and (x < 32).all() and (y >= 0).all() and (y < 32).all()
        assert passable[layer, x.astype(int), y.astype(int)].all()
        assert np.array_equal(x * 4096, np.rint(x * 4096)) and np.array_equal(y * 4096, np.rint(y * 4096))
        moved = np.hypot(x - old_x, y - old_y)
        assert (moved[~old_alive] == 0).all()
        assert (moved <= fastest + LOOPS * 0.25 + 1e-2).all()
        for b in range(2):
            living = np.flatnonzero(alive[b])
            apart = np.hypot(*(np.subtract.outer(row[b, living], row[b, living]) for row in (x, y)))
            touching = separation[living][:, None] + separation[living][None, :]
            touching *= layer[living][:, None] == layer[living][None, :]
            pairs = np.triu(touching > 0.0, 1)
            depth = 1.0 - apart[pairs] / touching[pairs]
            assert depth.max(initial=0.0) < 0.85, "crowds squeeze units, but never into one another"
            assert depth.clip(0.0).sum() <= 0.5 * len(living)
        new_points = np.where(alive, health + shield, 0.0)
        lost = np.where(old_alive, old_points - new_points, 0.0)[:, num_agents:].sum(axis=1)
        fallen = (old_alive & ~alive)[:, num_agents:].sum(axis=1)
        assert np.allclose(battles.rewards, np.abs(lost + 10 * fallen) + 200 * battles.battle_won, rtol=0, atol=1e-4)


def test_a_move_order_walks_at_the_units_speed_in_its_direction():
    for map_name, speed in (("3m", 0.140625), ("3s_vs_3z", 0.1845688)):
        spread = [(6.0, 16.0), (16.0, 12.0), (16.0, 20.0), None, None, (28.0, 16.0)]
        for action, (east, north) in {NORTH: (0, 1), SOUTH: (0, -1), EAST: (1, 0), WEST: (-1, 0)}.items():
            battles = stage(map_name, spread)
            battles.step([[action, STOP, STOP]])
            units = battles.units()
            assert units.x[0, 0] == pytest.approx(6 + east * LOOPS * speed, abs=2e-3)
            assert units.y[0, 0] == pytest.approx(16 + north * LOOPS * speed, abs=2e-3)
            assert (units.x[0, 1], units.y[0, 1]) == (16.0, 12.0), "stop stands still"


def test_agents_never_acquire_targets_by_themselves():
    battles = stage("3m", [(10.0, 16.0), None, None, (12.0, 16.0), None, None])
    for _ in range(4):
        battles.step([[STOP, 0, 0]])
    assert battles.units().health[0, 3] == 45
    assert battles.units().health[0, 0] < 45


def test_marines_fire_from_edge_to_edge_range_once_per_period():
    health = [1e6, 45, 45, 1e6, 45, 45]
    near, far = 5.0 + 2 * 0.375, 5.0 + 2 * 0.375 + 0.3
    still = EngineSettings(random_delay=False)
    places = [(8.0, 16.0), None, None, (8.0 + near, 16.0), None, None]
    battles = stage("3m", places, still, health=np.array(health) * [1, 0, 0, 1, 0, 0])
    for _ in range(14):
        battles.step([[ATTACK, 0, 0]])
        assert battles.units().x[0, 0] == 8.0
    # 112 loops; the hit falls one loop after the start (damage point 0.8), and 13.773 loops are over in the 14th.
    assert (1e6 - battles.units().health[0, 3]) / 6 == 1 + (111 - 1) // 14
    battles = stage("3m", [(8.0, 16.0), None, None, (8.0 + far, 16.0), None, None], still)
    battles.step([[ATTACK, 0, 0]])
    assert battles.units().x[0, 0] == pytest.approx(8.0 + 2 * 0.140625, abs=0.15), "walks into range and no farther"


def test_periods_vary_by_minus_one_to_two_loops():
    cooldowns = []
    for seed in range(100):
        battles = stage("3m", [(8.0, 16.0), None, None, (12.0, 16.0), None, None], seed=seed)
        battles.step([[ATTACK, 0, 0]])
        # The attack began in the first loop; seven loops have passed since.
        cooldowns.append(battles.units().cooldown[0, 0] + 7 - 13.773)
    assert -1.0 <= min(cooldowns) < -0.85 and 1.85 < max(cooldowns) <= 2.0
    assert np.mean(cooldowns) == pytest.approx(0.5, abs=0.3)


def test_moving_before_the_damage_point_cancels_the_shot():
    for engine, is_hit in ((EngineSettings(), False), (EngineSettings(damage_point=False), True)):
        # The stalker comes into range in the last loops of a step: its damage point is 2.672 loops.
        start = 7.125 + 7 * 0.1845688 - 0.01
        battles = BattleVector("3s_vs_3z", 1, engine=engine)
        battles = stage("3s_vs_3z", [(4.0, 16.0), None, None, (4.0 + start, 16.0), None, None], engine)
        frozen = battles.snapshot()
        frozen["flags"][0, 0, 3] = 0  # the zealot obeys no order and stands
        battles.restore(frozen)
        battles.step([[ATTACK, 0, 0]])
        battles.step([[WEST, 0, 0]])
        battles.step([[WEST, 0, 0]])
        assert (battles.units().shield[0, 3] < 50) == is_hit
        assert (battles.units().cooldown[0, 0] > 0) == is_hit


def test_stalker_missiles_take_their_time_and_outlive_their_shooter():
    engine = EngineSettings(random_delay=False)
    battles = stage("3s_vs_3z", [(8.0, 16.0), None, None, (14.0, 16.0), None, None], engine)
    frozen = battles.snapshot()
    frozen["flags"][0, 0, 3] = 0
    battles.restore(frozen)
    battles.step([[ATTACK, 0, 0]])
    # Released after 2.672 loops (in the fourth), then (6 - 0.5) / (18.75 / 16) = 4.7 loops of flight: the ninth.
    assert battles.units().shield[0, 3] == 50
    kept = battles.snapshot()
    battles.step([[STOP, 0, 0]])
    assert battles.units().shield[0, 3] == 40
    kept["units"][0, HEALTH, 0] = 0.0
    kept["dead"][0, 0] = True
    kept["units"][0, HEALTH, 1] = 80.0  # another agent lives on far away
    kept["dead"][0, 1] = False
    kept["action_mask"][:] = True
    battles.restore(kept)
    battles.step([[0, STOP, 0]])
    assert battles.units().shield[0, 3] == 40


def test_zealots_hit_twice_and_armor_counts_after_shields():
    engine = EngineSettings(random_delay=False)
    places = [(16.0, 16.0), None, None, (17.1, 16.0), None, None]
    battles = stage("3s_vs_3z", places, engine, shield=[10, 0, 0, 50, 0, 0])
    battles.step([[STOP, 0, 0]])
    units = battles.units()
    # 8 on the shield, then 2 on the shield and 6 - 1 armor on the health, 4.48 loops (five) later.
    assert (units.shield[0, 0], units.health[0, 0]) == (0.0, 75.0)
    battles = stage("2m_vs_1z", [(16.0, 16.0), None, (17.0, 16.0)], engine)
    battles.step([[STOP, 0]])
    assert battles.units().health[0, 0] == 45 - 16, "marines have no armor"


def test_small_hits_do_at_least_half_a_point():
    places = [(14.0, 16.0), None, (17.0, 16.0)]
    battles = stage("2m_vs_1z", places, EngineSettings(), shield=[0, 0, 5.75])
    battles.step([[ATTACK, 0]])
    # 6 damage: 5.75 on the shield, 0.25 minus armor 1 is raised to 0.5.
    assert (battles.units().shield[0, 2], battles.units().health[0, 2]) == (0.0, 99.5)


def test_shields_regenerate_two_per_second_after_ten_seconds():
    battles = stage("3s_vs_3z", [(2.0, 2.0), None, None, (30.0, 30.0), None, None], shield=[30, 0, 0, 50, 0, 0])
    kept = battles.snapshot()
    kept["flags"][0, 0, 3] = 0
    battles.restore(kept)
    for _ in range(19):
        battles.step([[STOP, 0, 0]])
    assert battles.units().shield[0, 0] == 30
    for _ in range(2):
        battles.step([[STOP, 0, 0]])
    assert battles.units().shield[0, 0] == 30 + 9 * 0.125


def test_the_enemy_attacks_the_nearest_and_goes_to_its_point_when_nobody_is_near():
    places = [(6.0, 16.0), (20.0, 19.0), (20.0, 13.5), (24.0, 16.0), None, None]
    battles = stage("3m", places)
    for _ in range(6):
        battles.step([[STOP, STOP, STOP]])
    health = battles.units().health[0]
    assert health[2] < 45 and health[0] == 45 and health[1] == 45
    battles = stage("3m", [(9.0, 23.5), None, None, (23.0, 16.0), None, None])
    for _ in range(16):
        battles.step([[STOP, 0, 0]])
    assert battles.units().x[0, 3] == pytest.approx(9.0, abs=0.6)
    assert battles.units().y[0, 3] == pytest.approx(16.0, abs=0.6)


def test_friends_hit_near_by_call_for_help_and_retaliation_can_be_switched_off():
    # The second zealot stands at its goal, too far from the stalker to notice it by itself.
    for engine, comes in ((EngineSettings(), True), (EngineSettings(retaliation=False), False)):
        battles = stage("3s_vs_3z", [(9.0, 21.9), None, None, (9.0, 16.0), (9.0, 14.5), None], engine)
        kept = battles.snapshot()
        kept["units"][0, [GOAL_X, GOAL_Y], 4] = (9.0, 14.5)
        battles.restore(kept)
        for _ in range(3):
            battles.step([[ATTACK, 0, 0]])
        assert (battles.units().y[0, 4] > 14.7) == comes


def test_balance_switch():
    damage = {}
    for balance in ("liberty", "lotv"):
        places = [(8.0, 16.0), None, None, (11.0, 16.0), None, None]
        battles = stage("3s_vs_3z", places, EngineSettings(balance=balance))
        battles.step([[ATTACK, 0, 0]])
        damage[balance] = 50 - battles.units().shield[0, 3]
    assert damage == {"liberty": 10, "lotv": 13}


def test_a_unit_walks_round_one_that_stands_in_its_way():
    battles = stage("3m", [(8.0, 16.0), (10.0, 16.0), None, (31.0, 23.5), None, None])
    kept = battles.snapshot()
    kept["flags"][0, 0, 3] = 0
    battles.restore(kept)
    for _ in range(6):
        battles.step([[EAST, STOP, 0]])
    units = battles.units()
    assert units.x[0, 0] > 12.0
    assert np.hypot(units.x[0, 1] - 10.0, units.y[0, 1] - 16.0) < 0.5


def test_friends_shooting_in_the_same_loop_do_not_waste_shots_on_the_fallen():
    places = [(8.0, 15.0), (8.0, 16.0), (8.0, 17.0), (11.0, 16.0), None, (31.0, 23.5)]
    battles = stage("3m", places, health=[45, 45, 45, 6, 0, 45])
    battles.step([[ATTACK, ATTACK, ATTACK]])
    assert battles.units().health[0, 3] == 0
    assert (battles.units().cooldown[0, :3] > 0).sum() == 1


def test_both_last_units_may_fall_together():
    places = [(8.0, 16.0), None, None, (11.0, 16.0), None, None]
    battles = stage("3m", places, health=[6, 0, 0, 6, 0, 0])
    battles.step([[ATTACK, 0, 0]])
    assert battles.terminated[0] and not battles.battle_won[0]
    assert (battles.dead_allies[0], battles.dead_enemies[0]) == (3, 3)


@pytest.mark.parametrize("map_name", ["3m", "8m", "2s3z"])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_neither_side_has_an_advantage(map_name, jitter):
    battles = BattleVector(map_name, 64, 11, engine=EngineSettings(scripted_agents=True, spawn_jitter=jitter))
    battles.reset()
    won = ended = 0.0
    while ended < 800:
        battles.step(np.where(battles.alive, STOP, 0))
        decided = battles.terminated & ~battles.timed_out
        drawn = decided & (battles.dead_allies == battles.num_agents) & (battles.dead_enemies == battles.num_enemies)
        won += battles.battle_won.sum() + 0.5 * drawn.sum()
        ended += decided.sum()
    assert abs(won / ended - 0.5) < 4 * 0.5 / np.sqrt(ended)


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_battles_begin_as_the_map_says(map_name):
    battles = BattleVector(map_name, 1, engine=EngineSettings(opening_loops=0))
    battles.reset()
    spec, units = battles.map_spec, battles.units()
    kinds = [unit_kind(name) for name in (*spec.ally_kinds, *spec.enemy_kinds)]
    assert units.health[0].tolist() == [kind.health for kind in kinds]
    assert units.shield[0].tolist() == [kind.shield for kind in kinds]
    order = sorted(range(spec.num_agents), key=lambda i: (kinds[i].name, units.x[0, i], units.y[0, i]))
    assert order == list(range(spec.num_agents)), "agents are numbered by (kind, x, y)"
    apart = np.hypot(np.subtract.outer(units.x[0], units.x[0]), np.subtract.outer(units.y[0], units.y[0]))
    separation = np.array([kind.separation_radius for kind in kinds])
    off_diagonal = ~np.eye(len(kinds), dtype=bool)
    same_layer = np.equal.outer(*[np.array([(kind.flies, kind.cliff_walker) for kind in kinds]) @ [2, 1]] * 2)
    gaps = apart - separation[:, None] - separation[None, :]
    assert (gaps[off_diagonal & same_layer] > -2e-3).all()
    if spec.ally_kinds == spec.enemy_kinds:
        mirrored = sorted(zip(32 - units.enemies.x[0], units.enemies.y[0], strict=True))
        assert np.allclose(mirrored, sorted(zip(units.agents.x[0], units.agents.y[0], strict=True)), atol=1e-3)


def test_settings_out_of_range_are_refused():
    for wrong in ({"balance": "ladder"}, {"chase_melee": -1.0}, {"spawn_pitch": 0.5}, {"opening_loops": 9}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EngineSettings(**wrong)
