"""What single kinds of units can do beyond walking and shooting, against StarCraft II's published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support.staging import ATTACK, EAST, STOP, WEST, joint, on_stage

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.units.state import GOAL_X, GOAL_Y

CALM = EngineSettings(random_delay=False)

# MMM: agents 0-1 marauders, 2-8 marines, 9 medivac; enemies 10-16 marines, 17-18 marauders, 19 medivac.
MARAUDER, MARINE, MEDIVAC, ENEMY_MARINE, ENEMY_MARAUDER, ENEMY_MEDIVAC = 0, 2, 9, 10, 17, 19


def with_rows(**rows):
    """Rows [U] of MMM from {unit: value}."""
    full = {"health": np.array([125.0] * 2 + [45.0] * 7 + [150.0] + [45.0] * 7 + [125.0] * 2 + [150.0])}
    full["energy"] = np.array([0.0] * 9 + [50.0] + [0.0] * 9 + [50.0])
    for name, changes in rows.items():
        for unit, value in changes.items():
            full[name][unit] = value
    return full


def mmm(placed, rows, **arguments):
    everything = with_rows(**rows)
    absent = [unit for unit in range(20) if unit not in placed]
    everything["health"][absent] = 0.0
    return on_stage("MMM", placed, **arguments, **everything)


def play(battles, actions, steps=1):
    for _ in range(steps):
        battles.step(joint(battles, actions))
    return battles.units()


def test_a_medivac_heals_nine_a_second_for_a_third_of_energy_each():
    battles = mmm(
        {MARINE: (8.0, 16.0), MEDIVAC: (10.0, 16.0), ENEMY_MARINE: (31.0, 23.5)},
        {"health": {MARINE: 20.0}},
        passive=[ENEMY_MARINE],
    )
    units = play(battles, {MARINE: STOP, MEDIVAC: ATTACK + MARINE})
    # Chosen in the first loop, health arrives from the second on: 7 loops.
    assert units.health[0, MARINE] == pytest.approx(20 + 7 * 0.5625)
    assert units.energy[0, MEDIVAC] == pytest.approx(50 + 8 * 0.03515625 - 7 * 0.5625 * 0.33)
    assert units.target[0, MEDIVAC] == MARINE
    units = play(battles, {MARINE: STOP, MEDIVAC: ATTACK + MARINE}, steps=8)
    assert units.health[0, MARINE] == 45.0, "no more than there was"
    full = units.energy[0, MEDIVAC]
    assert play(battles, {MARINE: STOP, MEDIVAC: ATTACK + MARINE}).energy[0, MEDIVAC] > full, "nothing left to heal"


@pytest.mark.parametrize(("energy", "heals"), [(3.0, False), (6.0, True)])
def test_healing_begins_with_five_energy_and_goes_on_to_the_last(energy, heals):
    battles = mmm(
        {MARAUDER: (8.0, 16.0), MEDIVAC: (10.0, 16.0), ENEMY_MARINE: (31.0, 23.5)},
        {"health": {MARAUDER: 10.0}, "energy": {MEDIVAC: energy}},
        passive=[ENEMY_MARINE],
    )
    units = play(battles, {MARAUDER: STOP, MEDIVAC: ATTACK + MARAUDER}, steps=6)
    assert (units.health[0, MARAUDER] > 10.0) == heals
    if heals:
        # All of it goes before the 48 loops, worth 27 health, are over; then it takes five to begin again.
        left = units.energy[0, MEDIVAC]
        assert 0.0 < left < 1.0
        assert units.health[0, MARAUDER] == pytest.approx(10 + (6 + 48 * 0.03515625 - left) / 0.33)


def test_a_medivac_flies_to_its_patient_over_others_and_gathers_speed():
    battles = mmm(
        {MARINE: (14.9, 16.0), 3: (9.3, 16.0), MEDIVAC: (9.0, 16.0), ENEMY_MARINE: (31.0, 23.5)},
        {"health": {MARINE: 10.0}},
        passive=[ENEMY_MARINE],
    )
    orders = {MARINE: STOP, 3: STOP, MEDIVAC: ATTACK + MARINE}
    first = play(battles, orders).x[0, MEDIVAC] - 9.0
    # From rest: 0.009033 x (1 + 2 + ... + 8) = 0.325 (SMAC's medivacs: 0.29); at full speed 8 x 0.171875 = 1.375.
    assert first == pytest.approx(0.009033 * 36, abs=3e-3)
    units = play(battles, orders, steps=6)
    assert (units.x[0, 3], units.y[0, 3]) == (9.3, 16.0), "nobody on the ground is pushed"
    assert 14.9 - units.x[0, MEDIVAC] <= 4.0 + 0.75 + 0.375
    assert units.health[0, MARINE] > 10.0


def test_medivacs_do_not_heal_medivacs_and_shoot_nobody():
    battles = mmm({MARINE: (8.0, 16.0), MEDIVAC: (10.0, 16.0), ENEMY_MARINE: (12.0, 16.0)}, {}, passive=[ENEMY_MARINE])
    assert not BattleVector("MMM", 1).action_mask[0, MEDIVAC, ATTACK + MEDIVAC]
    units = play(battles, {MARINE: STOP, MEDIVAC: ATTACK + MARINE}, steps=5)
    assert units.health[0, ENEMY_MARINE] == 45.0


def test_marauders_cannot_hit_what_flies_and_marines_can():
    placed = {MARAUDER: (8.0, 15.0), MARINE: (8.0, 17.0), ENEMY_MEDIVAC: (11.0, 16.0), ENEMY_MARINE: (31.0, 23.5)}
    battles = mmm(placed, {}, passive=[ENEMY_MARINE, ENEMY_MEDIVAC])
    attack = ATTACK + ENEMY_MEDIVAC - 10
    assert play(battles, {MARAUDER: attack, MARINE: STOP}, steps=4).health[0, ENEMY_MEDIVAC] == 150.0
    assert play(battles, {MARAUDER: STOP, MARINE: attack}).health[0, ENEMY_MEDIVAC] == 145.0, "6 less armor 1"


def test_enemy_marauders_do_not_go_for_what_they_cannot_hit():
    battles = mmm({MARINE: (5.0, 9.0), MEDIVAC: (20.0, 16.0), ENEMY_MARAUDER: (22.0, 16.0)}, {})
    units = play(battles, {MARINE: STOP, MEDIVAC: STOP}, steps=2)
    assert units.target[0, ENEMY_MARAUDER] == -1
    assert units.x[0, ENEMY_MARAUDER] < 20.5, "it walks on"


def test_marauders_do_twice_the_damage_to_armored_units_by_missile():
    # MMM has no armored enemy on the ground but marauders: 10 + 10 - 1; a marine takes 10.
    for target, place, lost in ((ENEMY_MARAUDER, (13.0, 16.0), 19.0), (ENEMY_MARINE, (13.0, 16.0), 10.0)):
        battles = mmm({MARAUDER: (8.0, 16.0), target: place}, {}, passive=[target], engine=CALM)
        before = battles.units().health[0, target]
        units = play(battles, {MARAUDER: ATTACK + target - 10})
        # Leaves at once; (5 - r) / (20 / 16) is 3.6 loops.
        assert before - units.health[0, target] == lost


def test_the_enemys_medivac_heals_the_worst_hurt_and_follows_its_army():
    placed = {MARINE: (1.0, 9.0), ENEMY_MARINE: (20.0, 16.0), 11: (22.0, 16.0), 12: (24.0, 16.0)}
    battles = mmm(
        placed | {ENEMY_MEDIVAC: (22.0, 18.0)}, {"health": {11: 30.0, 12: 20.0}}, passive=[ENEMY_MARINE, 11, 12]
    )
    units = play(battles, {MARINE: STOP}, steps=2)
    assert units.health[0, 12] > 20.0 and units.health[0, 11] == 30.0
    battles = mmm(placed | {ENEMY_MEDIVAC: (30.0, 16.0)}, {}, passive=[ENEMY_MARINE, 11, 12])
    units = play(battles, {MARINE: STOP}, steps=12)
    assert abs(units.x[0, ENEMY_MEDIVAC] - 22.0) < 1.5 and abs(units.y[0, ENEMY_MEDIVAC] - 16.0) < 1.5


def test_a_medivac_does_not_heal_machines():
    # No SMAC map has both; the rule is the table's.
    from dm2_ray.world.engine_settings import EngineSettings
    from dm2_ray.world.maps.registry import load_map
    from dm2_ray.world.units.tables import IS_HEALABLE, build_unit_tables

    for name, expected in {"2s3z": [0, 0, 1, 1, 1], "MMM": [1] * 9 + [0], "2s_vs_1sc": [0, 0]}.items():
        tables = build_unit_tables(load_map(name), EngineSettings())
        assert tables.stats[IS_HEALABLE, : tables.num_agents].tolist() == expected


def test_a_colossus_burns_a_line_across_its_target_and_spares_friends():
    # 1c3s5z: agent 0 colossus, 4-8 zealots; enemies 9 colossus, 10-12 stalkers, 13-17 zealots.
    across = {13: (15.0, 16.0), 14: (15.0, 17.2), 15: (15.0, 14.8), 16: (15.0, 18.6), 17: (16.2, 16.0)}
    friend = {4: (15.8, 16.6)}
    engine = EngineSettings(random_delay=False, scan_range=0.0, retaliation=False)
    battles = on_stage("1c3s5z", {0: (9.0, 16.0)} | across | friend, passive=across, engine=engine)
    units = play(battles, {0: ATTACK + 4, 4: STOP})
    lost = 150 - (units.health + units.shield)[0]
    # Two beams of 20 on everybody within 1.25 + 0.15 + radius 0.5 along the line, 0.15 + 0.5 off it, on the shields.
    assert lost[13] == 40 and lost[14] == 40 and lost[15] == 40
    assert lost[16] == 0 and lost[17] == 0 and lost[4] == 0


def test_each_of_the_colossus_beams_meets_armor():
    placed = {0: (9.0, 16.0), 13: (13.0, 16.0)}
    everyone = np.zeros(18)
    everyone[[0, 13]] = (200.0, 100.0)
    battles = on_stage("1c3s5z", placed, passive=[13], engine=CALM, health=everyone, shield=np.zeros(18))
    assert play(battles, {0: ATTACK + 4}).health[0, 13] == 100 - 2 * (20 - 1)


def test_colossi_step_over_units_and_cliffs_and_others_do_not():
    battles = on_stage("1c3s5z", {0: (9.0, 16.0), 4: (10.5, 16.0), 17: (31.0, 23.0)}, passive=[17])
    units = play(battles, {0: EAST, 4: STOP}, steps=4)
    assert units.x[0, 0] == pytest.approx(13.5, abs=0.02) and (units.x[0, 4], units.y[0, 4]) == (10.5, 16.0)

    spec = BattleVector("2c_vs_64zg", 1).map_spec
    x = 16
    above, below = 17.0, 11.0
    blocked = [y for y in range(int(below), int(above)) if not spec.walkable[x, y]]
    assert blocked, "a cliff lies between"
    placed = {0: (x + 0.5, above), 1: (2.5, 17.5), 2: (x + 0.5, 6.5), 3: (1.0, 17.0)}
    battles = on_stage("2c_vs_64zg", placed, passive=[2, 3])
    for _ in range(10):
        kept = battles.snapshot()
        kept["action_mask"][:] = True  # orders to attack are available in range only
        battles.restore(kept)
        units = play(battles, {0: ATTACK, 1: STOP})
    assert int(units.y[0, 0]) in blocked, "the colossus went straight down, until it was in range"
    assert units.health[0, 2] < 35


def test_zerglings_find_the_ramps_and_home_in_on_colossi():
    battles = on_stage("2c_vs_64zg", {0: (16.0, 17.0), 2: (16.0, 10.0), 3: (17.0, 10.0)})
    spec = battles.map_spec
    visited = []
    for _ in range(60):
        battles.step(joint(battles, {0: STOP}))
        units = battles.units()
        x, y = units.x[0, 2], units.y[0, 2]
        assert spec.walkable[int(x), int(y)]
        visited.append(x)
        if units.health[0, 0] + units.shield[0, 0] < 350:
            break
    assert units.health[0, 0] + units.shield[0, 0] < 350, "they arrive"
    assert min(visited) < 4.5 or max(visited) > 27.5, "by a ramp"


def test_banelings_burst_beside_their_target_and_hurt_only_foes():
    # so_many_baneling: agents 0-6 zealots, enemies 7-38 banelings.
    battles = on_stage(
        "so_many_baneling", {0: (20.0, 20.0), 1: (21.5, 20.0), 2: (23.4, 20.0), 7: (19.0, 20.0), 8: (17.5, 20.0)}
    )
    kept = battles.snapshot()
    kept["units"][0, [GOAL_X, GOAL_Y], 8] = (17.5, 20.0)
    battles.restore(kept)
    units = play(battles, {0: STOP, 1: STOP, 2: STOP})
    points = (units.health + units.shield)[0]
    # 20 + 15 against light units within 2.2 of the burst, edge to edge.
    assert points[0] == 150 - 35 and points[1] == 150 - 35 and points[2] == 150
    assert points[7] == 0 and points[8] == 30
    assert battles.rewards[0] > 0, "a baneling's own death counts"


def test_banelings_burst_when_killed_and_set_one_another_off():
    # bane_vs_bane: agents 0-3 banelings, 4-23 zerglings; enemies 24-43 zerglings, 44-47 banelings.
    placed = {0: (15.0, 14.0), 4: (16.0, 16.0), 44: (16.0, 14.2), 45: (14.0, 13.0), 24: (14.0, 14.2), 25: (22.0, 22.0)}
    health = np.zeros(48)
    health[list(placed)] = [30, 35, 1, 30, 35, 35]
    battles = on_stage("bane_vs_bane", placed, passive=[44, 45, 24, 25], health=health, engine=CALM)
    actions = {0: STOP, 4: ATTACK + 44 - 24}
    for _ in range(4):
        battles.step(joint(battles, actions))
        if battles.units().health[0, 44] == 0:
            break
        actions = {0: STOP, 4: ATTACK + 44 - 24}
    units = battles.units()
    # The zergling kills baneling 44, whose burst takes 20 of baneling 0's 30 (banelings are not light) and the light
    # zergling's 35; baneling 0 lives.
    assert units.health[0, 44] == 0 and units.health[0, 4] == 0
    assert units.health[0, 0] == pytest.approx(10, abs=0.5)
    assert units.health[0, 45] == 30 and units.health[0, 24] == 35, "its own side is spared"
    # A second burst kills baneling 0, which bursts in turn and kills zergling 24.
    health = units.health[0].copy()
    health[44] = 0.0
    kept = battles.snapshot()
    kept["flags"][0, 0, 45] = 3  # ORDER_SCRIPTED
    battles.restore(kept)
    for _ in range(6):
        if battles.units().health[0, 0] == 0:
            break
        battles.step(joint(battles, {0: STOP}))
        if battles.terminated[0]:
            break
    last = battles.final_units() if battles.terminated[0] else battles.units()
    assert last.health[0, 45] == 0 and last.health[0, 0] == 0 and last.health[0, 24] == 0


def test_hydralisk_missiles_and_zerg_health_growing_back():
    # 6h_vs_8z: agents 0-5 hydralisks, enemies 6-13 zealots.
    health = np.zeros(14)
    health[[0, 6]] = (40.0, 100.0)
    battles = on_stage(
        "6h_vs_8z", {0: (12.0, 16.0), 6: (16.0, 16.0)}, passive=[6], health=health, shield=np.zeros(14), engine=CALM
    )
    units = play(battles, {0: ATTACK})
    # Damage point 3.328 loops, then (4 - 0.5) / 2.5 = 1.4 loops of flight.
    assert units.health[0, 6] == 100 - (12 - 1)
    assert units.health[0, 0] == pytest.approx(40 + 8 * 0.017087)


def test_a_spine_crawler_stays_reaches_seven_and_regenerates():
    # 2s_vs_1sc: agents 0-1 stalkers, enemy 2 the crawler: 25 + 5 against armored stalkers.
    reach = 7.0 + 0.875 + 0.625
    for gap, is_hit in ((-0.05, True), (0.3, False)):
        battles = on_stage("2s_vs_1sc", {0: (13.92, 20.04 - reach - gap), 2: (13.92, 20.04)}, engine=CALM)
        units = play(battles, {0: STOP}, steps=2)
        assert (units.shield[0, 0] < 80) == is_hit
        assert (units.x[0, 2], units.y[0, 2]) == (13.92, 20.04)
    battles = on_stage("2s_vs_1sc", {0: (13.92, 18.0), 2: (13.92, 20.0)}, health=np.array([80.0, 0, 200.0]))
    units = play(battles, {0: WEST}, steps=1)
    assert units.health[0, 2] == pytest.approx(200 + 8 * 0.017087)
    assert (units.x[0, 2], units.y[0, 2]) == (13.92, 20.0) or units.y[0, 2] == 20.0
