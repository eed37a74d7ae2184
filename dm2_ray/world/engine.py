"""The embedded StarCraft II skirmish engine: the game loops of one battle.

Shapes: B battles, N agents, M enemies, U = N + M units, agents first; K neighbours kept per unit; A actions.

A game loop (16 per "Normal" second, 8 per env step) runs in phases that each read what the previous one left: impacts
land; everyone decides and shoots from the positions at the loop's start; everyone moves; timers run. Neither side goes
first in any of them. Physics follows StarCraft II's published unit data; pushing, steering and the opponent are models
of a closed engine, their free parameters are in `EngineSettings`.
"""

from __future__ import annotations

import numpy as np

from dm2_ray.world.inner_kernels import inlined_kernel, inner_kernel
from dm2_ray.world.movement import GRID, find_contacts, is_walkable, move_units, walk_towards
from dm2_ray.world.opponent import act_scripted, fight
from dm2_ray.world.randomness import (
    DRAW_ATTACK_POINT,
    DRAW_SIDESTEP,
    DRAW_SPAWN_X,
    DRAW_SPAWN_Y,
    uniform_draw,
)
from dm2_ray.world.unit_state import (
    ALARM,
    ATTACKER,
    AVOIDED,
    BLOCKED,
    COOLDOWN,
    ENERGY,
    GOAL_X,
    GOAL_Y,
    HEADING_X,
    HEADING_Y,
    HEALTH,
    IMPACT,
    IMPACT_TARGET,
    MOVE_X,
    MOVE_Y,
    NONE,
    ORDER,
    ORDER_ATTACK,
    ORDER_MOVE,
    ORDER_SCRIPTED,
    ORDER_STOP,
    RECOVERY,
    SHIELD,
    SHIELD_WAIT,
    SIDESTEP,
    TARGET,
    WINDUP,
    WINDUP_TARGET,
    X,
    Y,
)
from dm2_ray.world.unit_tables import HEALTH_MAX, SHIELD_MAX
from dm2_ray.world.weapons import cancel_attack, continue_attack, land_impacts, pass_loop

ENGINE_VERSION = "1"
"""Changes whenever the same seed and actions may give another battle; recorded with demonstrations."""

ACTION_STOP = 1
ACTION_NORTH = 2
ACTION_SOUTH = 3
ACTION_EAST = 4
ACTION_WEST = 5
FIRST_ATTACK_ACTION = 6


@inner_kernel
def create_units(tables, units, marks, key):
    """Put all units of a new battle in their places, whole and under their first orders."""
    num_units = units.shape[1]
    for i in range(num_units):
        x = tables.start[i, 0]
        y = tables.start[i, 1]
        if tables.spawn_jitter > 0.0:
            moved_x = x + tables.spawn_jitter * (2.0 * uniform_draw(key, 0, i, DRAW_SPAWN_X) - 1.0)
            moved_y = y + tables.spawn_jitter * (2.0 * uniform_draw(key, 0, i, DRAW_SPAWN_Y) - 1.0)
            moved_x = np.floor(moved_x * GRID + 0.5) / GRID
            moved_y = np.floor(moved_y * GRID + 0.5) / GRID
            if is_walkable(tables.walkable, moved_x, moved_y):
                x = moved_x
                y = moved_y
        units[X, i] = x
        units[Y, i] = y
    if tables.spawn_jitter > 0.0:
        sort_agents(tables, units)
    for i in range(num_units):
        side = 0 if i < tables.num_agents else 1
        share = uniform_draw(key, 0, side, DRAW_ATTACK_POINT)
        line = tables.attack_line
        units[HEALTH, i] = tables.stats[HEALTH_MAX, i]
        units[SHIELD, i] = tables.stats[SHIELD_MAX, i]
        units[ENERGY, i] = 0.0
        units[COOLDOWN, i] = 0.0
        units[HEADING_X, i] = 0.0
        units[HEADING_Y, i] = 0.0
        units[WINDUP, i] = -1.0
        units[RECOVERY, i] = 0.0
        units[IMPACT, i] = -1.0
        units[SHIELD_WAIT, i] = 0.0
        units[ALARM, i] = 0.0
        units[BLOCKED, i] = 0.0
        units[GOAL_X, i] = line[side, 0] + share * (line[side, 2] - line[side, 0])
        units[GOAL_Y, i] = line[side, 1] + share * (line[side, 3] - line[side, 1])
        marks[ORDER, i] = ORDER_SCRIPTED if side == 1 or tables.scripted_agents else ORDER_STOP
        marks[TARGET, i] = NONE
        marks[WINDUP_TARGET, i] = NONE
        marks[IMPACT_TARGET, i] = NONE
        marks[ATTACKER, i] = NONE
        marks[AVOIDED, i] = NONE


