"""Battles put into a given state: what is seen then, what goes on from there, and what is refused."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.maps import EVERY_MAP

from dm2_ray.world import BattleVector, RulesReplay, SMACEnv, load_map
from dm2_ray.world.unit_kinds import unit_kind

FIELDS = ("x", "y", "health", "shield", "energy", "cooldown")


def everything(env: SMACEnv) -> tuple:
    """All that can be seen of a battle, in comparable form."""
    obs, avail, visible = env.get_obs(), env.get_avail_actions(), env.get_visibility_matrix()
    return np.array(obs).tobytes(), env.get_state().tobytes(), avail, visible.tobytes(), env.units()


def play(env: SMACEnv, rng: np.random.Generator, steps: int) -> None:
    """Random available actions; a battle that ends is followed by another."""
    for _ in range(steps):
        _, terminated, _ = env.step([rng.choice(np.flatnonzero(row)) for row in env.get_avail_actions()])
        if terminated:
            env.reset()


def random_rows(rng: np.random.Generator, kinds: tuple[str, ...], ground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[n, 6] a side somewhere on walkable cells, one in five dead, the first never."""
    rows = np.zeros((len(kinds), 6), np.float32)
    cells = np.argwhere(ground)[rng.integers(np.count_nonzero(ground), size=len(kinds))]
    rows[:, :2] = np.floor((cells + rng.random(cells.shape)) * 4096) / 4096
    for row, name in zip(rows, kinds, strict=True):
        kind = unit_kind(name)
        row[2:] = kind.health, kind.shield, kind.healing.energy_max if kind.healing else 0, 30
    rows[:, 2:] *= rng.random((len(kinds), 4)).astype(np.float32)
    rows[1:, 2] *= rng.random(len(kinds) - 1) > 0.2
    return rows


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_putting_a_battle_into_its_own_state_changes_nothing_that_is_seen(map_name: str) -> None:
    env, rng = SMACEnv(map_name, obs_last_action=True, state_timestep_number=True), np.random.default_rng(0)
    env.reset()
    for _ in range(4):
        play(env, rng, 7)
        before = everything(env)
        obs, state = env.set_units(*env.units())
        assert everything(env) == before
        np.testing.assert_array_equal(obs, env.get_obs())
        np.testing.assert_array_equal(state, env.get_state())


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_a_placed_battle_looks_as_the_rules_say(map_name: str) -> None:
    spec, rng = load_map(map_name), np.random.default_rng(1)
    env, rules = SMACEnv(map_name, obs_pathing_grid=True), RulesReplay(map_name, obs_pathing_grid=True)
    for _ in range(5):
        allies, enemies = (random_rows(rng, kinds, spec.walkable) for kinds in (spec.ally_kinds, spec.enemy_kinds))
        env.reset()
        env.set_units(*([dict(zip(FIELDS, row, strict=True)) for row in side.tolist()] for side in (allies, enemies)))
        obs, state, avail = rules.reset(allies, enemies)
        np.testing.assert_array_equal(env.get_obs(), obs)
        np.testing.assert_array_equal(env.get_state(), state)
        np.testing.assert_array_equal(env.get_avail_actions(), avail)
        play(env, rng, 3)


def test_sides_may_be_records_mappings_lists_or_parts() -> None:
    env = SMACEnv("2s3z")
    env.reset()
    start = env.units()
    whole = [replace(start.allies[0], x=12.5, shield=7.0), *start.allies[1:]]
    ways = [
        {"allies": whole},
        {"allies": [asdict(record) for record in whole]},
        {"allies": [{"x": 12.5, "shield": 7}, None, None, None, None]},
        {"allies": {0: {"x": np.float32(12.5), "shield": np.int64(7)}}},
        {"allies": {0: whole[0]}, "enemies": list(start.enemies)},
        {"allies": start._replace(allies=whole)},
    ]
    seen = []
    for way in ways:
        env.set_units(start)
        env.set_units(**way)
        seen.append(everything(env))
    assert env.units().allies == whole
    assert env.units().enemies == start.enemies
    assert all(one == seen[0] for one in seen)


