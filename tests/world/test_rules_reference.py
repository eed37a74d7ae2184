"""The compiled rules against `reference_rules`, on random battles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_rules import HEALTH, SHIELD, ReferenceRules

from dm2_ray.world import RulesReplay, load_map
from dm2_ray.world.rules import SmacSwitches, build_tables, visibility

MAPS = ("3m", "MMM", "2s3z", "2m_vs_1z", "6h_vs_8z", "2s_vs_1sc", "1c3s5z", "bane_vs_bane", "corridor")

switches = st.fixed_dictionaries(
    {},
    optional={
        "move_amount": st.sampled_from([1, 2, 3]),
        "reward_death_value": st.sampled_from([7, 10, 0.3]),
        "reward_win": st.sampled_from([31, 200.5]),
        "reward_defeat": st.sampled_from([-5, 0, 1.7]),
        "reward_negative_scale": st.sampled_from([0.25, 0.1]),
        "reward_scale_rate": st.sampled_from([3, 20, 0.7]),
        **{
            name: st.booleans()
            for name in (
                "continuing_episode", "obs_all_health", "obs_own_health", "obs_last_action", "obs_pathing_grid",
                "obs_terrain_height", "obs_instead_of_state", "obs_timestep_number", "state_last_action",
                "state_timestep_number", "reward_sparse", "reward_only_positive", "reward_scale",
            )
        },
    },
)  # fmt: skip


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


@pytest.mark.parametrize("map_name", MAPS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=switches, seed=st.integers(0, 2**32 - 1), is_late=st.booleans())
def test_equals_plain_python(map_name: str, arguments: dict, seed: int, is_late: bool) -> None:
    rng = np.random.default_rng(seed)
    spec = load_map(map_name)
    heights = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    replay = RulesReplay(map_name, terrain_height=heights, **arguments)
    reference = ReferenceRules(map_name, heights, **arguments)
    deaths = rng.choice([0.0, 0.2, 0.6, 1.0], 2)

    allies, enemies = random_side(rng, spec.ally_kinds, None, 0), random_side(rng, spec.enemy_kinds, None, 0)
    found, expected = replay.reset(allies, enemies), reference.reset(allies, enemies)
    if is_late:
        # Everybody stands still until shortly before the time limit.
        still = np.ones(spec.num_agents, dtype=np.int64)
        for _ in range(spec.episode_limit - 3):
            found = replay.step(still, allies, enemies)
        reference.t = spec.episode_limit - 4
        expected = reference.step(still, allies, enemies)
    for _ in range(4):
        for a, b in zip(found[:3], expected[:3], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        if len(found) > 3:
            assert found[3:] == expected[3:]
            if found[4]:
                return
        actions = [rng.choice(np.flatnonzero(row)) for row in found[2]]
        allies = random_side(rng, spec.ally_kinds, allies, deaths[0])
        enemies = random_side(rng, spec.enemy_kinds, enemies, deaths[1])
        found = replay.step(actions, allies, enemies)
        expected = reference.step(actions, allies, enemies)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), map_name=st.sampled_from(["3m", "2s3z", "MMM"]))
def test_visibility_equals_plain_python(seed: int, map_name: str) -> None:
    rng = np.random.default_rng(seed)
    spec = load_map(map_name)
    allies = random_side(rng, spec.ally_kinds, None, 0.3)
    enemies = random_side(rng, spec.enemy_kinds, None, 0.3)
    reference = ReferenceRules(map_name, np.zeros((32, 32)))
    reference.reset(allies, enemies)
    x, y, health = np.ascontiguousarray(np.concatenate([allies, enemies]).T[:3].astype(np.float64))
    visible = np.ones((spec.num_agents, spec.num_agents + spec.num_enemies), dtype=np.bool_)
    visibility(build_tables(spec, SmacSwitches()), x, y, health, visible)
    np.testing.assert_array_equal(visible, reference.visibility())
