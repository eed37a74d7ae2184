"""The embedded StarCraft II skirmish engine: the game loops of one battle.

Shapes: N agents, M enemies, U = N + M units, agents first; `units`, `flags` and `work` as in units.state.

A game loop (16 per "Normal" second, usually 8 per env step) runs in phases, each of which reads the result of the one
before: timers run and missiles land; all units decide and shoot from the positions at the loop's start; all units move.
Neither side goes first in any phase. Physics follows StarCraft II's published unit data; pushing, steering and the
opponent are models of a closed engine, whose free parameters are in `EngineSettings`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.healing import FOLLOW_DISTANCE, choose_heal_target, follow_allies, heal_patients
from dm2_ray.world.engine.movement import (
    POSITION_GRID,
    list_units,
    move_units,
    push_apart,
    relieve_crowd,
    start_order,
)
from dm2_ray.world.engine.opponent import ARRIVAL_DISTANCE, choose_scripted_target, survey_sides
from dm2_ray.world.engine.splash import resolve_explosions
from dm2_ray.world.engine.steering import walk_toward
from dm2_ray.world.engine.weapons import (
    begin_loop,
    cancel_attack,
    is_within,
    reach_between,
    release_attack,
    start_attack,
)
from dm2_ray.world.maps.terrain import GROUND, Terrain, is_passable, next_waypoint
from dm2_ray.world.randomness import (
    DRAW_ATTACK_POINT,
    DRAW_ENEMY_ORDER,
    DRAW_SIDESTEP,
    DRAW_SPAWN_X,
    DRAW_SPAWN_Y,
    uniform_draw,
)
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP, WEST
from dm2_ray.world.units.state import (
    ALARM,
    ALIVE,
    ATTACKER,
    COOLDOWN,
    ENERGY,
    EXPLODING,
    GOAL_X,
    GOAL_Y,
    HEADING_X,
    HEADING_Y,
    HEALING,
    HEALTH,
    IMPACT,
    IMPACT_TARGET,
    MOVE_X,
    MOVE_Y,
    NONE,
    NOT_EXPLODING,
    ORDER,
    ORDER_ATTACK,
    ORDER_MOVE,
    ORDER_SCRIPTED,
    ORDER_STOP,
    RECOVERY,
    SHIELD,
    SHIELD_WAIT,
    SIDE,
    SIDE_LOOPS,
    SIDESTEP,
    TARGET,
    WINDUP,
    WINDUP_TARGET,
    UnitFlags,
    Units,
    Workspace,
    X,
    Y,
)
from dm2_ray.world.units.tables import (
    ACCELERATION,
    ENERGY_START,
    HEAL_RATE,
    HEALTH_MAX,
    LAYER,
    SHIELD_MAX,
    SPEED,
    InitialUnits,
    UnitTables,
)

SIDESTEP_LOOPS = 32
"""Loops during which a unit prefers one side when it has to get around something."""


@kernel(inline=True, allocates=False)
def create_units(
    initial_units: InitialUnits, tables: UnitTables, terrain: Terrain, units: Units, flags: UnitFlags, key: np.uint64
) -> None:
    """Put all units of a new battle in their starting positions, with full health and their first orders."""
    num_agents = tables.num_agents
    stats = tables.stats
    for i in range(units.shape[1]):
        units[X, i] = initial_units.start[i, 0]
        units[Y, i] = initial_units.start[i, 1]
        if initial_units.spawn_jitter > 0.0:
            x = units[X, i] + initial_units.spawn_jitter * (2.0 * uniform_draw(key, 0, i, DRAW_SPAWN_X) - 1.0)
            y = units[Y, i] + initial_units.spawn_jitter * (2.0 * uniform_draw(key, 0, i, DRAW_SPAWN_Y) - 1.0)
            if is_passable(terrain.passable, int(stats[LAYER, i]), x, y):
                units[X, i] = math.floor(x * POSITION_GRID) / POSITION_GRID
                units[Y, i] = math.floor(y * POSITION_GRID) / POSITION_GRID
        side = 0 if i < num_agents else 1
        share = uniform_draw(key, 0, side, DRAW_ATTACK_POINT)
        line = initial_units.attack_line
        units[HEALTH, i] = stats[HEALTH_MAX, i]
        units[SHIELD, i] = stats[SHIELD_MAX, i]
        units[ENERGY, i] = stats[ENERGY_START, i]
        units[COOLDOWN, i] = 0.0
        units[HEADING_X, i] = 0.0
        units[HEADING_Y, i] = 0.0
        units[WINDUP, i] = 0.0
        units[RECOVERY, i] = 0.0
        units[IMPACT, i] = 0.0
        units[SHIELD_WAIT, i] = 0.0
        units[ALARM, i] = 0.0
        units[SIDE, i] = 0.0
        units[SIDE_LOOPS, i] = 0.0
        units[GOAL_X, i] = line[side, 0] + share * (line[side, 2] - line[side, 0])
        units[GOAL_Y, i] = line[side, 1] + share * (line[side, 3] - line[side, 1])
        if side == 1 and initial_units.holds_ground:
            units[GOAL_X, i] = units[X, i]
            units[GOAL_Y, i] = units[Y, i]
        flags[ORDER, i] = ORDER_SCRIPTED if side == 1 or initial_units.scripted_agents else ORDER_STOP
        flags[TARGET, i] = NONE
        flags[WINDUP_TARGET, i] = NONE
        flags[IMPACT_TARGET, i] = NONE
        flags[ATTACKER, i] = NONE
        flags[HEALING, i] = NONE
        flags[EXPLODING, i] = NOT_EXPLODING
    if initial_units.spawn_jitter > 0.0:
        _sort_agents(initial_units.kind_order, num_agents, units)
    if initial_units.shuffles_enemies:
        _shuffle_enemies(initial_units.kind_order, num_agents, units, key)


@kernel(allocates=False)
def _sort_agents(kind_order: UnitFlags, num_agents: int, units: Units) -> None:
    """SMAC numbers agents by (unit type, x, y) at every reset; insertion sort within each kind."""
    for i in range(1, num_agents):
        j = i
        while (
            j > 0
            and kind_order[j] == kind_order[j - 1]
            and (units[X, j], units[Y, j]) < (units[X, j - 1], units[Y, j - 1])
        ):
            units[X, j], units[X, j - 1] = units[X, j - 1], units[X, j]
            units[Y, j], units[Y, j - 1] = units[Y, j - 1], units[Y, j]
            j -= 1


@kernel(allocates=False)
def _shuffle_enemies(kind_order: UnitFlags, num_agents: int, units: Units, key: np.uint64) -> None:
    """Exchange the places of the enemies of one kind at random: the game lists its units in another order in every
    battle, so a number tells the agents nothing about a place."""
    for i in range(units.shape[1] - 1, num_agents, -1):
        alike = 0
        for j in range(num_agents, i + 1):
            alike += kind_order[j] == kind_order[i]
        drawn = int(uniform_draw(key, 0, i, DRAW_ENEMY_ORDER) * alike)
        for j in range(num_agents, i + 1):
            if kind_order[j] != kind_order[i]:
                continue
            if drawn == 0:
                for row in (X, Y, GOAL_X, GOAL_Y):
                    units[row, i], units[row, j] = units[row, j], units[row, i]
                break
            drawn -= 1


@kernel(inline=True, allocates=False)
def give_orders(
    tables: UnitTables, units: Units, flags: UnitFlags, actions: NDArray[np.int64], move_amount: float
) -> None:
    """Turn a joint action [N] into orders; each replaces the previous order and ends a backswing.

    A healer's targets are agents.
    """
    num_agents = tables.num_agents
    for i in range(num_agents):
        action = actions[i]
        # Of the living agents only a healer played by SMAC's heuristic gets no command; it keeps its last order.
        if action == NO_OP or units[HEALTH, i] <= 0.0 or flags[ORDER, i] == ORDER_SCRIPTED:
            continue
        units[RECOVERY, i] = 0.0
        if action >= FIRST_TARGET:
            first = 0 if tables.stats[HEAL_RATE, i] > 0.0 else num_agents
            target = first + action - FIRST_TARGET
            # Repeating an order does not interrupt the attack it led to.
            if flags[WINDUP_TARGET, i] != target:
                cancel_attack(units, flags, i)
            flags[ORDER, i] = ORDER_ATTACK
            flags[TARGET, i] = target
        else:
            cancel_attack(units, flags, i)
            flags[ORDER, i] = ORDER_STOP if action == STOP else ORDER_MOVE
            flags[TARGET, i] = NONE
            east = (action == EAST) - (action == WEST)
            north = (action == NORTH) - (action == SOUTH)
            units[GOAL_X, i] = units[X, i] + move_amount * east
            units[GOAL_Y, i] = units[Y, i] + move_amount * north


@kernel(inline=True, allocates=False)
def _apply_action(
    tables: UnitTables,
    terrain: Terrain,
    units: Units,
    flags: UnitFlags,
    work: Workspace,
    i: int,
    key: np.uint64,
    loop: int,
) -> None:
    """One loop of unit i: continue the attack in progress, or follow the order."""
    stats = tables.stats
    work.floats[MOVE_X, i] = 0.0
    work.floats[MOVE_Y, i] = 0.0
    if flags[WINDUP_TARGET, i] != NONE:
        units[WINDUP, i] -= 1.0
    else:
        order = flags[ORDER, i]
        target = flags[TARGET, i]
        in_reach = False
        if target > NONE:
            if units[HEALTH, target] > 0.0 and (order == ORDER_SCRIPTED or tables.damage[i, target] > 0.0):
                in_reach = is_within(units, i, target, reach_between(stats, i, target))
            elif order != ORDER_SCRIPTED:
                target = NONE
        if order == ORDER_SCRIPTED and not in_reach:
            target = choose_scripted_target(tables, units, flags, work, i)
            flags[TARGET, i] = target
            if target > NONE:
                in_reach = is_within(units, i, target, reach_between(stats, i, target))
        goal_x = units[GOAL_X, i]
        goal_y = units[GOAL_Y, i]
        walks = order == ORDER_MOVE
        if target > NONE:
            goal_x = units[X, target]
            goal_y = units[Y, target]
            walks = not in_reach
            if in_reach:
                units[SIDE_LOOPS, i] = 0.0
                if units[COOLDOWN, i] <= 0.0:
                    start_attack(stats, units, flags, i, target, key, loop)
            elif units[RECOVERY, i] > 0.0:
                walks = False
        elif order == ORDER_SCRIPTED:
            dx = goal_x - units[X, i]
            dy = goal_y - units[Y, i]
            walks = dx * dx + dy * dy > ARRIVAL_DISTANCE * ARRIVAL_DISTANCE
        if walks:
            reach = reach_between(stats, i, target) if target > NONE else 0.0
            _walk(tables, terrain, units, work, i, goal_x, goal_y, reach, target)
    if flags[WINDUP_TARGET, i] != NONE and units[WINDUP, i] <= 0.0:
        release_attack(tables.num_agents, stats, tables.damage, units, flags, i)


@kernel(inline=True, allocates=False)
def _walk(
    tables: UnitTables,
    terrain: Terrain,
    units: Units,
    work: Workspace,
    i: int,
    goal_x: float,
    goal_y: float,
    reach: float,
    target: int,
) -> None:
    """Choose unit i's displacement on its way to within `reach` of a point, or of unit `target` if there is one."""
    stats = tables.stats
    speed = stats[SPEED, i]
    if stats[ACCELERATION, i] > 0.0:
        before = math.sqrt(units[HEADING_X, i] ** 2 + units[HEADING_Y, i] ** 2)
        speed = min(speed, before + stats[ACCELERATION, i])
    if terrain.has_obstacles and stats[LAYER, i] == GROUND:
        onward_x, onward_y = next_waypoint(terrain, units[X, i], units[Y, i], goal_x, goal_y)
        if onward_x != goal_x or onward_y != goal_y:
            goal_x = onward_x
            goal_y = onward_y
            reach = 0.0
    walk_toward(terrain.passable, tables.widest, stats, units, work, i, speed, goal_x, goal_y, reach, target)


