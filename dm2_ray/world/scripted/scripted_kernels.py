"""Decision rules of the scripted teams, for all battles at once.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions; grids are [X, Y] cells.

Unit columns x, y, health, shield, cooldown are [B, U]; `mask` is [B, N, A]; `out` [B, N] receives the actions. `reach`
[U, U] is the center distance up to which the row's unit can hit the column's, `stride` [U] the way walked in an env
step, `is_melee` [U].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.randomness import DRAW_ACTION, battle_key, uniform_draw
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP, WEST

Columns = NDArray[np.float64]

NO_ENEMY = -1
PATIENCE_STEPS = 15
"""Teams that hold their ground go to look for the enemy after this many env steps."""


class UnitKnowledge(NamedTuple):
    """What a scripted team knows about the map and its units."""

    num_agents: int
    reach: NDArray[np.float64]
    """[U, U]"""
    stride: NDArray[np.float64]
    """[U]"""
    is_melee: NDArray[np.bool_]
    """[U]"""
    can_hit: NDArray[np.bool_]
    """[U, U] whether the row's weapon can hit the column's unit at all."""
    is_healer: NDArray[np.bool_]
    """[U]"""
    health_max: NDArray[np.float64]
    """[U]"""
    walkable: NDArray[np.bool_]
    """[X, Y]"""


@kernel(allocates=False)
def choose_random(
    mask: NDArray[np.bool_],
    seed: np.uint64,
    battle_number: NDArray[np.int64],
    steps: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
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
def distance_between(x: Columns, y: Columns, b: int, i: int, j: int) -> float:
    """Center distance of two units."""
    dx = x[b, j] - x[b, i]
    dy = y[b, j] - y[b, i]
    return math.sqrt(dx * dx + dy * dy)


@kernel(allocates=False)
def nearest_enemy(knowledge: UnitKnowledge, x: Columns, y: Columns, health: Columns, b: int, i: int) -> int:
    """Nearest living enemy that agent i can hit, by unit index, or NO_ENEMY."""
    best = NO_ENEMY
    best_distance = np.inf
    for j in range(knowledge.num_agents, x.shape[1]):
        if health[b, j] > 0.0 and knowledge.can_hit[i, j]:
            distance = distance_between(x, y, b, i, j)
            if distance < best_distance:
                best = j
                best_distance = distance
    return best


@kernel(allocates=False)
def step_toward(mask: NDArray[np.bool_], x: Columns, y: Columns, b: int, i: int, j: int) -> int:
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
def attack_or_approach(mask: NDArray[np.bool_], x: Columns, y: Columns, num_agents: int, b: int, i: int, j: int) -> int:
    """Attack enemy j if that is available, else go there."""
    attack = FIRST_TARGET + j - num_agents
    if mask[b, i, attack]:
        return attack
    return step_toward(mask, x, y, b, i, j)


@kernel(allocates=False)
def healer_action(
    knowledge: UnitKnowledge, mask: NDArray[np.bool_], x: Columns, y: Columns, health: Columns, b: int, i: int
) -> int:
    """A healer's action: heal the worst hurt fighter in range, else go to the worst hurt, else to the nearest."""
    best = NO_ENEMY
    best_rank = np.inf
    for j in range(knowledge.num_agents):
        if health[b, j] <= 0.0 or knowledge.is_healer[j]:
            continue
        distance = distance_between(x, y, b, i, j)
        share = health[b, j] / knowledge.health_max[j]
        in_range = mask[b, i, FIRST_TARGET + j]
        # Hurt and in range come first, then hurt, then unhurt; shares and distances decide within these groups.
        rank = share if in_range else 2.0 + share
        if share >= 1.0:
            rank = 4.0 + distance
        if rank < best_rank:
            best = j
            best_rank = rank
    if best == NO_ENEMY:
        return STOP
    if mask[b, i, FIRST_TARGET + best]:
        return FIRST_TARGET + best
    return step_toward(mask, x, y, b, i, best)


@kernel(allocates=False)
def choose_nearest(
    knowledge: UnitKnowledge,
    mask: NDArray[np.bool_],
    x: Columns,
    y: Columns,
    health: Columns,
    targets: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """SMAC's built-in heuristic: each agent sticks to an enemy until it falls, then takes the nearest; healers tend.

    `targets` [B, N] holds the enemies' unit indices between steps, NO_ENEMY without.
    """
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if health[b, i] <= 0.0:
                continue
            if knowledge.is_healer[i]:
                out[b, i] = healer_action(knowledge, mask, x, y, health, b, i)
                continue
            target = targets[b, i]
            if target == NO_ENEMY or health[b, target] <= 0.0:
                target = nearest_enemy(knowledge, x, y, health, b, i)
                targets[b, i] = target
            out[b, i] = (
                STOP if target == NO_ENEMY else attack_or_approach(mask, x, y, knowledge.num_agents, b, i, target)
            )


@kernel(allocates=False)
def weakest_enemy(
    knowledge: UnitKnowledge,
    mask: NDArray[np.bool_],
    x: Columns,
    y: Columns,
    health: Columns,
    shield: Columns,
    b: int,
    i: int,
) -> int:
    """Enemy with the fewest hit points that can be attacked, the nearer of two alike; for melee agents only among those
    almost in reach. NO_ENEMY if there is none."""
    best = NO_ENEMY
    best_points = np.inf
    best_distance = np.inf
    for j in range(knowledge.num_agents, x.shape[1]):
        if not (mask[b, i, FIRST_TARGET + j - knowledge.num_agents] and knowledge.can_hit[i, j]):
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
def strike_or_advance(
    knowledge: UnitKnowledge,
    mask: NDArray[np.bool_],
    x: Columns,
    y: Columns,
    health: Columns,
    shield: Columns,
    step: int,
    b: int,
    i: int,
) -> int:
    """Hold the ground and shoot the weakest enemy in range; look for the nearest once patience ends. Healers heal."""
    if knowledge.is_healer[i]:
        return healer_action(knowledge, mask, x, y, health, b, i)
    target = weakest_enemy(knowledge, mask, x, y, health, shield, b, i)
    if target == NO_ENEMY:
        target = nearest_enemy(knowledge, x, y, health, b, i)
        if target == NO_ENEMY:
            return STOP
        is_far = distance_between(x, y, b, i, target) > knowledge.reach[i, target] + 2.0 * knowledge.stride[i]
        if is_far and step < PATIENCE_STEPS:
            return STOP
    return attack_or_approach(mask, x, y, knowledge.num_agents, b, i, target)


@kernel(allocates=False)
def choose_focus_fire(
    knowledge: UnitKnowledge,
    mask: NDArray[np.bool_],
    x: Columns,
    y: Columns,
    health: Columns,
    shield: Columns,
    steps: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Every agent shoots the weakest enemy in its range and otherwise holds its ground."""
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if health[b, i] > 0.0:
                out[b, i] = strike_or_advance(knowledge, mask, x, y, health, shield, steps[b], b, i)
