"""Paths around obstacles: compared with a plain search, and walked by real units."""

from __future__ import annotations

import heapq

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.staging import STOP, joint, on_stage

from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.maps.terrain import (
    AIR,
    CLIFF_WALKER,
    GROUND,
    MAX_CELLS_WITH_OBSTACLES,
    TerrainError,
    build_terrain,
    next_waypoint,
)


def shortest_steps(walkable, goal):
    """Lengths of paths over cells to the goal that cut no corners: Dijkstra in plain Python."""
    length = np.full(walkable.shape, np.inf)
    queue = [(0.0, goal)]
    while queue:
        so_far, (x, y) = heapq.heappop(queue)
        if so_far >= length[x, y]:
            continue
        length[x, y] = so_far
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                to = (x + dx, y + dy)
                inside = 0 <= to[0] < walkable.shape[0] and 0 <= to[1] < walkable.shape[1]
                if (dx or dy) and inside and walkable[to] and walkable[x, to[1]] and walkable[to[0], y]:
                    heapq.heappush(queue, (so_far + np.hypot(dx, dy), to))
    return length


def walk(terrain, start, goal):
    """Length of the path along `next_waypoint`, checked to stay on passable cells; inf if it gets stuck."""
    place, length = np.array(start, float), 0.0
    for _ in range(2000):
        if np.allclose(place, goal, atol=1e-6):
            return length
        onward = np.array(next_waypoint(terrain, *place, *goal)) - place
        stride = min(0.2, float(np.hypot(*onward)))
        place = place + onward / np.hypot(*onward) * stride
        length += stride
        assert terrain.passable[GROUND, int(place[0]), int(place[1])], place
    return np.inf


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_ways_reach_every_goal_and_are_no_longer_than_a_search_finds(data):
    size = (data.draw(st.integers(3, 14)), data.draw(st.integers(3, 14)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    walkable = rng.random(size) > data.draw(st.sampled_from([0.0, 0.1, 0.3, 0.5]))
    cells = np.argwhere(walkable)
    if len(cells) < 2:
        return
    terrain = build_terrain(walkable)
    goal = cells[rng.integers(len(cells))]
    steps = shortest_steps(walkable, tuple(goal.tolist()))
    for start in cells[rng.choice(len(cells), min(5, len(cells)), replace=False)]:
        from_place, to_place = start + rng.uniform(0.05, 0.95, 2), goal + rng.uniform(0.05, 0.95, 2)
        if np.isinf(steps[tuple(start)]):
            assert next_waypoint(terrain, *from_place, *to_place) == tuple(to_place), "no way: straight on"
        elif terrain.has_obstacles:
            # Both ends lie up to a cell's diagonal from the centers.
            assert walk(terrain, from_place, to_place) <= steps[tuple(start)] + 2.0


@pytest.mark.parametrize("name", map_names())
def test_the_maps_arenas_are_connected_and_open_ones_have_no_obstacles(name):
    spec = load_map(name)
    terrain = build_terrain(spec.walkable)
    walled = ("corridor", "so_many_baneling", "2c_vs_64zg", "6h_vs_8z", "2s_vs_1sc", "2m_vs_1z", "bane_vs_bane")
    assert terrain.has_obstacles == (name in walled)
    ends = [(spawn.x, spawn.y) for spawn in spec.spawns if spawn.owner == 1]
    starts = [(spawn.x, spawn.y) for spawn in spec.spawns if spawn.owner == 2]
    if terrain.has_obstacles:
        assert np.isfinite(walk(terrain, starts[0], ends[0]))
    assert np.array_equal(terrain.passable[GROUND], spec.walkable)
    assert terrain.passable[AIR].all()
    assert (terrain.passable[CLIFF_WALKER] >= terrain.passable[GROUND]).all()


def test_colossi_cross_the_plateaus_cliff_but_do_not_leave_the_arena():
    terrain = build_terrain(load_map("2c_vs_64zg").walkable)
    assert terrain.passable[CLIFF_WALKER, 8:24, 12:14].all(), "the cliff"
    assert not terrain.passable[CLIFF_WALKER, :, :6].any() and not terrain.passable[CLIFF_WALKER, :, 22:].any()


def test_enemies_walk_through_the_corridor():
    battles = on_stage("corridor", {0: (5.0, 11.0), 6: (27.9, 28.2), 7: (26.0, 20.5)})
    walkable = battles.map_spec.walkable
    for _ in range(34):
        battles.step(joint(battles, {0: STOP}))
        units = battles.units()
        for unit in (6, 7):
            assert walkable[int(units.x[0, unit]), int(units.y[0, unit])]
    assert (units.x[0, 6:8] < 10).all() and (units.y[0, 6:8] < 12).all()


def test_obstacles_on_too_large_a_ground_are_refused():
    walkable = np.ones((80, 80), bool)
    assert not build_terrain(walkable).has_obstacles
    walkable[40, 40] = False
    with pytest.raises(TerrainError, match=f"6399 walkable cells.*at most {MAX_CELLS_WITH_OBSTACLES}"):
        build_terrain(walkable)


def test_all_maps_share_the_compiled_kernels():
    """Kernels are compiled once per memory layout of their arguments."""
    plain, with_obstacles = (build_terrain(load_map(name).walkable) for name in ("3m", "corridor"))
    assert with_obstacles.has_obstacles and not plain.has_obstacles
    for table, other in zip(plain, with_obstacles, strict=True):
        assert numba.typeof(table) == numba.typeof(other)
