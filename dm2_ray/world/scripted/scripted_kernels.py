"""Decision rules of the scripted teams, for all battles at once.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions; grids are [X, Y] cells. `out` [B, N]
receives the actions; b is a battle, i one of its agents, j a unit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.randomness import DRAW_ACTION, DRAW_EPSILON, battle_key, uniform_draw
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP, WEST

NO_ENEMY = -1
PATIENCE_STEPS = 15
"""Teams that hold their position advance toward the enemy after this many env steps."""


class UnitKnowledge(NamedTuple):
    """What a scripted team knows about the map and its units.

    Attributes:
        num_agents: N.
        reach: [U, U] center distance up to which the row's unit can hit the column's.
        stride: [U] distance walked in an env step.
        is_melee: [U].
        can_hit: [U, U] whether the row's weapon can hit the column's unit at all.
        is_healer: [U].
        health_max: [U].
        walkable: [X, Y].
    """

    num_agents: int
    reach: Float64s
    stride: Float64s
    is_melee: Bools
    can_hit: Bools
    is_healer: Bools
    health_max: Float64s
    walkable: Bools


class Situation(NamedTuple):
    """What a scripted team sees of its battles before a step.

    Attributes:
        mask: [B, N, A] available actions.
        x, y: [B, U] map cells.
        health, shield: [B, U].
        cooldown: [B, U] game loops.
        last_actions: [B, N].
        battle_number: [B].
        steps: [B] env steps since the battle began.
    """

    mask: Bools
    x: Float64s
    y: Float64s
    health: Float64s
    shield: Float64s
    cooldown: Float64s
    last_actions: Int64s
    battle_number: Int64s
    steps: Int64s


@kernel(allocates=False)
def available_action(mask: Bools, b: int, i: int, draw: float) -> int:
    """The available action of agent i on which a uniform number in [0, 1) falls."""
    count = 0
    for action in range(mask.shape[2]):
        count += mask[b, i, action]
    rank = int(draw * count)
    for action in range(mask.shape[2]):
        if mask[b, i, action]:
            if rank == 0:
                return action
            rank -= 1
    return NO_OP


@kernel(allocates=False)
def choose_random(now: Situation, seed: np.uint64, out: Int64s) -> None:
    """Uniform among the available actions; the draw depends on (seed, battle number, step, agent) only."""
    for b in range(out.shape[0]):
        key = battle_key(seed, now.battle_number[b])
        for i in range(out.shape[1]):
            out[b, i] = available_action(now.mask, b, i, uniform_draw(key, now.steps[b], i, DRAW_ACTION))


@kernel(allocates=False)
def mix_in_random(
    mask: Bools, battle_number: Int64s, steps: Int64s, seed: np.uint64, epsilon: float, out: Int64s
) -> None:
    """Replaces each action in `out`, with probability epsilon, by one that is uniform among the available ones.

    The draws depend on (seed, battle number, step, agent) only. Arguments as in Situation.
    """
    for b in range(out.shape[0]):
        key = battle_key(seed, battle_number[b])
        for i in range(out.shape[1]):
            if uniform_draw(key, steps[b], i, DRAW_EPSILON) < epsilon:
                out[b, i] = available_action(mask, b, i, uniform_draw(key, steps[b], i, DRAW_ACTION))


@kernel(allocates=False)
def distance_between(now: Situation, b: int, i: int, j: int) -> float:
    """Center distance of two units."""
    dx = now.x[b, j] - now.x[b, i]
    dy = now.y[b, j] - now.y[b, i]
    return math.sqrt(dx * dx + dy * dy)


@kernel(allocates=False)
def nearest_enemy(knowledge: UnitKnowledge, now: Situation, b: int, i: int) -> int:
    """Nearest living enemy that agent i can hit, by unit index, or NO_ENEMY."""
    best = NO_ENEMY
    best_distance = np.inf
    for j in range(knowledge.num_agents, now.x.shape[1]):
        if now.health[b, j] > 0.0 and knowledge.can_hit[i, j]:
            distance = distance_between(now, b, i, j)
            if distance < best_distance:
                best = j
                best_distance = distance
    return best


@kernel(allocates=False)
def step_toward(now: Situation, b: int, i: int, j: int) -> int:
    """The available move that leads along the larger coordinate difference, else along the other, else stop."""
    dx = now.x[b, j] - now.x[b, i]
    dy = now.y[b, j] - now.y[b, i]
    along_x = EAST if dx > 0.0 else WEST
    along_y = NORTH if dy > 0.0 else SOUTH
    first, second = (along_x, along_y) if abs(dx) > abs(dy) else (along_y, along_x)
    if now.mask[b, i, first]:
        return first
    if now.mask[b, i, second]:
        return second
    return STOP


@kernel(allocates=False)
def attack_or_approach(now: Situation, num_agents: int, b: int, i: int, j: int) -> int:
    """Attack enemy j if that is available, otherwise go toward it."""
    attack = FIRST_TARGET + j - num_agents
    if now.mask[b, i, attack]:
        return attack
    return step_toward(now, b, i, j)


@kernel(allocates=False)
def healer_action(knowledge: UnitKnowledge, now: Situation, b: int, i: int) -> int:
    """A healer's action: heal the worst hurt fighter in range, else go to the worst hurt one, else to the nearest."""
    best = NO_ENEMY
    best_rank = np.inf
    for j in range(knowledge.num_agents):
        if now.health[b, j] <= 0.0 or knowledge.is_healer[j]:
            continue
        distance = distance_between(now, b, i, j)
        share = now.health[b, j] / knowledge.health_max[j]
        in_range = now.mask[b, i, FIRST_TARGET + j]
        # Hurt and in range come first, then hurt, then unhurt; shares and distances decide within these groups.
        rank = share if in_range else 2.0 + share
        if share >= 1.0:
            rank = 4.0 + distance
        if rank < best_rank:
            best = j
            best_rank = rank
    if best == NO_ENEMY:
        return STOP
    if now.mask[b, i, FIRST_TARGET + best]:
        return FIRST_TARGET + best
    return step_toward(now, b, i, best)


