"""SMAC's rules for units that the game has moved, battle by battle, with the kernels of the embedded battles.

Shapes: B battles, U units, agents first; `battles` holds the arrays of all B battles, `b` is the index of one. Every
battle may have its own tables.
"""

from __future__ import annotations

from dm2_ray.arrays import Float64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.engine.battle_step import BattleArrays, clear_outcome, observe, store_final_state, store_outcome
from dm2_ray.world.smac.rules import NO_ACTION
from dm2_ray.world.smac.rules_tables import RulesTables


@kernel(allocates=False)
def write_initial_views(battles: BattleArrays, b: int, rules: RulesTables) -> None:
    """Battle b has just begun: compute what its agents see from its units."""
    battles.steps[b] = 0
    for i in range(rules.num_agents):
        battles.last_actions[b, i] = NO_ACTION
    for u in range(battles.dead.shape[1]):
        battles.dead[b, u] = False
    observe(rules, battles, b, battles.units[b])


@kernel(allocates=False)
def write_step_views(
    battles: BattleArrays, b: int, rules: RulesTables, health_before: Float64s, shield_before: Float64s
) -> bool:
    """Compute reward, outcome and views of the step that led to battle b's units; returns whether it ended the battle.

    Args:
        battles: The arrays of all battles.
        b: Index of the battle.
        rules: The battle's tables.
        health_before: [U] at the start of the step.
        shield_before: [U] at the start of the step.
    """
    battles.steps[b] += 1
    observe(rules, battles, b, battles.units[b])
    ended = store_outcome(rules, battles, b, health_before, shield_before)
    if ended:
        store_final_state(battles, b, battles.units[b])
    return ended


@kernel(allocates=False)
def clear_outcomes(battles: BattleArrays) -> None:
    """Reset rewards and outcomes of all battles."""
    for b in range(battles.rewards.shape[0]):
        clear_outcome(battles, b)