@inner_kernel
def sort_agents(tables, units):
    """SMAC numbers agents by (unit type, x, y) at every reset; insertion sort within each kind."""
    for i in range(1, tables.num_agents):
        j = i
        while (
            j > 0
            and tables.kind_order[j] == tables.kind_order[j - 1]
            and (units[X, j], units[Y, j]) < (units[X, j - 1], units[Y, j - 1])
        ):
            units[X, j], units[X, j - 1] = units[X, j - 1], units[X, j]
            units[Y, j], units[Y, j - 1] = units[Y, j - 1], units[Y, j]
            j -= 1


@inner_kernel
def give_orders(tables, units, marks, actions, move_amount):
    """Turn a joint action [N] into orders; each replaces the one before and cuts a backswing short."""
    for i in range(tables.num_agents):
        if units[HEALTH, i] <= 0.0 or tables.scripted_agents:
            continue
        action = actions[i]
        units[RECOVERY, i] = 0.0
        if action >= FIRST_ATTACK_ACTION:
            target = tables.num_agents + action - FIRST_ATTACK_ACTION
            if marks[WINDUP_TARGET, i] != target:
                cancel_attack(units, i)
            marks[ORDER, i] = ORDER_ATTACK
            marks[TARGET, i] = target
            continue
        cancel_attack(units, i)
        marks[TARGET, i] = NONE
        if action == ACTION_STOP:
            marks[ORDER, i] = ORDER_STOP
            continue
        marks[ORDER, i] = ORDER_MOVE
        units[GOAL_X, i] = units[X, i]
        units[GOAL_Y, i] = units[Y, i]
        if action == ACTION_NORTH:
            units[GOAL_Y, i] += move_amount
        elif action == ACTION_SOUTH:
            units[GOAL_Y, i] -= move_amount
        elif action == ACTION_EAST:
            units[GOAL_X, i] += move_amount
        elif action == ACTION_WEST:
            units[GOAL_X, i] -= move_amount


@inlined_kernel
def prepare_battle(units, work, key):
    """Fill what the workspace keeps for several loops of one battle."""
    for i in range(units.shape[1]):
        work.floats[SIDESTEP, i] = 1.0 if uniform_draw(key, 0, i, DRAW_SIDESTEP) < 0.5 else -1.0


@inner_kernel
def run_loop(tables, units, marks, work, key, loop):
    """One game loop of one battle."""
    num_units = units.shape[1]
    for i in range(num_units):
        work.alive[i] = units[HEALTH, i] > 0.0
        work.floats[MOVE_X, i] = 0.0
        work.floats[MOVE_Y, i] = 0.0
    pass_loop(tables, units, work)
    land_impacts(tables, units, marks, work)
    find_contacts(tables, units, marks, work)
    for i in range(num_units):
        if not work.alive[i]:
            continue
        if units[WINDUP, i] >= 0.0:
            continue_attack(tables, units, marks, i)
            continue
        order = marks[ORDER, i]
        if order == ORDER_SCRIPTED:
            if i < tables.num_agents:
                act_scripted(
                    tables, units, marks, work, i, tables.num_agents, num_units, 0, tables.num_agents, key, loop
                )
            else:
                act_scripted(
                    tables, units, marks, work, i, 0, tables.num_agents, tables.num_agents, num_units, key, loop
                )
        elif order == ORDER_ATTACK:
            target = marks[TARGET, i]
            if units[HEALTH, target] > 0.0:
                fight(tables, units, marks, work, i, target, key, loop)
        elif order == ORDER_MOVE:
            walk_towards(tables, units, marks, work, i, units[GOAL_X, i], units[GOAL_Y, i])
    move_units(tables, units, marks, work)


@inner_kernel
def run_loops(tables, units, marks, work, key, first_loop, num_loops):
    """Several game loops of one battle."""
    prepare_battle(units, work, key)
    for loop in range(first_loop, first_loop + num_loops):
        run_loop(tables, units, marks, work, key, loop)
