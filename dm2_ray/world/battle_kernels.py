"""One env step of B battles in one compiled call: orders, game loops, reward, outcome, observations, auto-reset.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size;
F and G are the rows of `units` and `marks` (see unit_state).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine import create_units, give_orders, run_loops
from dm2_ray.world.randomness import battle_key
from dm2_ray.world.rules import available_actions, global_state, observe, settle
from dm2_ray.world.rules_tables import RulesTables
from dm2_ray.world.unit_state import COOLDOWN, ENERGY, HEALTH, NUM_MARK_ROWS, NUM_UNIT_ROWS, SHIELD, Workspace, X, Y
from dm2_ray.world.unit_tables import UnitTables


class BattleArrays(NamedTuple):
    """All that B battles are, and what their last step gave. Copying these arrays copies the battles exactly."""

    units: NDArray[np.float64]
    """[B, F, U]"""
    marks: NDArray[np.int64]
    """[B, G, U]"""
    dead: NDArray[np.bool_]
    """[B, U] deaths already counted in a reward."""
    battle_number: NDArray[np.int64]
    """[B]"""
    loop: NDArray[np.int64]
    """[B] game loops since the battle began."""
    steps: NDArray[np.int64]
    """[B] env steps since the battle began."""
    last_actions: NDArray[np.int64]
    """[B, N], -1 before the first step."""
    observations: NDArray[np.float32]
    """[B, N, O]"""
    action_mask: NDArray[np.bool_]
    """[B, N, A]"""
    state: NDArray[np.float32]
    """[B, S]"""
    alive: NDArray[np.bool_]
    """[B, N]"""
    rewards: NDArray[np.float64]
    """[B] of the last step, as the remaining ones."""
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    timed_out: NDArray[np.bool_]
    battle_won: NDArray[np.bool_]
    dead_allies: NDArray[np.int64]
    dead_enemies: NDArray[np.int64]
    final_observations: NDArray[np.float32]
    """[B, N, O], valid where the battle ended in the last step, as the remaining ones."""
    final_action_mask: NDArray[np.bool_]
    final_state: NDArray[np.float32]
    final_units: NDArray[np.float64]


def allocate_battles(num_battles: int, rules: RulesTables) -> BattleArrays:
    """Zeroed arrays of `num_battles` battles."""
    num_agents, num_units = rules.num_agents, rules.num_agents + rules.num_enemies
    observations = (num_battles, num_agents, rules.obs_size)
    mask = (num_battles, num_agents, rules.num_actions)
    return BattleArrays(
        units=np.zeros((num_battles, NUM_UNIT_ROWS, num_units)),
        marks=np.zeros((num_battles, NUM_MARK_ROWS, num_units), np.int64),
        dead=np.zeros((num_battles, num_units), np.bool_),
        battle_number=np.zeros(num_battles, np.int64),
        loop=np.zeros(num_battles, np.int64),
        steps=np.zeros(num_battles, np.int64),
        last_actions=np.zeros((num_battles, num_agents), np.int64),
        observations=np.zeros(observations, np.float32),
        action_mask=np.zeros(mask, np.bool_),
        state=np.zeros((num_battles, rules.state_size), np.float32),
        alive=np.zeros((num_battles, num_agents), np.bool_),
        rewards=np.zeros(num_battles),
        terminated=np.zeros(num_battles, np.bool_),
        truncated=np.zeros(num_battles, np.bool_),
        timed_out=np.zeros(num_battles, np.bool_),
        battle_won=np.zeros(num_battles, np.bool_),
        dead_allies=np.zeros(num_battles, np.int64),
        dead_enemies=np.zeros(num_battles, np.int64),
        final_observations=np.zeros(observations, np.float32),
        final_action_mask=np.zeros(mask, np.bool_),
        final_state=np.zeros((num_battles, rules.state_size), np.float32),
        final_units=np.zeros((num_battles, NUM_UNIT_ROWS, num_units)),
    )


@kernel
def find_unavailable(actions, action_mask, running):
    """Flat index of the first action [B, N] of a running battle that is not available, or -1."""
    num_battles, num_agents, num_actions = action_mask.shape
    for b in range(num_battles):
        if not running[b]:
            continue
        for i in range(num_agents):
            action = actions[b, i]
            if action < 0 or action >= num_actions or not action_mask[b, i, action]:
                return b * num_agents + i
    return -1


@kernel
def _view(rules, battles, b):
    """Refresh what the agents of battle b get to see."""
    units = battles.units[b]
    x = units[X]
    y = units[Y]
    health = units[HEALTH]
    shield = units[SHIELD]
    last_actions = battles.last_actions[b]
    mask = battles.action_mask[b]
    observations = battles.observations[b]
    t = battles.steps[b]
    available_actions(rules, x, y, health, mask)
    observe(rules, x, y, health, shield, last_actions, t, mask, observations)
    global_state(
        rules, x, y, health, shield, units[ENERGY], units[COOLDOWN], last_actions, t, observations, battles.state[b]
    )
    for i in range(rules.num_agents):
        battles.alive[b, i] = health[i] > 0.0


@kernel
def _start(tables, rules, work, seed, battles, b, number):
    """Begin battle `number` in column b, up to its first observation."""
    key = battle_key(seed, number)
    battles.battle_number[b] = number
    battles.steps[b] = 0
    battles.loop[b] = tables.opening_loops
    battles.last_actions[b] = -1
    battles.dead[b] = False
    units = battles.units[b]
    marks = battles.marks[b]
    create_units(tables, units, marks, key)
    run_loops(tables, units, marks, work, key, 0, tables.opening_loops)
    _view(rules, battles, b)


@kernel
def start_battles(tables, rules, work, seed, battles, first_battle):
    """Begin battle first_battle + b in every column b."""
    for b in range(battles.steps.shape[0]):
        _clear_outcome(battles, b)
        _start(tables, rules, work, seed, battles, b, first_battle + b)


@kernel
def _clear_outcome(battles, b):
    battles.rewards[b] = 0.0
    battles.terminated[b] = False
    battles.truncated[b] = False
    battles.timed_out[b] = False
    battles.battle_won[b] = False
    battles.dead_allies[b] = 0
    battles.dead_enemies[b] = 0


@kernel
def step_battles(tables, rules, work, seed, loops_per_step, move_amount, battles, actions, running):
    """One env step of every running battle; ended battles give way to the next of their column at once."""
    num_battles = battles.steps.shape[0]
    num_units = battles.units.shape[2]
    before = np.empty((2, num_units))
    for b in range(num_battles):
        _clear_outcome(battles, b)
        if not running[b]:
            continue
        units = battles.units[b]
        marks = battles.marks[b]
        key = battle_key(seed, battles.battle_number[b])
        before[0] = units[HEALTH]
        before[1] = units[SHIELD]
        give_orders(tables, units, marks, actions[b], move_amount)
        run_loops(tables, units, marks, work, key, battles.loop[b], loops_per_step)
        battles.loop[b] += loops_per_step
        battles.steps[b] += 1
        battles.last_actions[b] = actions[b]
        outcome = settle(
            rules, before[0], before[1], units[HEALTH], units[SHIELD], battles.dead[b], battles.steps[b]
        )
        battles.rewards[b] = outcome.reward
        battles.terminated[b] = outcome.terminated
        battles.truncated[b] = outcome.truncated
        battles.timed_out[b] = outcome.timed_out
        battles.battle_won[b] = outcome.won
        battles.dead_allies[b] = outcome.dead_allies
        battles.dead_enemies[b] = outcome.dead_enemies
        _view(rules, battles, b)
        if outcome.terminated or outcome.truncated:
            battles.final_observations[b] = battles.observations[b]
            battles.final_action_mask[b] = battles.action_mask[b]
            battles.final_state[b] = battles.state[b]
            battles.final_units[b] = units
            _start(tables, rules, work, seed, battles, b, battles.battle_number[b] + num_battles)