@kernel(allocates=False)
def _act_as_healer(
    tables: UnitTables, terrain: Terrain, units: Units, flags: UnitFlags, work: Workspace, i: int
) -> None:
    """One loop of healer i: heal a patient, fly to it, follow the army, or follow the order."""
    work.floats[MOVE_X, i] = 0.0
    work.floats[MOVE_Y, i] = 0.0
    first = 0 if i < tables.num_agents else tables.num_agents
    last = tables.num_agents if i < tables.num_agents else units.shape[1]
    patient = choose_heal_target(tables, units, flags, i, first, last)
    goal_x = units[GOAL_X, i]
    goal_y = units[GOAL_Y, i]
    enough = 0.0
    if patient != NONE:
        goal_x = units[X, patient]
        goal_y = units[Y, patient]
        enough = reach_between(tables.stats, i, patient)
    elif flags[ORDER, i] == ORDER_SCRIPTED:
        enough = FOLLOW_DISTANCE if follow_allies(tables.stats, units, i, first, last) else ARRIVAL_DISTANCE
        goal_x = units[GOAL_X, i]
        goal_y = units[GOAL_Y, i]
    elif flags[ORDER, i] != ORDER_MOVE:
        return
    dx = goal_x - units[X, i]
    dy = goal_y - units[Y, i]
    if dx * dx + dy * dy > enough * enough:
        _walk(tables, terrain, units, work, i, goal_x, goal_y, enough, patient)


