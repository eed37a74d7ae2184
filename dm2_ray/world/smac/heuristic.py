"""SMAC's built-in heuristic (`heuristic_ai`): every agent attacks the nearest enemy until it dies.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions; F rows of `units` (see units.state).

It acts on the 32-bit numbers of the game's API and, like SMAC's, picks the first of several equally near targets.
Quirks kept: its orders need not be available actions (without `heuristic_rest` an attack may be ordered from any
distance, with it a move may lead against a wall), and marauders attack medivacs, which they cannot hit: SMAC intends to
skip them, but compares the enemies' standard unit types with the type of its own medivacs.
"""

from __future__ import annotations

from math import hypot, sqrt

import numpy as np

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NO_OP, NORTH, SOUTH, WEST
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.smac.step_outcome import to_float32
from dm2_ray.world.units.state import HEALTH, Units, X, Y

NO_TARGET = -1


class SmacHeuristic:
    """Chooses the agents' actions in B battles; remembers each agent's target.

    Args:
        rules: Tables of the map.
        num_battles: B.
        rest: SMAC's `heuristic_rest`.
    """

    def __init__(self, rules: RulesTables, num_battles: int, rest: bool) -> None:
        self._rules = rules
        self._rest = rest
        self.targets = np.full((num_battles, rules.num_agents), NO_TARGET, np.int64)
        """[B, N] number of the enemy that an agent attacks, or of the agent that it heals; NO_TARGET without one."""
        self.actions = np.zeros((num_battles, rules.num_agents), np.int64)
        """[B, N] last actions; NO_OP for the dead and for medivacs with nothing to heal, which keep their order."""

    def act(self, units: Float64s, action_mask: Bools, running: Bools) -> Int64s:
        """`actions`, updated for the running battles from their units [B, F, U] and masks [B, N, A]."""
        choose_actions(self._rules, units, action_mask, running, self._rest, self.targets, self.actions)
        return self.actions

    def reset_targets(self, which: Bools) -> None:
        """Forget the targets in the columns where `which` [B] is True: new battles start there."""
        self.targets[which] = NO_TARGET


@kernel(allocates=False)
def _keeps_target(rules: RulesTables, health: Units, target: int, heals: bool) -> bool:
    """Whether the target still has to be fought or healed."""
    if target == NO_TARGET:
        return False
    u = target if heals else rules.num_agents + target
    seen = to_float32(health[u])
    return seen > 0.0 and not (heals and seen == rules.health_max[u])


@kernel(allocates=False)
def _nearest_target(rules: RulesTables, x: Units, y: Units, health: Units, i: int) -> int:
    """Nearest living enemy of agent i, or nearest hurt agent that a medivac can heal; NO_TARGET without one."""
    heals = rules.is_medivac[i]
    first = 0 if heals else rules.num_agents
    count = rules.num_agents if heals else rules.num_enemies
    best = NO_TARGET
    best_distance = hypot(rules.extent_x, rules.extent_y)
    for j in range(count):
        u = first + j
        seen = to_float32(health[u])
        if not seen > 0.0 or (heals and (rules.is_medivac[u] or seen == rules.health_max[u])):
            continue
        dx, dy = to_float32(x[u]) - to_float32(x[i]), to_float32(y[u]) - to_float32(y[i])
        distance = sqrt(dx * dx + dy * dy)
        if distance < best_distance:
            best = j
            best_distance = distance
    return best


@kernel(allocates=False)
def choose_actions(
    rules: RulesTables, units: Float64s, masks: Bools, running: Bools, rest: bool, targets: Int64s, out_actions: Int64s
) -> None:
    """Update `targets` [B, N] and `out_actions` [B, N] of the running battles."""
    for b in range(running.shape[0]):
        if not running[b]:
            continue
        x, y, health = units[b, X], units[b, Y], units[b, HEALTH]
        for i in range(rules.num_agents):
            out_actions[b, i] = NO_OP
            if not to_float32(health[i]) > 0.0:
                continue
            heals = rules.is_medivac[i]
            if not _keeps_target(rules, health, targets[b, i], heals):
                targets[b, i] = _nearest_target(rules, x, y, health, i)
            target = targets[b, i]
            if target == NO_TARGET:
                continue
            out_actions[b, i] = FIRST_TARGET + target
            if rest and not masks[b, i, FIRST_TARGET + target]:
                u = target if heals else rules.num_agents + target
                dx, dy = to_float32(x[u]) - to_float32(x[i]), to_float32(y[u]) - to_float32(y[i])
                if abs(dx) > abs(dy):
                    out_actions[b, i] = EAST if dx > 0.0 else WEST
                else:
                    out_actions[b, i] = NORTH if dy > 0.0 else SOUTH
