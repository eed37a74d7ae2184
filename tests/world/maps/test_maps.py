"""The packaged maps against SMAC's own registry of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.maps import REPRESENTATIVE_MAPS

from dm2_ray.world import UnknownMapError, load_map, map_names
from dm2_ray.world.unit_kinds import kind_names, unit_kind

SMAC = json.loads((Path(__file__).parents[1] / "data" / "smac_dims.json").read_text())


def test_all_maps_of_smac_are_there() -> None:
    assert set(map_names()) == set(SMAC)


@pytest.mark.parametrize("name", map_names())
def test_map_agrees_with_smac(name: str) -> None:
    spec, smac = load_map(name), SMAC[name]
    assert (spec.num_agents, spec.num_enemies) == (smac["n_agents"], smac["n_enemies"])
    assert (spec.num_actions, spec.episode_limit) == (smac["n_actions"], smac["limit"])
    assert spec.walkable.shape == (32, 32)
    assert spec.terrain_height.shape == (33, 33)
    for spawn in spec.spawns:
        assert spec.walkable[int(spawn.x), int(spawn.y)]
    for kinds, owner in ((spec.ally_kinds, 1), (spec.enemy_kinds, 2)):
        created = sorted(spawn.kind for spawn in spec.spawns if spawn.owner == owner for _ in range(spawn.count))
        assert sorted(kinds) == created
        for kind in set(kinds):
            assert unit_kind(kind).health > 0


def test_the_representative_maps_have_all_unit_kinds() -> None:
    specs = [load_map(name) for name in REPRESENTATIVE_MAPS]
    assert {kind for spec in specs for kind in (*spec.ally_kinds, *spec.enemy_kinds)} == set(kind_names())


def test_agent_and_enemy_orders_differ_where_smac_sorts_agents_by_type() -> None:
    mmm = load_map("MMM")
    assert mmm.ally_kinds == ("marauder",) * 2 + ("marine",) * 7 + ("medivac",)
    assert mmm.enemy_kinds == ("marine",) * 7 + ("marauder",) * 2 + ("medivac",)


def test_strip_maps_are_walkable_between_y_8_and_24() -> None:
    expected = np.zeros((32, 32), dtype=bool)
    expected[:, 8:24] = True
    np.testing.assert_array_equal(load_map("5m_vs_6m").walkable, expected)
    assert load_map("3s_vs_5z").walkable.all()


def test_plateau_of_2c_vs_64zg_rises_to_the_north_of_the_cliff() -> None:
    spec = load_map("2c_vs_64zg")
    assert spec.terrain_height[16, 17] == pytest.approx(10.0, abs=0.5)
    assert spec.terrain_height[16, 9] == pytest.approx(8.0, abs=0.5)
    assert not spec.walkable[16, 12]


def test_maps_are_shared_and_cannot_be_changed() -> None:
    assert load_map("3m") is load_map("3m")
    with pytest.raises(ValueError, match="read-only"):
        load_map("3m").walkable[0, 0] = True


def test_unknown_map_names_the_nearest() -> None:
    with pytest.raises(UnknownMapError, match="5m_vs6m.*'5m_vs_6m'"):
        load_map("5m_vs6m")


def test_balances_differ_where_the_ladder_does() -> None:
    assert unit_kind("stalker").weapon.damage == 10
    assert unit_kind("stalker", "lotv").weapon.damage == 13
    assert unit_kind("zealot") == unit_kind("zealot", "lotv")
    assert unit_kind("medivac").healing.energy_max == 200
    with pytest.raises(ValueError, match="did you mean 'marine'"):
        unit_kind("marin")
    with pytest.raises(ValueError, match="balance"):
        unit_kind("marine", "wings")  # type: ignore[arg-type]