@kernel(allocates=False)
def _act_as_healers(tables: UnitTables, terrain: Terrain, units: Units, flags: UnitFlags, work: Workspace) -> None:
    """One loop of all healers. Patients chosen in the previous loop receive their health first."""
    heal_patients(tables.stats, units, flags)
    for i in range(units.shape[1]):
        if work.integers[ALIVE, i] and tables.stats[HEAL_RATE, i] > 0.0:
            _act_as_healer(tables, terrain, units, flags, work, i)


@kernel(allocates=False)
def run_game_loops(
    tables: UnitTables,
    terrain: Terrain,
    units: Units,
    flags: UnitFlags,
    work: Workspace,
    key: np.uint64,
    first_loop: int,
    num_loops: int,
) -> None:
    """Game loops first_loop, ..., first_loop + num_loops - 1 of one battle."""
    num_units = units.shape[1]
    for i in range(num_units):
        is_left = uniform_draw(key, first_loop // SIDESTEP_LOOPS, i, DRAW_SIDESTEP) < 0.5
        work.floats[SIDESTEP, i] = 1.0 if is_left else -1.0
    start_order(units, work)
    for loop in range(first_loop, first_loop + num_loops):
        begin_loop(tables, units, flags, work)
        list_units(tables.stats, units, work)
        survey_sides(tables.num_agents, units, work)
        is_crowded = push_apart(tables.widest, tables.stats, units, work)
        if tables.has_healers:
            _act_as_healers(tables, terrain, units, flags, work)
        for i in range(num_units):
            if work.integers[ALIVE, i] and tables.stats[HEAL_RATE, i] == 0.0:
                _apply_action(tables, terrain, units, flags, work, i, key, loop)
        if tables.has_explosions:
            resolve_explosions(tables.num_agents, tables.stats, tables.damage, units, flags)
        move_units(terrain.passable, tables.stats, units, work)
        if is_crowded:
            relieve_crowd(terrain.passable, tables.widest, tables.stats, units, work)
