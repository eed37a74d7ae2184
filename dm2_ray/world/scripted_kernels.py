"""Decision rules of the scripted teams, for all battles at once.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions; grids are [X, Y] cells.

Unit columns x, y, health, shield, cooldown are [B, U]; `mask` is [B, N, A]; `out` [B, N] receives the actions. `reach`
[U, U] is the centre distance up to which the row's unit can hit the column's, `stride` [U] the way walked in an env
step, `is_melee` [U].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.randomness import DRAW_ACTION, battle_key, uniform_draw
from dm2_ray.world.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP, WEST

NO_ENEMY = -1
PATIENCE_STEPS = 15
"""Teams that hold their ground go to look for the enemy after this many env steps."""
LOOKAHEAD_CELLS = 4


class Knowledge(NamedTuple):
    """What a scripted team knows about the map and its units."""

    num_agents: int
    reach: NDArray[np.float64]
    """[U, U]"""
    stride: NDArray[np.float64]
    """[U]"""
    is_melee: NDArray[np.bool_]
    """[U]"""
    walkable: NDArray[np.bool_]
    """[X, Y]"""


class KiteRules(NamedTuple):
    """When a ranged agent shoots and when it runs from melee enemies; distances in map cells."""

    shoot_margin: float
    """Shoots freely while every melee enemy is farther away than its reach plus this."""
    ready_margin: float
    """With the weapon ready shoots while they are farther away than their reach plus this."""
    bystander_margin: float
    """Melee enemies that have another agent nearer to them count only within their reach plus this."""
    ready_loops: float
    """The weapon counts as ready when at most this many game loops of cooldown are left."""
    wall_weight: float
    """How much it minds walls in its way of escape."""
    inertia: float
    """How much it likes to keep its direction."""
    flock_weight: float
    """How much it likes to run away from its friends, so as to split the pursuers."""


@kernel(allocates=False)
def choose_random(mask, seed, battle_number, steps, out):
    """Uniform among the available actions; the draw depends on (seed, battle number, step, agent) only."""
    for b in range(out.shape[0]):
        key = battle_key(seed, battle_number[b])
        for i in range(out.shape[1]):
            count = 0
            for action in range(mask.shape[2]):
                count += mask[b, i, action]
            rank = int(uniform_draw(key, steps[b], i, DRAW_ACTION) * count)
            for action in range(mask.shape[2]):
                if mask[b, i, action]:
                    if rank == 0:
                        out[b, i] = action
                        break
                    rank -= 1


@kernel(allocates=False)
def distance_between(x, y, b, i, j):
    """Centre distance of two units."""
    dx = x[b, j] - x[b, i]
    dy = y[b, j] - y[b, i]
    return math.sqrt(dx * dx + dy * dy)


@kernel(allocates=False)
def nearest_enemy(x, y, health, num_agents, b, i):
    """Nearest living enemy's unit index, or NO_ENEMY."""
    best = NO_ENEMY
    best_distance = np.inf
    for j in range(num_agents, x.shape[1]):
        if health[b, j] > 0.0:
            distance = distance_between(x, y, b, i, j)
            if distance < best_distance:
                best = j
                best_distance = distance
    return best


@kernel(allocates=False)
def step_towards(mask, x, y, b, i, j):
    """The available move that leads along the larger coordinate difference, else along the other, else stop."""
    dx = x[b, j] - x[b, i]
    dy = y[b, j] - y[b, i]
    along_x = EAST if dx > 0.0 else WEST
    along_y = NORTH if dy > 0.0 else SOUTH
    first, second = (along_x, along_y) if abs(dx) > abs(dy) else (along_y, along_x)
    if mask[b, i, first]:
        return first
    if mask[b, i, second]:
        return second
    return STOP


@kernel(allocates=False)
def pursue(mask, x, y, num_agents, b, i, j):
    """Attack enemy j if that is available, else go there."""
    attack = FIRST_TARGET + j - num_agents
    if mask[b, i, attack]:
        return attack
    return step_towards(mask, x, y, b, i, j)


@kernel(allocates=False)
def choose_nearest(mask, x, y, health, num_agents, targets, out):
    """SMAC's built-in heuristic: each agent sticks to an enemy until it falls, then takes the nearest.

    `targets` [B, N] holds the enemies' unit indices between steps, NO_ENEMY without.
    """
    for b in range(out.shape[0]):
        for i in range(num_agents):
            out[b, i] = NO_OP
            if health[b, i] <= 0.0:
                continue
            target = targets[b, i]
            if target == NO_ENEMY or health[b, target] <= 0.0:
                target = nearest_enemy(x, y, health, num_agents, b, i)
                targets[b, i] = target
            out[b, i] = STOP if target == NO_ENEMY else pursue(mask, x, y, num_agents, b, i, target)


@kernel(allocates=False)
def weakest_enemy(knowledge, mask, x, y, health, shield, b, i):
    """Enemy with the fewest hit points that can be attacked, the nearer of two alike; for melee agents only among those
    almost in reach. NO_ENEMY if there is none."""
    best = NO_ENEMY
    best_points = np.inf
    best_distance = np.inf
    for j in range(knowledge.num_agents, x.shape[1]):
        if not mask[b, i, FIRST_TARGET + j - knowledge.num_agents]:
            continue
        distance = distance_between(x, y, b, i, j)
        if knowledge.is_melee[i] and distance > knowledge.reach[i, j] + 0.5 * knowledge.stride[i]:
            continue
        points = health[b, j] + shield[b, j]
        if points < best_points or (points == best_points and distance < best_distance):
            best = j
            best_points = points
            best_distance = distance
    return best


