"""SMAC's maps described as scenarios must become SMAC's maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.scenarios import built

from dm2_ray.world import (
    load_map,
    map_names,
)
from dm2_ray.world.maps.scenario_checks import starting_positions
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables

EVERYTHING = SmacOptions.from_arguments(
    {"obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True, "state_timestep_number": True}
)


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