def test_a_unit_set_to_no_health_is_dead_and_nobody_is_paid_for_it() -> None:
    env = SMACEnv("3m", reward_scale=False)
    env.reset()
    env.set_units(allies=[{"x": 1.0}] * 3, enemies=[{"health": 0, "x": 30.0}, {"x": 30.0}, {"x": 30.0}])
    assert env.death_tracker_enemy.tolist() == [1, 0, 0]
    env.set_units(allies={2: {"health": 0}})
    assert env.get_avail_agent_actions(2) == [1] + [0] * 8
    assert not env.get_obs_agent(2).any()
    reward, terminated, info = env.step([1, 1, 0])
    assert (reward, terminated) == (0.0, False)
    assert (info["dead_allies"], info["dead_enemies"]) == (1, 1)


def test_a_unit_brought_back_may_be_killed_for_a_reward_again() -> None:
    env = SMACEnv("3m", reward_scale=False, reward_win=0)
    env.reset()
    together = [{"x": 10.0, "y": 12.0 + i} for i in range(3)]
    target = {"x": 13.0, "y": 13.0, "health": 3.0}
    for _ in range(2):
        env.set_units(together, [target, {"x": 30.0}, {"x": 30.0}])
        reward, _, _ = env.step([6, 6, 6])
        assert env.units().enemies[0].health == 0
        assert reward == pytest.approx(3.0 + 10.0)


def test_a_blow_begun_is_dropped() -> None:
    """Zealots strike twice, the second blow 4.5 loops after the first: a placement in between takes it away."""
    placed, left = SMACEnv("3s_vs_3z"), SMACEnv("3s_vs_3z")
    for env in (placed, left):
        env.reset()
    differences = 0
    for _ in range(60):
        placed.set_units(left.units())
        assert placed.units() == left.units()
        ended = [env.step([1 if row[1] else 0 for row in env.get_avail_actions()])[1] for env in (placed, left)]
        if any(ended):
            break
        differences += placed.units() != left.units()
    assert differences > 0


def test_equal_placements_go_on_equally() -> None:
    one, other = SMACEnv("MMM", seed=4), SMACEnv("MMM", seed=4)
    for env, steps in ((one, 0), (other, 0)):
        env.reset()
        play(env, np.random.default_rng(0), steps)
        env.set_units(allies={9: {"x": 20.0, "y": 17.0, "energy": 3}}, enemies={0: {"health": 0}})
        play(env, np.random.default_rng(5), 20)
    assert everything(one) == everything(other)


def test_positions_are_rounded_down_to_the_engines_grid() -> None:
    env = SMACEnv("3m")
    env.reset()
    env.set_units(allies={0: {"x": 12.99999, "y": 8.0}})
    unit = env.units().allies[0]
    assert (unit.x, unit.y) == (12 + 4095 / 4096, 8.0)


