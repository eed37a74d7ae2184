"""Bringing what is seen of battles up to date after their arrays were changed from outside of a step.

Shapes: B battles, N agents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.engine.battle_step import BattleArrays
from dm2_ray.world.smac.rules import update_views
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y


def observe_again(rules: RulesTables, battles: BattleArrays, which: NDArray[np.bool_]) -> None:
    """Observations, masks and states of the battles under way that are marked in `which` [B]."""
    battles.alive[which] = battles.units[which, HEALTH, : rules.num_agents] > 0.0
    now = battles.action_mask, battles.observations, battles.state
    _perceive(rules, battles.units, battles.last_actions, battles.steps, which, *now)


def observe_final(
    rules: RulesTables,
    battles: BattleArrays,
    which: NDArray[np.bool_],
    last_actions: NDArray[np.int64],
    steps: NDArray[np.int64],
) -> None:
    """The same of battles that ended in the last step: after `last_actions` [B, N], `steps` [B] env steps long."""
    final = battles.final_action_mask, battles.final_observations, battles.final_state
    _perceive(rules, battles.final_units, last_actions, steps, which, *final)


def _perceive(
    rules: RulesTables,
    units: NDArray[np.float64],
    last_actions: NDArray[np.int64],
    steps: NDArray[np.int64],
    which: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    observations: NDArray[np.float32],
    state: NDArray[np.float32],
) -> None:
    x, y, health = (np.ascontiguousarray(units[:, row]) for row in (X, Y, HEALTH))
    shield, energy, cooldown = (np.ascontiguousarray(units[:, row]) for row in (SHIELD, ENERGY, COOLDOWN))
    update_views(rules, x, y, health, shield, energy, cooldown, last_actions, steps, which, mask, observations, state)
