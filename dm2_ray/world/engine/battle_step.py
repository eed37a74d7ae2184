"""One env step of B battles in one compiled call: orders, game loops, reward, outcome, observations, auto-reset.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size;
F and G are the rows of `units` and `flags` (see units.state).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.game_loop import create_units, give_orders, run_game_loops
from dm2_ray.world.maps.terrain import Terrain
from dm2_ray.world.randomness import battle_key
from dm2_ray.world.smac.rules import update_view
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.smac.step_outcome import compute_outcome
from dm2_ray.world.units.state import (
    HEALTH,
    HEALTH_BEFORE,
    NUM_FLAG_ROWS,
    NUM_UNIT_ROWS,
    SHIELD,
    SHIELD_BEFORE,
    Units,
    Workspace,
)
from dm2_ray.world.units.tables import InitialUnits, UnitTables


class BattleConstants(NamedTuple):
    """What does not change during the battles of one vector."""

    tables: UnitTables
    terrain: Terrain
    initial_units: InitialUnits
    rules: RulesTables
    loops_per_step: int
    """Game loops of an env step."""
    move_amount: float
    """Length of a move order in cells."""


class BattleArrays(NamedTuple):
    """The complete state of B battles and the results of their last step. A copy of the arrays is a copy of the
    battles."""

    units: NDArray[np.float64]
    """[B, F, U]"""
    flags: NDArray[np.int64]
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
        flags=np.zeros((num_battles, NUM_FLAG_ROWS, num_units), np.int64),
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


@kernel(allocates=False)
def find_unavailable(actions: NDArray[np.int64], action_mask: NDArray[np.bool_], running: NDArray[np.bool_]) -> int:
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


@kernel(inline=True, allocates=False)
def store_outcome(
    rules: RulesTables,
    battles: BattleArrays,
    b: int,
    health_before: NDArray[np.float64],
    shield_before: NDArray[np.float64],
) -> bool:
    """Compute and store reward and outcome of battle b's step, which began with `health_before` and `shield_before`
    [U]; returns whether the battle ended."""
    health, shield = battles.units[b, HEALTH], battles.units[b, SHIELD]
    outcome = compute_outcome(rules, health_before, shield_before, health, shield, battles.dead[b], battles.steps[b])
    battles.rewards[b] = outcome.reward
    battles.terminated[b] = outcome.terminated
    battles.truncated[b] = outcome.truncated
    battles.timed_out[b] = outcome.timed_out
    battles.battle_won[b] = outcome.won
    battles.dead_allies[b] = outcome.dead_allies
    battles.dead_enemies[b] = outcome.dead_enemies
    return outcome.terminated or outcome.truncated


@kernel(inline=True, allocates=False)
def clear_outcome(battles: BattleArrays, b: int) -> None:
    """Reset reward and outcome of battle b's last step."""
    battles.rewards[b] = 0.0
    battles.terminated[b] = False
    battles.truncated[b] = False
    battles.timed_out[b] = False
    battles.battle_won[b] = False
    battles.dead_allies[b] = 0
    battles.dead_enemies[b] = 0


@kernel(inline=True, allocates=False)
def observe(rules: RulesTables, battles: BattleArrays, b: int, units: Units) -> None:
    """Update what the agents of battle b see."""
    mask, observations, state = battles.action_mask[b], battles.observations[b], battles.state[b]
    update_view(rules, units, battles.last_actions[b], battles.steps[b], mask, observations, state)
    for i in range(rules.num_agents):
        battles.alive[b, i] = units[HEALTH, i] > 0.0


@kernel(inline=True, allocates=False)
def store_final_state(battles: BattleArrays, b: int, units: Units) -> None:
    """Copy what battle b's agents saw last, element by element: assigning slices costs seconds of compilation."""
    for i in range(battles.observations.shape[1]):
        for k in range(battles.observations.shape[2]):
            battles.final_observations[b, i, k] = battles.observations[b, i, k]
        for k in range(battles.action_mask.shape[2]):
            battles.final_action_mask[b, i, k] = battles.action_mask[b, i, k]
    for k in range(battles.state.shape[1]):
        battles.final_state[b, k] = battles.state[b, k]
    for row in range(units.shape[0]):
        for k in range(units.shape[1]):
            battles.final_units[b, row, k] = units[row, k]


@kernel(allocates=False)
def step_battles(
    constants: BattleConstants,
    work: Workspace,
    battles: BattleArrays,
    seed: np.uint64,
    actions: NDArray[np.int64],
    running: NDArray[np.bool_],
    first_battle: int,
) -> None:
    """One env step of every running battle; a battle that ends is followed at once by the next of its column.

    With first_battle >= 0 battle first_battle + b starts in every column b instead, whatever was played there.
    """
    tables, terrain, rules = constants.tables, constants.terrain, constants.rules
    initial_units = constants.initial_units
    health_before, shield_before = work.floats[HEALTH_BEFORE], work.floats[SHIELD_BEFORE]
    num_battles, num_agents = actions.shape
    for b in range(num_battles):
        clear_outcome(battles, b)
        units = battles.units[b]
        flags = battles.flags[b]
        starts = first_battle >= 0
        # Two rounds in one loop, the step and the start of the next battle, so that the code is compiled only once.
        for is_opening in (False, True):
            if is_opening:
                if not starts:
                    continue
                number = first_battle + b if first_battle >= 0 else battles.battle_number[b] + num_battles
                battles.battle_number[b] = number
                battles.steps[b] = 0
                battles.loop[b] = 0
                for i in range(num_agents):
                    battles.last_actions[b, i] = -1
                for u in range(units.shape[1]):
                    battles.dead[b, u] = False
                create_units(initial_units, tables, terrain, units, flags, battle_key(seed, number))
                loops = initial_units.num_loops
            else:
                if starts or not running[b]:
                    continue
                give_orders(tables, units, flags, actions[b], constants.move_amount)
                for i in range(num_agents):
                    battles.last_actions[b, i] = actions[b, i]
                for u in range(units.shape[1]):
                    health_before[u] = units[HEALTH, u]
                    shield_before[u] = units[SHIELD, u]
                battles.steps[b] += 1
                loops = constants.loops_per_step
            key = battle_key(seed, battles.battle_number[b])
            run_game_loops(tables, terrain, units, flags, work, key, battles.loop[b], loops)
            battles.loop[b] += loops
            observe(rules, battles, b, units)
            if not is_opening:
                starts = store_outcome(rules, battles, b, health_before, shield_before)
                if starts:
                    store_final_state(battles, b, units)