@kernel(allocates=False)
def choose_nearest(knowledge: UnitKnowledge, now: Situation, targets: Int64s, out: Int64s) -> None:
    """SMAC's built-in heuristic: each agent keeps its target until it dies, then takes the nearest enemy; healers heal.

    `targets` [B, N] holds the enemies' unit indices between steps; NO_ENEMY without a target.
    """
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if now.health[b, i] <= 0.0:
                continue
            if knowledge.is_healer[i]:
                out[b, i] = healer_action(knowledge, now, b, i)
                continue
            target = targets[b, i]
            if target == NO_ENEMY or now.health[b, target] <= 0.0:
                target = nearest_enemy(knowledge, now, b, i)
                targets[b, i] = target
            out[b, i] = STOP if target == NO_ENEMY else attack_or_approach(now, knowledge.num_agents, b, i, target)


@kernel(allocates=False)
def weakest_enemy(knowledge: UnitKnowledge, now: Situation, b: int, i: int) -> int:
    """Enemy with the fewest hit points that can be attacked, or NO_ENEMY; ties go to the nearer one. Melee agents
    consider only enemies almost in reach."""
    best = NO_ENEMY
    best_points = np.inf
    best_distance = np.inf
    for j in range(knowledge.num_agents, now.x.shape[1]):
        if not (now.mask[b, i, FIRST_TARGET + j - knowledge.num_agents] and knowledge.can_hit[i, j]):
            continue
        distance = distance_between(now, b, i, j)
        if knowledge.is_melee[i] and distance > knowledge.reach[i, j] + 0.5 * knowledge.stride[i]:
            continue
        points = now.health[b, j] + now.shield[b, j]
        if points < best_points or (points == best_points and distance < best_distance):
            best = j
            best_points = points
            best_distance = distance
    return best


@kernel(allocates=False)
def attack_or_advance(knowledge: UnitKnowledge, now: Situation, b: int, i: int) -> int:
    """Hold the position and shoot the weakest enemy in range; after PATIENCE_STEPS go to the nearest. Healers heal."""
    if knowledge.is_healer[i]:
        return healer_action(knowledge, now, b, i)
    target = weakest_enemy(knowledge, now, b, i)
    if target == NO_ENEMY:
        target = nearest_enemy(knowledge, now, b, i)
        if target == NO_ENEMY:
            return STOP
        is_far = distance_between(now, b, i, target) > knowledge.reach[i, target] + 2.0 * knowledge.stride[i]
        if is_far and now.steps[b] < PATIENCE_STEPS:
            return STOP
    return attack_or_approach(now, knowledge.num_agents, b, i, target)


@kernel(allocates=False)
def choose_focus_fire(knowledge: UnitKnowledge, now: Situation, out: Int64s) -> None:
    """Every agent shoots the weakest enemy in its range and otherwise holds its position."""
    for b in range(out.shape[0]):
        for i in range(knowledge.num_agents):
            out[b, i] = NO_OP
            if now.health[b, i] > 0.0:
                out[b, i] = attack_or_advance(knowledge, now, b, i)
