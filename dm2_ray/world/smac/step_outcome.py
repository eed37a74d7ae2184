"""Reward of one env step and whether it ended the battle, by SMAC's rules: `StarCraft2Env.reward_battle`,
`update_units` and the end of `StarCraft2Env.step` in oxwhirl/smac.

Shapes: N agents, M enemies, U = N + M units (agents first).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dm2_ray.arrays import Bools, Float64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.smac.rules_tables import RulesTables


class StepOutcome(NamedTuple):
    """Result of one step.

    Attributes:
        terminated: The battle was decided, or cut by the time limit without continuing_episode.
        truncated: Cut by the time limit with continuing_episode (SMAC: terminated, with `episode_limit` in its info).
        timed_out: Cut by the time limit, either way.
    """

    reward: float
    terminated: bool
    truncated: bool
    timed_out: bool
    won: bool
    dead_allies: int
    dead_enemies: int


@kernel(allocates=False)
def to_float32(value: float) -> float:
    """The number rounded to 32 bits, as the game's API sends it."""
    return np.float64(np.float32(value))


@kernel(allocates=False)
def _lost_hit_points(before_health: float, before_shield: float, health: float, shield: float) -> float:
    """Health and shield that one unit lost in a step; the other numbers of a dead unit do not count."""
    before = to_float32(before_health) + to_float32(before_shield)
    now = to_float32(health)
    return before - now - to_float32(shield) if now > 0.0 else before


@kernel(allocates=False)
def compute_outcome(
    tables: RulesTables,
    previous_health: Float64s,
    previous_shield: Float64s,
    health: Float64s,
    shield: Float64s,
    dead: Bools,
    t: int,
) -> StepOutcome:
    """Reward and outcome of the step that led from `previous_*` to the current health and shields.

    The reward is that of `StarCraft2Env.reward_battle` (damage dealt to enemies plus `death_value` per killed enemy
    and, without reward_only_positive, minus `negative_scale` times the same for the agents' losses) plus the bonus for
    the battle's end, divided by `reward_divisor`.

    Args:
        dead: [U] units that had died before this step; updated here (all False at a battle's start).
        t: Steps of the battle, this one included.
    """
    num_agents, num_units = tables.num_agents, tables.num_agents + tables.num_enemies
    lost_by_allies, lost_by_enemies, deaths = 0.0, 0.0, 0.0
    allies, enemies, fighting_allies, enemy_medivacs = 0, 0, 0, 0
    for u in range(num_units):
        is_alive = to_float32(health[u]) > 0.0
        if u < num_agents:
            allies += is_alive
            fighting_allies += is_alive and not tables.is_medivac[u]
        else:
            enemies += is_alive
            enemy_medivacs += is_alive and tables.is_medivac[u]
        if dead[u]:
            continue
        lost = _lost_hit_points(previous_health[u], previous_shield[u], health[u], shield[u])
        dead[u] = not is_alive
        if u < num_agents:
            lost_by_allies += tables.negative_scale * lost
            if not is_alive and not tables.reward_only_positive:
                deaths -= tables.death_value * tables.negative_scale
        else:
            lost_by_enemies += lost
            if not is_alive:
                deaths += tables.death_value

    if tables.reward_sparse:
        reward = 0.0
    elif tables.reward_only_positive:
        # Quirk: the absolute value turns net regeneration of the enemies' shields and health into positive reward.
        reward = abs(lost_by_enemies + deaths)
    else:
        reward = lost_by_enemies + deaths - lost_by_allies

    # Quirk: on MMM maps a side that has only medivacs left is beaten (SMAC tests for exactly one enemy medivac, but the
    # enemy has no more), and the agents' defeat is tested first, so that two sides wiped out at once are a defeat there
    # and a draw elsewhere, with neither bonus nor victory.
    lost_battle = (allies == 0 and enemies > 0) or (tables.is_mmm and fighting_allies == 0)
    won = not lost_battle and ((allies > 0 and enemies == 0) or (tables.is_mmm and enemies == enemy_medivacs))
    decided = lost_battle or won or (allies == 0 and enemies == 0)
    timed_out = not decided and t >= tables.episode_limit
    if won:
        reward = 1.0 if tables.reward_sparse else reward + tables.win_reward
    elif lost_battle:
        reward = -1.0 if tables.reward_sparse else reward + tables.defeat_reward
    # Quirk: sparse rewards are scaled as well.
    reward /= tables.reward_divisor

    truncated = timed_out and tables.continuing_episode
    return StepOutcome(
        reward,
        decided or (timed_out and not truncated),
        truncated,
        timed_out,
        won,
        num_agents - allies,
        tables.num_enemies - enemies,
    )
