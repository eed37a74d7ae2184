"""User scenarios: what they become, against SMAC's own maps, and how wrong ones are refused."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    scenario_from_mapping,
    scenario_names,
    world_map,
)
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.scenario import read_scenario
from dm2_ray.world.maps.scenario_checks import separate_areas, starting_positions
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables, height_image, max_reward
from dm2_ray.world.unit_kinds import kind_names, unit_kind
from dm2_ray.world.viewing.text_map import count_units, draw_map

EVERYTHING = SmacOptions.from_arguments(
    {"obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True, "state_timestep_number": True}
)
OPEN = {"size": [32, 32]}


def duel(**changes: Any) -> dict[str, Any]:
    """A small scenario's content."""
    content = {
        "name": "duel",
        "episode_limit": 80,
        "agents": [{"kind": "marine", "count": 3, "x": 8, "y": 16}],
        "enemies": [{"kind": "zealot", "at": [[20, 16], [20, 18]]}],
        "terrain": OPEN,
    }
    return {**content, **changes}


def built(content: dict[str, Any]) -> MapSpec:
    return scenario_from_mapping(content, origin="here")


def written(directory: Path, content: dict[str, Any] | str, name: str = "mine.yaml") -> Path:
    path = directory / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def random_actions(battles: BattleVector, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(battles.action_mask.shape) * battles.action_mask).argmax(-1)


# SMAC's maps described as scenarios must become SMAC's maps.


def as_scenario(name: str) -> dict[str, Any]:
    spec, order = load_map(name), load_map(name).enemy_order
    sides: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for spawn in spec.spawns:
        sides[spawn.owner].append({"kind": spawn.kind, "count": spawn.count, "x": spawn.x, "y": spawn.y})
    line = {"attack_move": [list(order.start), list(order.end)]}
    return {
        "name": f"my_{name}",
        "episode_limit": spec.episode_limit,
        "agents": sides[1],
        "enemies": sides[2],
        "enemy_order": line if order.kind == "attack_move" else order.kind,
        "terrain": {"like": name},
    }


@pytest.mark.parametrize("name", map_names())
def test_a_map_of_smac_described_as_a_scenario_is_that_map(name: str) -> None:
    smac, mine = load_map(name), built(as_scenario(name))
    for field in ("num_agents", "num_enemies", "num_actions", "episode_limit", "ally_race", "enemy_race",
                  "unit_type_bits", "ally_kinds", "enemy_kinds", "ally_types", "enemy_order", "spawns"):  # fmt: skip
        assert getattr(mine, field) == getattr(smac, field), field
    assert (mine.map_type == "MMM") == (smac.map_type == "MMM")
    np.testing.assert_array_equal(mine.walkable, smac.walkable)
    np.testing.assert_array_equal(mine.terrain_height, smac.terrain_height)
    np.testing.assert_array_equal(starting_positions(mine), starting_positions(smac))
    found, expected = (build_tables(spec, EVERYTHING)._asdict() for spec in (mine, smac))
    if smac.map_type == "stalkers_and_zealots":
        # SMAC's quirk in the numbering of the enemies' types is that of its maps alone.
        enemies = slice(smac.num_agents, None)
        np.testing.assert_array_equal(1 - found["type_index"][enemies], expected["type_index"][enemies])
        found["type_index"] = expected["type_index"]
    for field, value in expected.items():
        np.testing.assert_array_equal(found[field], value, err_msg=field)
    assert smac.scenario_hash is None and mine.scenario_hash is not None


# Random scenarios.

KINDS = st.sampled_from(kind_names())
FIGHTERS = st.sampled_from([kind for kind in kind_names() if kind != "medivac"])


