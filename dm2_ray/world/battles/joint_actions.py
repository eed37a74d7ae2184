"""Validation of joint actions before the step is played.

Shapes: B battles, N agents, A actions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.engine.battle_step import BattleArrays, find_unavailable


def check_actions(
    battles: BattleArrays, actions: ArrayLike, running: ArrayLike | None, *, any_in_range: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Joint actions [B, N] and which battles run [B], as arrays.

    Args:
        battles: The battles' arrays.
        actions: The joint actions given to a step.
        running: The battles given to a step; None means all battles.
        any_in_range: Actions need not be available, only be in range.

    Raises:
        TypeError: Actions are not integers.
        ValueError: Wrong shapes, or an action that is not available; the message names battle and agent.
    """
    num_battles, num_agents, num_actions = battles.action_mask.shape
    given = np.asarray(actions)
    if given.dtype.kind not in "iu":
        raise TypeError(f"actions have dtype {given.dtype}; expected integers")
    if given.shape != (num_battles, num_agents):
        raise ValueError(
            f"actions have shape {given.shape}; expected (num_battles, num_agents) = {(num_battles, num_agents)}"
        )
    joint_actions = np.ascontiguousarray(given, dtype=np.int64)
    mask = np.ones(num_battles, np.bool_) if running is None else np.ascontiguousarray(running, dtype=np.bool_)
    if mask.shape != (num_battles,):
        raise ValueError(f"running has shape {mask.shape}; expected (num_battles,) = {(num_battles,)}")
    allowed = np.ones_like(battles.action_mask) if any_in_range else battles.action_mask
    first = find_unavailable(joint_actions, allowed, mask)
    if first >= 0:
        b, agent = divmod(first, num_agents)
        where = f"column {b} (battle {battles.battle_number[b]}), agent {agent}"
        if any_in_range:
            raise ValueError(f"{where}: action {joint_actions[b, agent]} is not in 0..{num_actions - 1}")
        available = np.flatnonzero(allowed[b, agent]).tolist()
        raise ValueError(f"{where}: action {joint_actions[b, agent]} is not available; available: {available}")
    return joint_actions, mask
