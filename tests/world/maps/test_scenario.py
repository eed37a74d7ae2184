"""User scenarios: the maps they become, and battles on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scenarios import built, duel, scenarios, written

from dm2_ray.world import (
    BattleVector,
    MapSpec,
    RulesReplay,
    ScenarioError,
    SMACEnv,
    UnknownMapError,
    load_map,
    load_scenario,
    map_names,
    scenario_names,
    world_map,
)
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.scenario import read_scenario
from dm2_ray.world.maps.scenario_checks import separate_areas, starting_positions
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import height_image, max_reward
from dm2_ray.world.unit_kinds import unit_kind
from dm2_ray.world.viewing.text_map import count_units, draw_map


def random_actions(battles: BattleVector, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(battles.action_mask.shape) * battles.action_mask).argmax(-1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=scenarios())
def test_a_valid_scenario_becomes_the_map_it_describes(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = built(content)
    path = written(tmp_path_factory.getbasetemp(), content, f"{content['name']}.yaml")
    assert load_map(str(path)) is spec  # equal contents share a map
    kept = json.loads(json.dumps(read_scenario(path)))
    assert world_map("anything", kept) is spec
    renamed = built({**content, "name": "other"})
    assert renamed is not spec and renamed.scenario_hash == spec.scenario_hash
    assert built({**content, "episode_limit": content["episode_limit"] + 1}).scenario_hash != spec.scenario_hash

    counts = {}
    for owner, name in ((1, "agents"), (2, "enemies")):
        counts[owner] = Counter[str]()
        for group in content[name]:
            counts[owner][group["kind"]] += group.get("count", len(group.get("at", [])))
    assert Counter(spec.ally_kinds) == counts[1] and Counter(spec.enemy_kinds) == counts[2]
    assert list(spec.ally_kinds) == sorted(spec.ally_kinds)
    assert list(dict.fromkeys(spec.enemy_kinds)) == list(dict.fromkeys(g["kind"] for g in content["enemies"]))
    most = max(len(counts[1]), len(counts[2]))
    assert spec.unit_type_bits == (most if most > 1 else 0)
    assert spec.episode_limit == content["episode_limit"]
    targets = max(spec.num_enemies, spec.num_agents if counts[1]["medivac"] else 0)
    assert spec.num_actions == 6 + targets

    size_x, size_y = spec.walkable.shape
    rows = content["terrain"].get("rows")
    if rows is not None:
        rows = rows.split() if isinstance(rows, str) else rows
        assert [[spec.walkable[x, size_y - 1 - r] for x in range(size_x)] for r in range(size_y)] == [
            [cell == "." for cell in row] for row in rows
        ]
    assert spec.terrain_height.min() >= 8.0 and spec.terrain_height.max() <= 16.0
    places = starting_positions(spec)
    assert spec.walkable[tuple(places.astype(int).T)].all()
    for start, name, kinds in ((0, "agents", spec.ally_kinds), (spec.num_agents, "enemies", spec.enemy_kinds)):
        for group in content[name]:
            asked = {tuple(place) for place in group.get("at", [])}
            members = [tuple(places[start + i]) for i, kind in enumerate(kinds) if kind == group["kind"]]
            assert asked <= set(members)
        if name == "agents":
            in_order = [(kind, *place) for kind, place in zip(kinds, places[: spec.num_agents].tolist(), strict=True)]
            assert in_order == sorted(in_order)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=scenarios(), seed=st.integers(0, 2**32 - 1), is_seeing_all=st.booleans())
def test_sizes_are_those_of_the_arrays_and_no_entry_is_undefined(
    content: dict[str, Any], seed: int, is_seeing_all: bool
) -> None:
    """The rules on random unit states: mixed sides, kinds without shields among some with, healers and all."""
    spec, rng = built(content), np.random.default_rng(seed)
    arguments = {"obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True}
    replay = RulesReplay(spec, obs_all_health=is_seeing_all, state_timestep_number=True, **arguments)

    def units(kinds: tuple[str, ...]) -> np.ndarray:
        stats = [unit_kind(kind) for kind in kinds]
        middle = np.array(spec.walkable.shape) / 2
        rows = [[*(middle + rng.uniform(-5, 5, 2)), rng.uniform(0, k.health), rng.uniform(0, k.shield), 20, 3]
                for k in stats]  # fmt: skip
        return np.array(rows) * [1, 1, *rng.integers(0, 2, 2), 1, 1]

    obs, state, avail = replay.reset(units(spec.ally_kinds), units(spec.enemy_kinds))
    actions = (rng.random(avail.shape) * avail).argmax(-1)
    obs, state, avail, reward, _, _ = replay.step(actions, units(spec.ally_kinds), units(spec.enemy_kinds))
    tables = replay.tables
    assert obs.shape == (spec.num_agents, tables.obs_size) and avail.shape == (spec.num_agents, spec.num_actions)
    assert state.shape == (tables.state_size,)
    assert np.isfinite(obs).all() and np.isfinite(state).all() and np.isfinite(reward)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=scenarios(), seed=st.integers(0, 2**32 - 1))
def test_a_valid_scenario_is_played(content: dict[str, Any], seed: int) -> None:
    spec, rng = built(content), np.random.default_rng(seed)
    env = SMACEnv(spec, seed=seed)
    info = env.get_env_info()
    assert info["n_actions"] == spec.num_actions and info["n_agents"] == spec.num_agents
    env.reset()
    assert env.get_state().shape == (info["state_shape"],) and env.get_obs()[0].shape == (info["obs_shape"],)
    battles = BattleVector(spec, 2, seed)
    battles.reset()
    for _ in range(10):
        battles.step(random_actions(battles, rng))
        units = battles.units()
        assert np.isfinite(battles.observations).all() and np.isfinite(battles.state).all()
        places = np.stack([units.x, units.y], -1)
        assert (places >= 0).all() and (places < spec.walkable.shape).all()


# What kinds mean for the rules.


def test_a_mixed_side_shows_shields_and_zeros_for_those_without() -> None:
    spec = built(duel(agents=[{"kind": "marine", "at": [[8, 8]]}, {"kind": "zealot", "at": [[9, 9]]}],
                      enemies=[{"kind": "marine", "at": [[10, 10]]}]))  # fmt: skip
    assert (spec.ally_race, spec.enemy_race) == ("P", "T")
    obs, state, _ = RulesReplay(spec).reset([[8, 8, 45, 0, 0, 0], [9, 9, 50, 25, 0, 0]], [[10, 10, 9, 0, 0, 0]])
    # move 4 | enemy: shootable, distance, dx, dy, health, marine, - | ally: visible, distance, dx, dy, health, shield,
    # marine, zealot | own: health, shield, marine, zealot
    assert obs.shape == (2, 4 + 7 + 8 + 4)
    np.testing.assert_array_equal(obs[0, 4 + 4 : 4 + 7], np.float32([0.2, 1, 0]))
    np.testing.assert_array_equal(obs[0, 11 + 4 : 11 + 8], np.float32([0.5, 0.5, 0, 1]))
    np.testing.assert_array_equal(obs[0, 19:], np.float32([1, 0, 1, 0]))
    np.testing.assert_array_equal(obs[1, 19:], np.float32([0.5, 0.5, 0, 1]))
    assert state.shape == (2 * 7 + 1 * 5 + 2 * 7,)


def test_places_in_the_state_are_relative_to_a_map_of_any_size() -> None:
    spec = built(duel(terrain={"size": [64, 40]}, agents=[{"kind": "marine", "at": [[8, 8]]}]))
    _, state, _ = RulesReplay(spec).reset([[16, 30, 45, 0, 0, 0]], [[8, 8, 100, 50, 0, 0]] * 2)
    np.testing.assert_array_equal(state[2:4], np.float32([(16 - 32) / 64, (30 - 20) / 40]))


def mmm(num_medivacs: int = 1, num_enemies: int = 1) -> MapSpec:
    agents = [{"kind": "marine", "at": [[8, 8], [9, 9], [10, 8]]}, {"kind": "medivac", "at": [[8, 12]]}]
    medivacs = {"kind": "medivac", "at": [[20 + 2 * k, 20] for k in range(num_medivacs)]}
    return built(duel(agents=agents, enemies=[{"kind": "marine", "count": num_enemies, "x": 14, "y": 8}, medivacs]))


def test_medivacs_heal_more_agents_than_there_are_enemies() -> None:
    spec = mmm(num_medivacs=1, num_enemies=1)
    assert spec.num_actions == 6 + 4
    allies = [[8, 8, 45, 0, 0, 0], [9, 9, 0, 0, 0, 0], [30, 30, 45, 0, 0, 0], [8, 10, 150, 0, 60, 0]]
    enemies = [[10, 10, 45, 0, 0, 0], [11, 10, 150, 0, 50, 0]]
    _, state, avail = RulesReplay(spec).reset(allies, enemies)
    assert avail[3, 6:].tolist() == [1, 0, 0, 0]  # marine 0 is hurt or not, 1 dead, 2 far, 3 a medivac
    assert avail[0, 6:].tolist() == [1, 1, 0, 0]  # marines shoot both enemies, and there are no more
    width = 4 + 3 - 1
    assert spec.unit_type_bits == 2 and state[3 * width + 1] == np.float32(60 / 200)


def test_a_medivac_heals_the_agent_beyond_the_last_enemy() -> None:
    battles = BattleVector(built(duel(
        agents=[{"kind": "marine", "at": [[8, 8], [9, 9], [10, 8]]}, {"kind": "medivac", "at": [[9, 11]]}],
        enemies=[{"kind": "marine", "at": [[28, 28]]}], enemy_order="none")), 1)  # fmt: skip
    battles.reset()
    battles.place_units(0, allies={2: {"health": 10.0}})
    for _ in range(5):
        battles.step([[1, 1, 1, 6 + 2]])
    assert battles.units().health[0, :4].tolist() == [45, 45, pytest.approx(10 + 5 * 8 * 0.5625, abs=5), 150]


@pytest.mark.parametrize(
    ("allies", "enemies", "terminated", "won"),
    [
        ((1, 1), (1, 1, 1), False, False),
        ((0, 1), (1, 1, 1), True, False),  # only a medivac is left
        ((1, 1), (0, 1, 1), True, True),
        ((1, 0), (0, 0, 1), True, True),
        ((0, 0), (0, 0, 0), True, False),  # at once: a defeat, as on SMAC's MMM
        ((0, 1), (0, 1, 0), True, False),
    ],
)
def test_a_side_of_nothing_but_medivacs_is_beaten(
    allies: tuple[int, ...], enemies: tuple[int, ...], terminated: bool, won: bool
) -> None:
    spec = mmm(num_medivacs=2)
    replay = RulesReplay(spec, reward_defeat=-1, reward_scale=False)

    def units(marines: int, *others: int, first: int) -> list[list[float]]:
        return [[8 + i, 8, 10.0 * marines, 0, 0, 0] for i in range(first)] + [[9, 9, 10.0 * o, 0, 0, 0] for o in others]

    replay.reset(units(1, 1, first=3), units(1, 1, 1, first=1))
    *_, reward, ended, info = replay.step([1, 1, 1, 1], units(*allies, first=3), units(*enemies, first=1))
    assert (ended, info["battle_won"]) == (terminated, won)
    gained = 10 * (3 - sum(enemies)) + 10 * (3 - sum(enemies))
    assert reward == pytest.approx(gained + (200 if won else -1 if terminated else 0))


# Battles.


def test_units_stand_exactly_where_they_are_put() -> None:
    content = duel(agents=[{"kind": "marine", "at": [[9, 16], [5.5, 3.25], [5.5, 2]]}])
    battles = BattleVector(built(content), 1, engine=EngineSettings(opening_loops=0))
    battles.reset()
    units = battles.units()
    assert list(zip(units.x[0], units.y[0], strict=True)) == [(5.5, 2), (5.5, 3.25), (9, 16), (20, 16), (20, 18)]


def test_a_hundred_against_a_hundred() -> None:
    battles, rng = BattleVector("100m_vs_100m", 2), np.random.default_rng(0)
    spec = battles.map_spec
    assert (spec.num_agents, spec.num_enemies, spec.walkable.shape) == (100, 100, (64, 64))
    assert battles.observations.shape == (2, 100, 4 + 100 * 5 + 99 * 5 + 1)
    assert battles.state.shape == (2, 100 * 4 + 100 * 3 + 100 * 106)
    battles.reset()
    before = battles.units().x.copy()
    for _ in range(20):
        battles.step(random_actions(battles, rng))
        units = battles.units()
        assert np.isfinite(battles.observations).all() and np.isfinite(battles.state).all()
        assert (units.x >= 0).all() and (units.x < 64).all() and (units.y >= 0).all() and (units.y < 64).all()
    assert (battles.units().x[:, 100:] < before[:, 100:] - 5).mean() > 0.9  # the enemies have come nearer
    assert 0 < battles.state[0, 2] + 0.5 < 1


@pytest.mark.parametrize("size", [(4, 4), (17, 9), (128, 128)])
def test_maps_of_any_size_are_played_within_their_bounds(size: tuple[int, int]) -> None:
    content = duel(agents=[{"kind": "marine", "at": [[1, 1]]}], terrain={"size": list(size)},
                   enemies=[{"kind": "zealot", "at": [[size[0] - 1, size[1] - 1]]}])  # fmt: skip
    battles, rng = BattleVector(built(content), 3), np.random.default_rng(1)
    battles.reset()
    for _ in range(100):
        battles.step(random_actions(battles, rng))
        units = battles.units()
        assert (units.x >= 0).all() and (units.x < size[0]).all() and (units.y >= 0).all() and (units.y < size[1]).all()


def test_packaged_scenarios_are_maps_like_any_other() -> None:
    assert len(map_names()) == 23 and not set(map_names()) & set(scenario_names())
    for name in scenario_names():
        spec = load_map(name)
        assert spec.name == name and spec.is_scenario and load_map(name) is spec
        assert separate_areas(spec) == (spec.num_agents + spec.num_enemies,)
    with pytest.raises(UnknownMapError, match="did you mean '100m_vs_100m'"):
        load_map("100m_vs_10m")


def test_everything_that_takes_a_map_takes_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, duel())
    assert BattleVector(str(path), 1).map_name == "duel"
    assert SMACEnv(str(path)).get_env_info()["n_actions"] == 8
    assert RulesReplay(str(path)).map_spec is load_scenario(path) is load_map(path)
    assert load_scenario(written(tmp_path, {**duel(), "episode_limit": 81})).episode_limit == 81  # read anew


def test_the_name_is_the_files_unless_it_is_given(tmp_path: Path) -> None:
    content = duel()
    del content["name"]
    assert load_scenario(written(tmp_path, content, "2 m + z.yml")).name == "2_m___z"
    with pytest.raises(ScenarioError, match="3m is one of SMAC's maps"):
        load_scenario(written(tmp_path, content, "3m.yaml"))


def test_sides_that_cannot_meet_are_told_apart() -> None:
    rows = ["...#...."] * 8
    content = duel(terrain={"rows": rows}, agents=[{"kind": "marine", "at": [[1, 1], [1, 5]]}],
                   enemies=[{"kind": "zealot", "at": [[6, 1]]}, {"kind": "colossus", "at": [[6, 4]]}])  # fmt: skip
    assert separate_areas(built(content)) == (2, 1)
    assert separate_areas(built({**content, "terrain": {"size": [8, 8]}})) == (3,)


def test_heights_are_levels_above_smacs_floor() -> None:
    heights = ["00001111"] * 4 + ["00000000"] * 4
    content = duel(terrain={"size": [8, 8], "heights": heights}, agents=[{"kind": "marine", "at": [[1, 1]]}],
                   enemies=[{"kind": "zealot", "at": [[6, 1]]}])  # fmt: skip
    image = height_image(built(content))
    assert image[1, 1] == image[7, 1] == image[1, 7] == 191 and image[7, 7] == 207


def test_a_drawing_shows_ground_and_sides() -> None:
    rows = ["....#.", "......", "......", "...##."]
    content = duel(terrain={"rows": rows}, agents=[{"kind": "marine", "at": [[0.5, 0.5], [1.5, 2.5]]}],
                   enemies=[{"kind": "zealot", "at": [[5.5, 3.5]]}])  # fmt: skip
    assert draw_map(built(content)) == "3 ....#E\n2 .A....\n1 ......\n0 A..##.\n  0    5"
    assert count_units(["stalker", "stalker", "colossus", "spinecrawler"]) == "2 stalkers, 1 colossus, 1 spine crawler"


def test_max_reward_counts_the_enemies() -> None:
    assert max_reward(built(duel()), SmacOptions()) == 2 * 10 + 200 + 2 * 150