@st.composite
def side(draw: st.DrawFn, west: int, width: int, height: int) -> list[dict[str, Any]]:
    """One side's groups within `width` cells from `west`: exact places two cells apart, then at most one cluster."""
    places = [[west + 1 + 2 * column, 1.5 + 2 * row] for column in range(width // 4) for row in range(height // 2 - 1)]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=8, unique_by=tuple))
    cut = draw(st.integers(1, len(chosen)))
    groups = [{"kind": draw(FIGHTERS), "at": chosen[:cut]}]
    if chosen[cut:]:
        groups.append({"kind": draw(KINDS), "at": chosen[cut:]})
    if draw(st.booleans()):
        x, y = west + 0.75 * width, height / 2
        groups.append({"kind": draw(KINDS), "count": draw(st.integers(1, 6)), "x": x, "y": y})
    return groups


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Content of valid scenarios: agents in the western part, enemies in the eastern, a wall of rubble between."""
    width, height = draw(st.integers(12, 20)), draw(st.integers(12, 40))
    content: dict[str, Any] = {
        "name": draw(st.from_regex(r"my[A-Za-z0-9_.-]{0,12}", fullmatch=True)),
        "episode_limit": draw(st.integers(1, 500)),
        "agents": draw(side(0, width, height)),
        "enemies": draw(side(width + 4, width, height)),
    }
    total = 2 * width + 4
    rubble = draw(st.lists(st.text(".#", min_size=4, max_size=4), min_size=height, max_size=height))
    drawn = ["." * width + row + "." * width for row in rubble]
    ground = draw(st.sampled_from(["size", "rows", "block"]))
    if ground == "size":
        content["terrain"] = {"size": [total, height]}
    else:
        content["terrain"] = {"rows": drawn if ground == "rows" else "\n".join(drawn) + "\n"}
    if draw(st.booleans()):
        content["terrain"]["heights"] = [draw(st.text("01234", min_size=total, max_size=total))] * height
    point = [draw(st.floats(0, total)), draw(st.integers(0, height))]
    orders = ["attack_agents", "none", {"attack_move": point}, {"attack_move": [point, [1, 2.5]]}]
    if draw(st.booleans()):
        content["enemy_order"] = draw(st.sampled_from(orders))
    return content


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


# Refusals.


def refusal(path: Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


AGENTS = "agents:\n- {kind: marine, count: 3, x: 8, y: 8}\n"
ENEMIES = "enemies:\n- {kind: zealot, at: [[20, 16]]}\n"
GOOD = "episode_limit: 9\n" + AGENTS + ENEMIES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "epsode_limit: 3\n", [", line 6", "unknown key epsode_limit", "did you mean episode_limit?"]),
        (GOOD.replace("episode_limit: 9\n", ""), ["episode_limit is missing"]),
        (GOOD.replace("9", "0"), [", line 1", "episode_limit must be at least 1, got 0"]),
        (GOOD.replace("9", "9.5"), ["episode_limit must be a whole number, got 9.5"]),
        (GOOD.replace("marine", "marin"), [", line 3: agents.0.kind", "'marin'", "did you mean marine?"]),
        (GOOD.replace("kind: marine", "knd: marine"), [", line 3", "agents.0"]),
        (GOOD.replace("count: 3", "cuont: 3"), [", line 3", "agents.0.cuont", "did you mean agents.0.count?"]),
        (GOOD.replace("count: 3", "count: 300"), ["agents.0.count must be at most 256, got 300"]),
        (GOOD.replace(", y: 8", ""), ["agents.0: y is missing"]),
        (GOOD.replace("x: 8, y: 8", "x: .nan, y: 8"), ["agents.0.x must be a finite number"]),
        (GOOD.replace("x: 8", "x: 40"), ["agents.0: (40, 8) is not on the map of 32 x 32 cells"]),
        (GOOD.replace("x: 8", "x: -1"), ["agents.0.x must be at least 0"]),
        (GOOD.replace("count: 3", "at: [[1, 1]]"), ["agents.0: needs either x and y", "or places"]),
        (GOOD.replace("count: 3, x: 8, y: 8", "at: [[1, 1], [1]]"), ["agents.0.at.1 must be a point [x, y], got [1]"]),
        (GOOD.replace("count: 3, x: 8, y: 8", "at: [[1, 1], [1.5, 1]]"), ["agents.0.at.1", "0.50 apart", "0.75"]),
        (GOOD.replace("[[20, 16]]", "[[8.25, 8]]"), ["enemies: start too near", "0.25 apart"]),
        (GOOD.replace("[[20, 16]]", "[]"), ["enemies.0.at must be a list of at least 1"]),
        (GOOD.replace(AGENTS, "agents: []\n"), [", line 2", "agents must be a list of at least 1"]),
        (GOOD.replace(AGENTS, "agents: marine\n"), ["agents must be a list, got 'marine'"]),
        (GOOD + "enemy_order: attack\n", [", line 6", "enemy_order must be attack_agents, none", "'attack'"]),
        (GOOD + "enemy_order: {attack_move: [1, 2, 3]}\n", ["enemy_order must be", "[1, 2, 3]"]),
        (GOOD + "enemy_order: {attack_move: [1, 33]}\n", ["enemy_order: attack_move [1.0, 33.0] is not on the map"]),
        (GOOD + "terrain: {size: [200, 64]}\n", ["terrain.size.0 must be at most 128, got 200"]),
        (GOOD + "terrain: {size: [64]}\n", ["terrain.size"]),
        (GOOD + "terrain: {}\n", ["terrain: needs exactly one of size, rows and like"]),
        (GOOD + "terrain: {size: [32, 32], like: 3m}\n", ["terrain: needs exactly one", "size and like"]),
        (GOOD + "terrain: {like: coridor}\n", ["terrain.like", "'coridor'", "did you mean corridor?"]),
        (GOOD + "terrain: {rows: [....., ...]}\n", ["terrain.rows: row 2 has 3 cells, row 1 has 5"]),
        (GOOD + "terrain: {rows: [....., ..x..]}\n", ["terrain.rows: row 2 has 'x'; expected only . #"]),
        (GOOD + "terrain: {rows: [....., .....]}\n", ["terrain.rows: are 2 cells high; a map has 4 to 128"]),
        (GOOD + "terrain: {rows: [1, 2]}\n", ["terrain.rows must be lines of text"]),
        (GOOD + "terrain: {size: [32, 32], heights: ['00']}\n", ["terrain.heights: are 2 cells wide"]),
        (GOOD + "terrain: {size: [32, 32], heights: ['0000', '0000', '0000', '0005']}\n", ["row 4 has '5'"]),
        (GOOD + "terrain: {like: 3m}\n", []),
        (GOOD.replace("x: 8, y: 8", "x: 8, y: 2") + "terrain: {like: 3m}\n", ["(8, 2) is in a cell that cannot be"]),
        (GOOD + "name: a/b\n", [", line 6", "name: must be letters, digits", "'a/b'"]),
        (GOOD + "name: 42\n", ["name must be a text, got 42"]),
        (GOOD + "name: 3m\n", ["3m is one of SMAC's maps"]),
        (GOOD.replace("zealot", "medivac"), ["enemies: has only medivacs"]),
        (GOOD + AGENTS, [", line 6", "agents is given twice, first in line 2"]),
        (GOOD.replace("kind: zealot,", "kind: zealot, kind: zealot,"), ["enemies.0.kind is given twice"]),
        ("- a\n", [", line 1", "the top level must be a mapping"]),
        ("", ["episode_limit is missing"]),
        ("a: [\n", ["not valid YAML"]),
        ("a: 2001-02-31\n", ["not valid YAML: day is out of range"]),
        ("a: &a [*a]\n", [", line 1", "a.0 contains itself"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line_that_says_where(text: str, words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, text)
    if not words:
        load_scenario(path)
        return
    message = refusal(path)
    for word in words:
        assert word in message


def test_too_many_for_their_place_are_refused(tmp_path: Path) -> None:
    small = duel(terrain={"size": [6, 6]}, enemies=[{"kind": "zealot", "at": [[5, 5]]}],
                 agents=[{"kind": "marine", "count": 200, "x": 2, "y": 2}])  # fmt: skip
    assert "no room for 200 marine units at (2.0, 2.0)" in refusal(written(tmp_path, small))
    crowd = [{"kind": "marine", "count": 250, "x": 8, "y": 8}, {"kind": "marine", "count": 7, "x": 8, "y": 28}]
    message = refusal(written(tmp_path, duel(agents=crowd)))
    assert "agents: has 257 units; a side has at most 256" in message
    taken = [{"kind": "marine", "count": 3, "x": 8, "y": 8}, {"kind": "zealot", "at": [[8, 8]]}]
    assert "agents.1.at.0: is taken by a group" in refusal(written(tmp_path, duel(agents=taken)))
    assert built(duel(agents=taken[::-1])).num_agents == 4


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="Is a directory"):
        load_map(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path / "binary.yaml")


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Key paths of everything in a nested structure."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, item in inner for found in paths_in(item, (*path, key))]


JUNK = st.sampled_from(
    [None, True, -1, 0, 3.5, 10**400, "", "none", "marine", "#", [], [[]], [1, 2], [[1, 2]], {}, {"kind": "marine"},
     {"attack_move": [[1, 1], [2]]}, float("nan"), float("inf"), "\x00", "0" * 500]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=scenarios(), data=st.data())
def test_whatever_is_changed_is_a_map_or_one_line(content: dict[str, Any], data: st.DataObject) -> None:
    broken = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(paths_in(broken)))
        place = broken
        for key in parents:
            place = place[key]
        change = data.draw(st.sampled_from(["replace", "remove", "rename"]))
        if change == "replace":
            place[last] = data.draw(JUNK)
        elif change == "remove":
            del place[last]
        elif isinstance(place, dict):
            place[f"{last}s"] = place.pop(last)
        if not paths_in(broken):
            break
    try:
        spec = built(broken)
    except ScenarioError as error:
        assert "\n" not in str(error) and str(error).startswith("here: ") and len(str(error)) < 400
    else:
        assert spec.num_agents >= 1 and spec.num_enemies >= 1


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_typed_is_a_map_or_one_line(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = GOOD + "terrain:\n  rows: |\n" + "    " + "." * 32 + "\n" + ("    " + "." * 32 + "\n") * 31
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 5))
        text = text[:start] + data.draw(st.text("[]{}:,-#.&*!|>'\"\n\t 09ex~%@`\x07é", max_size=4)) + text[end:]
    path = tmp_path_factory.getbasetemp() / "typed.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_scenario(path)
    except ScenarioError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
