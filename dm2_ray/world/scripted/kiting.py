"""The kiting rule: ranged agents run from melee enemies while their weapons cool down.

Shapes: B battles, N agents, U = N + M units (agents first), A actions; arguments as in scripted_kernels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dm2_ray.arrays import Bools, Int64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.scripted.scripted_kernels import Situation, UnitKnowledge, attack_or_advance, distance_between
from dm2_ray.world.smac.rules import EAST, NO_OP, NORTH, SOUTH, STOP, WEST

LOOKAHEAD_CELLS = 4
"""How far ahead a fleeing agent looks for walls."""


class KiteRules(NamedTuple):
    """When a ranged agent shoots and when it runs from melee enemies; distances in map cells.

    Attributes:
        shoot_margin: Shoots freely while every melee enemy is farther away than its reach plus this.
        ready_margin: With the weapon ready, shoots while they are farther away than their reach plus this.
        bystander_margin: Melee enemies that have another agent nearer to them count only within their reach plus this.
        ready_loops: The weapon counts as ready when at most this many game loops of cooldown are left.
        wall_weight: Weight of free cells ahead in the choice of an escape.
        inertia: Bonus for keeping the direction.
        flock_weight: Weight of the distance from other agents, which splits the pursuers.
    """

    shoot_margin: float
    ready_margin: float
    bystander_margin: float
    ready_loops: float
    wall_weight: float
    inertia: float
    flock_weight: float


@kernel(allocates=False)
def melee_clearance(knowledge: UnitKnowledge, now: Situation, b: int, i: int, at_x: float, at_y: float) -> float:
    """Least distance from a point to a melee enemy's reach of agent i; infinite without melee enemies."""
    clearance = np.inf
    for j in range(knowledge.num_agents, now.x.shape[1]):
        if now.health[b, j] > 0.0 and knowledge.is_melee[j]:
            dx = now.x[b, j] - at_x
            dy = now.y[b, j] - at_y
            clearance = min(clearance, math.sqrt(dx * dx + dy * dy) - knowledge.reach[j, i])
    return clearance


@kernel(allocates=False)
def pursuer_clearance(knowledge: UnitKnowledge, rules: KiteRules, now: Situation, b: int, i: int) -> float:
    """Least distance from agent i to the reach of a melee enemy that pursues it: one to which no other agent is nearer,
    or one that is very near anyway. Infinite without such an enemy."""
    clearance = np.inf
    for j in range(knowledge.num_agents, now.x.shape[1]):
        if now.health[b, j] <= 0.0 or not knowledge.is_melee[j]:
            continue
        distance = distance_between(now, b, i, j)
        gap = distance - knowledge.reach[j, i]
        if gap >= clearance:
            continue
        is_bystander = False
        for k in range(knowledge.num_agents):
            if k != i and now.health[b, k] > 0.0 and distance_between(now, b, k, j) < distance:
                is_bystander = True
                break
        if not is_bystander or gap < rules.bystander_margin:
            clearance = gap
    return clearance


@kernel(allocates=False)
def open_cells(walkable: Bools, at_x: float, at_y: float, step_x: int, step_y: int) -> int:
    """Walkable cells in a row ahead of a point, at most LOOKAHEAD_CELLS."""
    for ahead in range(1, LOOKAHEAD_CELLS + 1):
        cell_x = int(at_x) + ahead * step_x
        cell_y = int(at_y) + ahead * step_y
        inside = 0 <= cell_x < walkable.shape[0] and 0 <= cell_y < walkable.shape[1]
        if not inside or not walkable[cell_x, cell_y]:
            return ahead - 1
    return LOOKAHEAD_CELLS


@kernel(allocates=False)
def escape_move(knowledge: UnitKnowledge, rules: KiteRules, now: Situation, b: int, i: int) -> int:
    """The available move that leads farthest from melee enemies, walls and friends, or stop."""
    best = STOP
    best_score = -np.inf
    for action in range(NORTH, WEST + 1):
        if not now.mask[b, i, action]:
            continue
        step_x = 1 if action == EAST else (-1 if action == WEST else 0)
        step_y = 1 if action == NORTH else (-1 if action == SOUTH else 0)
        at_x = now.x[b, i] + step_x * knowledge.stride[i]
        at_y = now.y[b, i] + step_y * knowledge.stride[i]
        score = melee_clearance(knowledge, now, b, i, at_x, at_y)
        score += rules.wall_weight * open_cells(knowledge.walkable, now.x[b, i], now.y[b, i], step_x, step_y)
        if action == now.last_actions[b, i]:
            score += rules.inertia
        for j in range(knowledge.num_agents):
            if j != i and now.health[b, j] > 0.0:
                dx = now.x[b, j] - at_x
                dy = now.y[b, j] - at_y
                score += rules.flock_weight * min(math.sqrt(dx * dx + dy * dy), 6.0)
        if score > best_score:
            best = action
            best_score = score
    return best


@kernel(allocates=False)
def choose_kite(knowledge: UnitKnowledge, rules: KiteRules, now: Situation, out: Int64s) -> None:
    """Ranged agents run from melee enemies while their weapons cool down; otherwise like choose_focus_fire."""
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if now.health[b, i] <= 0.0:
                continue
            if not knowledge.is_melee[i]:
                clearance = pursuer_clearance(knowledge, rules, now, b, i)
                is_ready = now.cooldown[b, i] <= rules.ready_loops
                if clearance < (rules.ready_margin if is_ready else rules.shoot_margin):
                    out[b, i] = escape_move(knowledge, rules, now, b, i)
                    continue
            out[b, i] = attack_or_advance(knowledge, now, b, i)
