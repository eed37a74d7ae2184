"""Observations, masks and states of battles whose arrays were changed outside of a step.

Shapes: B battles, N agents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.engine.battle_step import BattleArrays
from dm2_ray.world.smac.rules import update_views
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.units.state import HEALTH


def observe_again(rules: RulesTables, battles: BattleArrays, selected: NDArray[np.bool_]) -> None:
    """Recompute the current observations, masks and states of the battles where `selected` [B] is True."""
    battles.alive[selected] = battles.units[selected, HEALTH, : rules.num_agents] > 0.0
    views = battles.action_mask, battles.observations, battles.state
    update_views(rules, battles.units, battles.last_actions, battles.steps, selected, *views)


def observe_final(
    rules: RulesTables,
    battles: BattleArrays,
    selected: NDArray[np.bool_],
    last_actions: NDArray[np.int64],
    steps: NDArray[np.int64],
) -> None:
    """The same for the final arrays of battles that ended in the last step.

    Args:
        rules: Tables of the map.
        battles: The battles' arrays.
        selected: [B] the battles that ended.
        last_actions: [B, N] their last joint actions.
        steps: [B] their numbers of env steps.
    """
    views = battles.final_action_mask, battles.final_observations, battles.final_state
    update_views(rules, battles.final_units, last_actions, steps, selected, *views)
