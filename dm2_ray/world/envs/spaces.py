"""gymnasium spaces of single agents and of the team as one player, and the arrays in them.

Shapes: B battles, N agents, A actions, O observation size, S state size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.smac.rules import NO_OP, STOP
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.unit_kinds import unit_kind

_SEED_RANGE = 2**63


def agent_observation(battles: BattleVector) -> spaces.Dict:
    """One agent's observation [O] and the mask [A] of its available actions."""
    return spaces.Dict(
        {
            "observation": spaces.Box(-1.0, 1.0, (battles.obs_size,), np.float32),
            "action_mask": spaces.Box(0, 1, (battles.num_actions,), np.int8),
        }
    )


def team_observation(battles: BattleVector) -> spaces.Dict:
    """All agents' observations [N, O] and masks [N, A], and the state [S]."""
    return spaces.Dict(
        {
            "observation": spaces.Box(-1.0, 1.0, (battles.num_agents, battles.obs_size), np.float32),
            "action_mask": spaces.MultiBinary([battles.num_agents, battles.num_actions]),
            "state": state(battles),
        }
    )


def team_action(battles: BattleVector) -> spaces.MultiDiscrete:
    """One action for each agent [N]."""
    return spaces.MultiDiscrete([battles.num_actions] * battles.num_agents)


def state(battles: BattleVector) -> spaces.Box:
    """The global state [S].

    Only weapon cooldowns exceed 1: SMAC divides them by fixed numbers, and the real periods of some weapons are longer.
    """
    tables = build_tables(battles.map_spec, battles.options, balance=battles.engine_settings.balance)
    highest = 1.0
    if not tables.obs_instead_of_state:
        for kind_name, greatest in zip(battles.map_spec.ally_kinds, tables.cooldown_max.tolist(), strict=True):
            weapon = unit_kind(kind_name, battles.engine_settings.balance).weapon
            if weapon is not None:
                longest = weapon.period_loops + weapon.period_jitter_loops[1]
                highest = max(highest, math.ceil(longest / greatest))
    return spaces.Box(-1.0, highest, (battles.state_size,), np.float32)


def team_arrays(battles: BattleVector, is_final: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of `team_observation` for B battles, or the last ones of those that ended in the last step."""
    obs, mask, state = (
        (battles.final_observations, battles.final_action_mask, battles.final_state)
        if is_final
        else (battles.observations, battles.action_mask, battles.state)
    )
    return {"observation": obs.copy(), "action_mask": mask.astype(np.int8), "state": state.copy()}


def ensure_available(battles: BattleVector, actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Joint actions [B, N] in which stop (no-op for the dead) replaces unavailable actions, and how many were replaced
    in each battle [B]. With heuristic_ai every action of the action space is accepted.

    Raises:
        TypeError, ValueError: Actions are not integers, of another shape, or outside the action space.
    """
    if actions.dtype.kind not in "iu":
        raise TypeError(f"actions have dtype {actions.dtype}; expected integers")
    shape = (battles.num_battles, battles.num_agents)
    if actions.shape != shape:
        raise ValueError(f"actions have shape {actions.shape}; expected {shape}: one for each agent of each battle")
    if actions.min() < 0 or actions.max() >= battles.num_actions:
        raise ValueError(f"actions lie in {actions.min()}..{actions.max()}; expected 0..{battles.num_actions - 1}")
    joint = actions.astype(np.int64)
    if battles.options.heuristic_ai:
        return joint, np.zeros(battles.num_battles, np.int64)
    available = np.take_along_axis(battles.action_mask, joint[..., np.newaxis], axis=2)[..., 0]
    joint = np.where(available, joint, np.where(battles.alive, STOP, NO_OP))
    return joint, np.count_nonzero(~available, axis=1)


def outcome(battles: BattleVector, unavailable: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What infos say about the last step, each [B]."""
    return {
        "battle_won": battles.battle_won.copy(),
        "dead_allies": battles.dead_allies.copy(),
        "dead_enemies": battles.dead_enemies.copy(),
        "unavailable_actions": unavailable,
    }


def sample_seed(generator: np.random.Generator) -> int:
    """A seed for battles."""
    return int(generator.integers(_SEED_RANGE))
