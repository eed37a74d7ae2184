"""SMAC's rules on units that come from outside the engine, battle by battle.

The arrays are those of the embedded battles, the kernels are theirs too; only the units were moved by somebody else,
and every battle may have tables of its own.

Shapes: B battles, U units, agents first; `battles` holds the arrays of all B, `b` is the one meant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.engine.battle_step import BattleArrays
from dm2_ray.world.smac.rules import NO_ACTION, settle, update_views
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y


def write_initial_views(battles: BattleArrays, b: int, rules: RulesTables) -> None:
    """Battle b has just begun: bring what its agents see up to date with its units."""
    battles.steps[b] = 0
    battles.last_actions[b] = NO_ACTION
    battles.dead[b] = False
    _perceive(battles, b, rules)


def show_step(battles: BattleArrays, b: int, rules: RulesTables, before: NDArray[np.float64]) -> bool:
    """Reward, outcome and view of the step that led to battle b's units; True if it ended the battle.

    Args:
        before: [2, U] health and shield before the step.
    """
    battles.steps[b] += 1
    units = battles.units[b]
    t = int(battles.steps[b])
    outcome = settle(rules, before[0], before[1], units[HEALTH], units[SHIELD], battles.dead[b], t)
    battles.rewards[b] = outcome.reward
    battles.terminated[b] = outcome.terminated
    battles.truncated[b] = outcome.truncated
    battles.timed_out[b] = outcome.timed_out
    battles.battle_won[b] = outcome.won
    battles.dead_allies[b] = outcome.dead_allies
    battles.dead_enemies[b] = outcome.dead_enemies
    _perceive(battles, b, rules)
    if not (outcome.terminated or outcome.truncated):
        return False
    battles.final_observations[b] = battles.observations[b]
    battles.final_action_mask[b] = battles.action_mask[b]
    battles.final_state[b] = battles.state[b]
    battles.final_units[b] = units
    return True


def clear_outcomes(battles: BattleArrays) -> None:
    """Nothing has been earned and nothing has ended, in any battle."""
    battles.rewards[:] = 0.0
    for flags in (battles.terminated, battles.truncated, battles.timed_out, battles.battle_won):
        flags[:] = False
    for counts in (battles.dead_allies, battles.dead_enemies):
        counts[:] = 0


def _perceive(battles: BattleArrays, b: int, rules: RulesTables) -> None:
    one = slice(b, b + 1)
    units = battles.units[b]
    update_views(
        rules,
        units[X : X + 1],
        units[Y : Y + 1],
        units[HEALTH : HEALTH + 1],
        units[SHIELD : SHIELD + 1],
        units[ENERGY : ENERGY + 1],
        units[COOLDOWN : COOLDOWN + 1],
        battles.last_actions[one],
        battles.steps[one],
        np.ones(1, np.bool_),
        battles.action_mask[one],
        battles.observations[one],
        battles.state[one],
    )
    battles.alive[b] = units[HEALTH, : rules.num_agents] > 0.0
