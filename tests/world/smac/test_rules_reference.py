"""The compiled rules against `reference_rules`, on random battles: every map, every switch, exact equality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.maps import EVERY_MAP
from support.reference_rules import HEALTH, SHIELD, ReferenceRules

from dm2_ray.world import RulesReplay, load_map, map_names
from dm2_ray.world.envs.smac_interface import SmacInterface
from dm2_ray.world.smac.heuristic import SmacHeuristic
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules import visibility
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.units.state import HEALTH as HEALTH_ROW
from dm2_ray.world.units.state import NUM_UNIT_ROWS, X, Y

DIMS = json.loads((Path(__file__).parents[1] / "data" / "smac_dims.json").read_text())
FLAGS = (
    "continuing_episode", "obs_all_health", "obs_own_health", "obs_last_action", "obs_pathing_grid",
    "obs_terrain_height", "obs_instead_of_state", "obs_timestep_number", "state_last_action",
    "state_timestep_number", "reward_sparse", "reward_only_positive", "reward_scale",
)  # fmt: skip
STATES = 15
# A battle is drawn from a seed: shrinking it would take long and make nothing plainer.
QUICK = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
THOROUGH = settings(QUICK, max_examples=300)


@st.composite
def switches(draw: st.DrawFn) -> dict:
    arguments = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "reward_death_value": st.sampled_from([7, 10, 0.3]),
                "reward_win": st.sampled_from([31, 200.5]),
                "reward_defeat": st.sampled_from([-5, 0, 1.7]),
                "reward_negative_scale": st.sampled_from([0.25, 0.1]),
                "reward_scale_rate": st.sampled_from([3, 20, 0.7]),
                **{name: st.booleans() for name in FLAGS},
            },
        )
    )
    on_whole_cells = arguments.get("obs_pathing_grid") or arguments.get("obs_terrain_height")
    lengths = [1, 2, 3, 5] if on_whole_cells else [1, 2, 3, 0.5, 1.5, 2.75]
    return arguments | {"move_amount": draw(st.sampled_from(lengths))} if draw(st.booleans()) else arguments


def random_side(rng: np.random.Generator, kinds: tuple[str, ...], previous: np.ndarray | None, death: float):
    """Unit rows near one another, some exactly on the borders that the rules ask about; the dead stay dead."""
    count = len(kinds)
    middle = rng.uniform(8, 24, 2)
    spread = rng.choice([2.0, 6.0, 16.0])
    xy = np.clip(middle + rng.uniform(-spread, spread, (count, 2)), 0, 31.9)
    on_grid = rng.random(count) < 0.5
    xy[on_grid] = np.round(xy[on_grid])
    health = np.array([HEALTH[k] for k in kinds]) * rng.choice([1.0, 0.01, rng.random()], count)
    shield = np.array([SHIELD.get(k, 0) for k in kinds]) * rng.choice([1.0, 0.0, rng.random()], count)
    dead = rng.random(count) < death
    if previous is not None:
        dead |= previous[:, 2] == 0
    health[dead] = 0
    rows = np.column_stack([xy, health, shield, rng.uniform(0, 200, count), rng.uniform(0, 40, count)])
    return rows.astype(np.float32)


def columns_of(allies: np.ndarray, enemies: np.ndarray) -> np.ndarray:
    """[6, U] float64."""
    return np.ascontiguousarray(np.concatenate([allies, enemies]).T.astype(np.float64))


def fight(map_name: str, arguments: dict, seed: int, limit: int | None) -> None:
    """Random states of one battle after the other on one object: all that the rules say is the reference's."""
    rng = np.random.default_rng(seed)
    spec = load_map(map_name)
    if limit is not None:
        spec = replace(spec, episode_limit=limit)
    heights = rng.integers(0, 256, spec.walkable.shape, dtype=np.uint8)
    replay = RulesReplay(spec, terrain_height=heights, **arguments)
    reference = ReferenceRules(spec, heights, **arguments)
    found, expected = None, None
    for _ in range(STATES):
        # Now and then a reset comes in the middle of a battle.
        if found is None or (len(found) > 3 and found[4]) or rng.random() < 0.05:
            deaths = rng.choice([0.0, 0.05, 0.3, 1.0], 2)
            allies, enemies = random_side(rng, spec.ally_kinds, None, 0), random_side(rng, spec.enemy_kinds, None, 0)
            found, expected = replay.reset(allies, enemies), reference.reset(allies, enemies)
        else:
            actions = [rng.choice(np.flatnonzero(row)) for row in found[2]]
            allies = random_side(rng, spec.ally_kinds, allies, deaths[0])
            enemies = random_side(rng, spec.enemy_kinds, enemies, deaths[1])
            found = replay.step(actions, allies, enemies)
            expected = reference.step(actions, allies, enemies)
        for a, b in zip(found[:3], expected[:3], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert found[3:] == expected[3:]
        visible = np.ones((spec.num_agents, spec.num_agents + spec.num_enemies), dtype=np.bool_)
        x, y, health = columns_of(allies, enemies)[:3]
        visibility(replay.tables, x, y, health, visible)
        np.testing.assert_array_equal(visible, reference.visibility())


def choose(map_name: str, rest: bool, move_amount: float, seed: int) -> None:
    """The heuristic's choices in a battle of random states are the reference's."""
    rng = np.random.default_rng(seed)
    spec = load_map(map_name)
    tables = build_tables(spec, SmacOptions(heuristic_ai=True, heuristic_rest=rest, move_amount=move_amount))
    heuristic = SmacHeuristic(tables, 1, rest)
    reference = ReferenceRules(map_name, np.zeros(spec.walkable.shape), move_amount=move_amount)
    allies, enemies = random_side(rng, spec.ally_kinds, None, 0.2), random_side(rng, spec.enemy_kinds, None, 0.2)
    *_, avail = reference.reset(allies, enemies)
    units = np.zeros((1, NUM_UNIT_ROWS, spec.num_agents + spec.num_enemies))
    for _ in range(STATES):
        units[0, [X, Y, HEALTH_ROW]] = columns_of(allies, enemies)[:3]
        chosen = heuristic.act(units, avail[np.newaxis].astype(np.bool_), np.ones(1, np.bool_))
        assert chosen[0].tolist() == reference.heuristic(rest)
        assert heuristic.targets[0].tolist() == [-1 if target is None else target for target in reference.targets]
        allies = random_side(rng, spec.ally_kinds, allies, 0.1)
        enemies = random_side(rng, spec.enemy_kinds, enemies, 0.1)
        reference.place(allies, enemies)
        *_, avail = reference.look()


battles = given(arguments=switches(), seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([None, 1, 3, 8]))
states = given(rest=st.booleans(), move_amount=st.sampled_from([1, 2, 4.5]), seed=st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("map_name", EVERY_MAP)
@QUICK
@battles
def test_equals_plain_python(map_name: str, arguments: dict, seed: int, limit: int | None) -> None:
    fight(map_name, arguments, seed, limit)


@pytest.mark.parametrize("map_name", ["3m", "2s3z", "MMM2", "2m_vs_1z", "corridor", "bane_vs_bane"])
@QUICK
@states
def test_heuristic_equals_plain_python(map_name: str, rest: bool, move_amount: float, seed: int) -> None:
    choose(map_name, rest, move_amount, seed)


@pytest.mark.long
@pytest.mark.parametrize("map_name", map_names())
@THOROUGH
@battles
def test_equals_plain_python_thousands_of_times(map_name: str, arguments: dict, seed: int, limit: int | None) -> None:
    fight(map_name, arguments, seed, limit)


@pytest.mark.long
@pytest.mark.parametrize("map_name", map_names())
@THOROUGH
@states
def test_heuristic_equals_plain_python_thousands_of_times(
    map_name: str, rest: bool, move_amount: float, seed: int
) -> None:
    choose(map_name, rest, move_amount, seed)


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_the_reference_has_smacs_sizes(map_name: str) -> None:
    smac = DIMS[map_name]
    sizes = ReferenceRules(map_name, None).sizes()
    assert json.loads(json.dumps(sizes)) == {name: smac[name] for name in sizes}


@pytest.mark.parametrize("map_name", EVERY_MAP)
@settings(QUICK, max_examples=20)
@given(arguments=switches())
def test_sizes_equal_plain_python(map_name: str, arguments: dict) -> None:
    sizes = ReferenceRules(map_name, None, **arguments).sizes()
    interface = SmacInterface(load_map(map_name), SmacOptions(**arguments), "liberty")
    assert sizes == {
        "obs_size": interface.get_obs_size(),
        "state_size": interface.get_state_size(),
        "move_feats": interface.get_obs_move_feats_size(),
        "enemy_feats": interface.get_obs_enemy_feats_size(),
        "ally_feats": interface.get_obs_ally_feats_size(),
        "own_feats": interface.get_obs_own_feats_size(),
    }
    assert interface.get_ally_num_attributes() == len(interface.ally_state_attr_names)
    assert interface.get_enemy_num_attributes() == len(interface.enemy_state_attr_names)