@kernel(allocates=False)
def strike_or_advance(knowledge, mask, x, y, health, shield, step, b, i):
    """Hold the ground and shoot the weakest enemy in range; look for the nearest once patience ends."""
    target = weakest_enemy(knowledge, mask, x, y, health, shield, b, i)
    if target == NO_ENEMY:
        target = nearest_enemy(x, y, health, knowledge.num_agents, b, i)
        if target == NO_ENEMY:
            return STOP
        is_far = distance_between(x, y, b, i, target) > knowledge.reach[i, target] + 2.0 * knowledge.stride[i]
        if is_far and step < PATIENCE_STEPS:
            return STOP
    return pursue(mask, x, y, knowledge.num_agents, b, i, target)


@kernel(allocates=False)
def choose_focus_fire(knowledge, mask, x, y, health, shield, steps, out):
    """Every agent shoots the weakest enemy in its range and otherwise holds its ground."""
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if health[b, i] > 0.0:
                out[b, i] = strike_or_advance(knowledge, mask, x, y, health, shield, steps[b], b, i)


@kernel(allocates=False)
def melee_clearance(knowledge, x, y, health, b, i, at_x, at_y):
    """Least distance from a point to a melee enemy's reach of agent i; infinite without melee enemies."""
    clearance = np.inf
    for j in range(knowledge.num_agents, x.shape[1]):
        if health[b, j] > 0.0 and knowledge.is_melee[j]:
            dx = x[b, j] - at_x
            dy = y[b, j] - at_y
            clearance = min(clearance, math.sqrt(dx * dx + dy * dy) - knowledge.reach[j, i])
    return clearance


@kernel(allocates=False)
def pursuer_clearance(knowledge, rules, x, y, health, b, i):
    """Least distance from agent i to the reach of a melee enemy that is after it: one to whom no other agent is nearer,
    or one that is very near anyway. Infinite without such an enemy."""
    clearance = np.inf
    for j in range(knowledge.num_agents, x.shape[1]):
        if health[b, j] <= 0.0 or not knowledge.is_melee[j]:
            continue
        distance = distance_between(x, y, b, i, j)
        gap = distance - knowledge.reach[j, i]
        if gap >= clearance:
            continue
        is_bystander = False
        for k in range(knowledge.num_agents):
            if k != i and health[b, k] > 0.0 and distance_between(x, y, b, k, j) < distance:
                is_bystander = True
                break
        if not is_bystander or gap < rules.bystander_margin:
            clearance = gap
    return clearance


@kernel(allocates=False)
def open_cells(walkable, at_x, at_y, step_x, step_y):
    """Walkable cells in a row ahead of a point, at most LOOKAHEAD_CELLS."""
    for ahead in range(1, LOOKAHEAD_CELLS + 1):
        cell_x = int(at_x) + ahead * step_x
        cell_y = int(at_y) + ahead * step_y
        inside = 0 <= cell_x < walkable.shape[0] and 0 <= cell_y < walkable.shape[1]
        if not inside or not walkable[cell_x, cell_y]:
            return ahead - 1
    return LOOKAHEAD_CELLS


@kernel(allocates=False)
def escape_move(knowledge, rules, mask, x, y, health, last_action, b, i):
    """The available move that leads farthest from melee enemies, walls and friends, or stop."""
    best = STOP
    best_score = -np.inf
    for action in range(NORTH, WEST + 1):
        if not mask[b, i, action]:
            continue
        step_x = 1 if action == EAST else (-1 if action == WEST else 0)
        step_y = 1 if action == NORTH else (-1 if action == SOUTH else 0)
        at_x = x[b, i] + step_x * knowledge.stride[i]
        at_y = y[b, i] + step_y * knowledge.stride[i]
        score = melee_clearance(knowledge, x, y, health, b, i, at_x, at_y)
        score += rules.wall_weight * open_cells(knowledge.walkable, x[b, i], y[b, i], step_x, step_y)
        if action == last_action:
            score += rules.inertia
        for j in range(knowledge.num_agents):
            if j != i and health[b, j] > 0.0:
                dx = x[b, j] - at_x
                dy = y[b, j] - at_y
                score += rules.flock_weight * min(math.sqrt(dx * dx + dy * dy), 6.0)
        if score > best_score:
            best = action
            best_score = score
    return best


@kernel(allocates=False)
def choose_kite(knowledge, rules, mask, x, y, health, shield, cooldown, last_actions, steps, out):
    """Ranged agents run from melee enemies while their weapons cool down; for the rest as choose_focus_fire."""
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if health[b, i] <= 0.0:
                continue
            if not knowledge.is_melee[i]:
                clearance = pursuer_clearance(knowledge, rules, x, y, health, b, i)
                is_ready = cooldown[b, i] <= rules.ready_loops
                if clearance < (rules.ready_margin if is_ready else rules.shoot_margin):
                    out[b, i] = escape_move(knowledge, rules, mask, x, y, health, last_actions[b, i], b, i)
                    continue
            out[b, i] = strike_or_advance(knowledge, mask, x, y, health, shield, steps[b], b, i)
