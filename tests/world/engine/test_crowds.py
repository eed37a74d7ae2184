"""Crowds: those who stand and fight keep their place, those who walk flow round them, and everyone comes to fight.

Marines walk 4.5 cells in 32 game loops. That is enough for a clump of six to become a line, not for one of eleven,
whose last ones have farther to go: these get the time that the way takes.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.staging import STOP, on_stage

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.units.state import X, Y
from dm2_ray.world.units.tables import RADIUS, SPEED, WEAPON_RANGE, build_unit_tables

FIRST_TARGET = 6
LOOPS_PER_SECOND, STEP_LOOPS = 16, 8


def on_arcs(map_name, num_battles, seed):
    """Battles whose agents stand on arcs, bent toward the enemy or away from it, at most eleven in a rank."""
    battles = BattleVector(map_name, num_battles, seed)
    battles.reset()
    kept = battles.snapshot()
    rng = np.random.default_rng(seed)
    count = battles.num_agents
    ranks = -(-count // 11)
    width = -(-count // ranks)
    for b in range(num_battles):
        gap = rng.uniform(0.8, min(1.3, 13.0 / width))
        bend = rng.choice((-1, 1))
        radius = max(rng.uniform(4.0, 9.0), width * gap / 2)
        rank, place = np.divmod(np.arange(count), width)
        angle = (place - (width - 1) / 2) * gap / radius
        radii = radius - bend * 0.8 * rank
        x = rng.uniform(8.0, 12.0) + bend * (radii * np.cos(angle) - radius)
        y = 16.0 + radii * np.sin(angle)
        order = np.lexsort((y, x))
        kept["units"][b, X, :count] = np.floor(x[order] * 4096) / 4096
        kept["units"][b, Y, :count] = np.floor(y[order] * 4096) / 4096
    battles.restore(kept)
    return battles


def shoot_the_nearest(battles):
    """Actions [B, N]: attack the nearest enemy that may be attacked, or stop."""
    units, count = battles.units(), battles.num_agents
    distance = np.hypot(
        units.x[:, :count, None] - units.x[:, None, count:], units.y[:, :count, None] - units.y[:, None, count:]
    )
    distance = np.where(battles.action_mask[:, :, FIRST_TARGET : FIRST_TARGET + battles.num_enemies], distance, np.inf)
    attack = FIRST_TARGET + distance.argmin(axis=2)
    return np.where(np.isfinite(distance.min(axis=2)), attack, np.where(battles.alive, STOP, 0))


def share_that_has_shot(map_name, loops, num_battles=48, seed=0):
    """Of the enemies that live `loops` game loops after the first enemy shot, the share that has shot by then."""
    battles = on_arcs(map_name, num_battles, seed)
    enemies = slice(battles.num_agents, None)
    has_shot = np.zeros((num_battles, battles.num_enemies), bool)
    since = np.full(num_battles, -1)
    is_over = np.zeros(num_battles, bool)
    fighters = living = 0
    for _ in range(60):
        battles.step(shoot_the_nearest(battles))
        is_over |= battles.terminated
        units = battles.units()
        is_alive = units.health[:, enemies] > 0
        has_shot |= (units.cooldown[:, enemies] > 0) & is_alive
        since += (since >= 0) | has_shot.any(axis=1)
        due = (since == loops // STEP_LOOPS) & ~is_over
        fighters += (has_shot & is_alive)[due].sum()
        living += is_alive[due].sum()
    assert living > num_battles
    return fighters / living


@pytest.mark.parametrize(
    ("map_name", "loops", "share"),
    [
        ("3m", 32, 0.95),
        ("5m_vs_6m", 32, 0.95),
        ("8m_vs_9m", 48, 0.95),
        ("10m_vs_11m", 56, 0.93),
        ("25m", 96, 0.8),
        ("27m_vs_30m", 96, 0.7),
    ],
)
def test_everyone_comes_to_fight(map_name, loops, share):
    assert share_that_has_shot(map_name, loops) >= share


def around(map_name, count, steps, start):
    """`count` enemies, created as a clump around `start`, against one agent at (16, 16) that never dies nor moves:
    distance out of their reach [steps, count] after each env step."""
    example = BattleVector(map_name, 1)
    example.reset()
    agents, units = example.num_agents, example.units()
    clump = np.stack([units.x[0, agents : agents + count], units.y[0, agents : agents + count]], axis=1)
    clump += np.asarray(start) - clump.mean(axis=0)
    health = np.zeros(units.health.shape[1])
    health[0], health[agents : agents + count] = 1e9, units.health[0, agents : agents + count]
    placed = {0: (16.0, 16.0)} | {agents + k: tuple(clump[k]) for k in range(count)}
    battles = on_stage(map_name, placed, health=health)
    stats = build_unit_tables(example.map_spec, EngineSettings()).stats
    reach = stats[WEAPON_RANGE] + stats[RADIUS] + stats[RADIUS, 0]
    beyond = []
    for _ in range(steps):
        battles.step([[STOP] + [0] * (agents - 1)])
        now = battles.units()
        distance = np.hypot(now.x[0] - now.x[0, 0], now.y[0] - now.y[0, 0]) - reach
        beyond.append(distance[agents : agents + count])
    return np.array(beyond)


@pytest.mark.parametrize(("map_name", "count", "steps"), [("8m_vs_9m", 9, 14), ("10m_vs_11m", 11, 16), ("25m", 25, 26)])
def test_ranged_units_form_a_concave(map_name, count, steps):
    beyond = around(map_name, count, steps, (25.0, 16.0))
    assert beyond[-1].max() < 0.75, "at most one marine's diameter outside the arc"
    assert (beyond[-1] <= 1e-3).mean() >= 0.9
    if count <= 11:
        assert beyond[-1].max() <= 1e-3


@pytest.mark.parametrize(("map_name", "count", "steps"), [("3s_vs_5z", 5, 12), ("2c_vs_64zg", 6, 8)])
def test_melee_units_surround(map_name, count, steps):
    beyond = around(map_name, count, steps, (20.0, 16.0))
    assert beyond[-1].max() <= 1e-3


@pytest.mark.parametrize("map_name", ["5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "25m"])
def test_nobody_trembles(map_name):
    """An enemy that has not shot yet since the first one did is on its way: seen over a second, at half its speed."""
    battles = on_arcs(map_name, 32, seed=1)
    enemies = slice(battles.num_agents, None)
    has_shot = np.zeros((32, battles.num_enemies), bool)
    is_over = np.zeros(32, bool)
    speed = build_unit_tables(battles.map_spec, EngineSettings()).stats[SPEED, battles.num_agents]
    ways = []
    for _ in range(10):
        began = has_shot.any(axis=1) & ~is_over
        units = battles.units()
        x, y = units.x[:, enemies].copy(), units.y[:, enemies].copy()
        for _ in range(LOOPS_PER_SECOND // STEP_LOOPS):
            battles.step(shoot_the_nearest(battles))
            is_over |= battles.terminated
            units = battles.units()
            has_shot |= (units.cooldown[:, enemies] > 0) & (units.health[:, enemies] > 0)
        waits = (began & ~is_over)[:, None] & ~has_shot & (units.health[:, enemies] > 0)
        ways.append(np.hypot(units.x[:, enemies] - x, units.y[:, enemies] - y)[waits])
    way = np.concatenate(ways) / (speed * LOOPS_PER_SECOND)
    assert len(way) > 4
    assert way.mean() >= 0.5
    assert (way >= 0.25).mean() >= 0.85


def test_the_larger_side_wins_by_lanchesters_square_law():
    engine = EngineSettings(scripted_agents=True)
    battles = BattleVector("5m_vs_6m", 64, 3, engine=engine)
    battles.reset()
    left, lost, ended = [], 0, 0
    while ended < 256:
        battles.step(np.where(battles.alive, STOP, 0))
        over = battles.terminated
        lost += int((over & ~battles.battle_won).sum())
        ended += int(over.sum())
        left += list(battles.final_units().health[over][:, 5:].sum(axis=1))
    assert lost / ended > 0.97
    # The law is one of lines that fight from the first moment; a clump's last ones come a little later.
    assert 0.6 <= np.mean(left) / 45.0 / np.sqrt(6**2 - 5**2) <= 1.1


def test_enemy_numbers_are_drawn_anew_in_every_battle():
    battles = BattleVector("2s3z", 200, 7, engine=EngineSettings(opening_loops=0))
    battles.reset()
    units = battles.units()
    places = np.stack([units.enemies.x, units.enemies.y], axis=2)
    stalkers, zealots = places[:, :2], places[:, 2:]
    for kind in (stalkers, zealots):
        expected = {tuple(place) for place in kind[0]}
        assert all({tuple(place) for place in battle} == expected for battle in kind), "places stay, numbers change"
        firsts = [tuple(battle[0]) for battle in kind]
        shares = np.array([firsts.count(place) for place in expected]) / len(firsts)
        assert np.allclose(shares, 1 / len(expected), atol=0.15)
    again = BattleVector("2s3z", 200, 7, engine=EngineSettings(opening_loops=0))
    again.reset()
    assert np.array_equal(again.units().x, units.x), "a function of seed and battle number"
    tied = BattleVector("2s3z", 8, 7, engine=EngineSettings(opening_loops=0, shuffle_enemies=False))
    tied.reset()
    assert (tied.units().x == tied.units().x[0]).all()
