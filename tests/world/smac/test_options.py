"""SMAC's constructor arguments: defaults, refusals, and the sizes of all arrays under them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dm2_ray.world import load_map, map_names
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables, height_image, max_reward

SMAC = json.loads((Path(__file__).parents[1] / "data" / "smac_dims.json").read_text())
VARIANTS = {
    "obs_last_action": {"obs_last_action": True},
    "obs_pathing_grid": {"obs_pathing_grid": True},
    "obs_terrain_height": {"obs_terrain_height": True},
    "obs_timestep_number": {"obs_timestep_number": True},
    "no_all_health": {"obs_all_health": False},
    "no_health_at_all": {"obs_all_health": False, "obs_own_health": False},
    "all_options": {
        "obs_last_action": True,
        "obs_pathing_grid": True,
        "obs_terrain_height": True,
        "obs_timestep_number": True,
        "state_timestep_number": True,
    },
    "state_no_last_action": {"state_last_action": False},
    "state_timestep_number": {"state_timestep_number": True},
    "obs_instead_of_state": {"obs_instead_of_state": True},
}


@pytest.mark.parametrize("name", map_names())
def test_sizes_equal_smac(name: str) -> None:
    spec, smac = load_map(name), SMAC[name]
    tables = build_tables(spec, SmacOptions())
    assert (tables.obs_size, tables.state_size) == (smac["obs_size"], smac["state_size"])
    assert tables.enemies_at == smac["move_feats"]
    assert [spec.num_enemies, tables.enemy_width] == smac["enemy_feats"]
    assert [spec.num_agents - 1, tables.ally_width] == smac["ally_feats"]
    assert tables.obs_size - tables.own_at == smac["own_feats"]
    assert max_reward(spec, SmacOptions()) == smac["max_reward"]
    assert set(VARIANTS) == set(smac["variants"])
    for variant, sizes in smac["variants"].items():
        tables = build_tables(spec, SmacOptions.from_arguments(VARIANTS[variant]))
        # SMAC understates its observations by the time that it appends.
        assert tables.obs_size - tables.obs_timestep_number == sizes["obs_size"], variant
        assert tables.state_size == sizes["state_size"], variant


def test_seeing_all_health_implies_seeing_ones_own() -> None:
    assert SmacOptions(obs_own_health=False).obs_own_health
    assert not SmacOptions(obs_all_health=False, obs_own_health=False).obs_own_health


def test_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="obs_last_actions.*'obs_last_action'"):
        SmacOptions.from_arguments({"obs_last_actions": True})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"obs_last_action": 1}, TypeError, "obs_last_action must be bool"),
        ({"step_mul": True}, TypeError, "step_mul must be int"),
        ({"reward_win": "200"}, TypeError, "reward_win"),
        ({"reward_win": float("nan")}, ValueError, "finite"),
        ({"step_mul": 0}, ValueError, "positive"),
        ({"move_amount": -1}, ValueError, "positive"),
        ({"move_amount": 1.5, "obs_pathing_grid": True}, ValueError, "whole number"),
        ({"heuristic_ai": 1}, TypeError, "heuristic_ai must be bool"),
        ({"difficulty": "11"}, ValueError, "difficulty must be one of 1, 2"),
        ({"difficulty": 7}, TypeError, "difficulty must be str"),
        ({"window_size_x": 0}, ValueError, "window_size_x must be positive"),
    ],
)
def test_refuses(arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SmacOptions.from_arguments(arguments)


def test_height_image_shows_floor_and_plateau() -> None:
    image = height_image(load_map("2c_vs_64zg"))
    assert image.dtype == np.uint8
    assert image.shape == (32, 32)
    assert image[16, 9] == 191  # height 8
    assert image[16, 16] == 207  # height 10


def test_height_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(16, 16\)"):
        build_tables(load_map("3m"), SmacOptions(), np.zeros((16, 16), dtype=np.uint8))