def test_fliers_and_cliff_walkers_stand_where_others_cannot() -> None:
    spec = load_map("2c_vs_64zg")
    cliff = next((x, y) for x, y in np.argwhere(~spec.walkable).tolist() if 4 < x < 27 and y == 13)
    place = {"x": cliff[0] + 0.5, "y": cliff[1] + 0.5}
    env = SMACEnv("2c_vs_64zg")
    env.reset()
    env.set_units(allies={0: place})
    with pytest.raises(ValueError, match=r"enemies\[3\] \(zergling\) cannot stand"):
        env.set_units(enemies={3: place})
    mmm = SMACEnv("MMM")
    mmm.reset()
    mmm.set_units(allies={9: {"y": 2.0}})
    with pytest.raises(ValueError, match=r"allies\[8\] \(marine\) cannot stand at"):
        mmm.set_units(allies={8: {"y": 2.0}})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"allies": {0: {"helth": 3}}}, ValueError, r"allies\[0\] has no field 'helth'; did you mean 'health'"),
        ({"enemies": {0: {"kind": "zealot"}}}, ValueError, r"enemies\[0\] is a marine .* cannot become 'zealot'"),
        ({"allies": {0: {"x": "1"}}}, TypeError, r"x is '1'; expected a number"),
        ({"allies": {0: {"x": True}}}, TypeError, "expected a number"),
        ({"allies": {0: {"x": float("nan")}}}, ValueError, "finite"),
        ({"allies": {0: {"cooldown": float("inf")}}}, ValueError, "finite"),
        ({"allies": {0: {"health": -1}}}, ValueError, "at least 0"),
        ({"allies": {0: {"cooldown": -1}}}, ValueError, "at least 0"),
        ({"allies": {0: {"health": 45.5}}}, ValueError, r"allies\[0\] \(marine\): health is 45.5; expected at most 45"),
        ({"enemies": {1: {"shield": 1}}}, ValueError, "at most 0"),
        ({"enemies": {1: {"energy": 1}}}, ValueError, "at most 0"),
        ({"allies": {0: {"x": 32.0}}}, ValueError, r"cannot stand at \(32.0"),
        ({"allies": {0: {"y": 7.9}}}, ValueError, "cannot stand"),
        ({"allies": {3: {}}}, ValueError, "no unit 3; expected an index from 0 to 2"),
        ({"allies": {"0": {}}}, ValueError, "no unit '0'"),
        ({"allies": [{}]}, ValueError, "1 entries, expected 3"),
        ({"allies": [1, 2, 3]}, TypeError, r"allies\[0\] is 1"),
        ({"allies": "all"}, TypeError, "expected a list"),
        ({"allies": 3}, TypeError, "expected a list"),
        ({"enemies": [{"health": 0}] * 3}, ValueError, "3 allies and 0 enemies .* the battle would be over"),
        ({"allies": [{"health": 0}] * 3}, ValueError, "0 allies and 3 enemies"),
        ({"allies": [{"health": 1e-60}] * 3}, ValueError, "0 allies and 3 enemies"),
    ],
)
def test_what_cannot_be_is_refused_as_a_whole(change: dict, error: type[Exception], words: str) -> None:
    env = SMACEnv("3m")
    env.reset()
    before = everything(env)
    with pytest.raises(error, match=words) as raised:
        env.set_units(**({"allies": {1: {"x": 15.0}}, "enemies": {2: {"x": 15.0}}} | change))
    assert "\n" not in str(raised.value)
    assert everything(env) == before


def test_on_mmm_maps_somebody_who_fights_must_be_left() -> None:
    env = SMACEnv("MMM")
    env.reset()
    dead = {"health": 0}
    with pytest.raises(ValueError, match="1 allies and 10 enemies"):
        env.set_units(allies=[dead] * 9 + [None])
    with pytest.raises(ValueError, match="10 allies and 1 enemies"):
        env.set_units(enemies=[dead] * 9 + [None])
    env.set_units(enemies=[None] + [dead] * 9)


def test_only_a_battle_under_way_can_be_changed() -> None:
    env = SMACEnv("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.units()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.set_units()
    env.reset()
    env.set_units(enemies=[{"x": 10.0, "y": 15.0 + i} for i in range(3)], allies=[{"health": 1}] * 3)
    while not env.step([1 if row[1] else 0 for row in env.get_avail_actions()])[1]:
        pass
    assert [record.health for record in env.units().allies] == [0, 0, 0]
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.set_units(allies=[{"health": 1}] * 3)


def test_one_column_of_a_vector_is_placed_and_the_others_stay() -> None:
    battles, untouched = BattleVector("3m", 3, seed=2), BattleVector("3m", 3, seed=2)
    for vector in (battles, untouched):
        vector.reset()
        vector.step(np.ones((3, 3), np.int64))
    battles.place_units(1, allies={0: {"health": 0}})
    assert battles.alive.tolist() == [[True] * 3, [False, True, True], [True] * 3]
    assert battles.unit_records(1).allies[0].health == 0
    for vector in (battles, untouched):
        vector.step([[1, 1, 1], [0 if vector is battles else 1, 1, 1], [1, 1, 1]])
    for column in (0, 2):
        np.testing.assert_array_equal(battles.state[column], untouched.state[column])
    with pytest.raises(IndexError, match="column is 3; expected 0 to 2"):
        battles.place_units(3)
    with pytest.raises(RuntimeError, match=r"before reset\(\)"):
        BattleVector("3m", 1).place_units(0)
