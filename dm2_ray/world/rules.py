"""The rules of the StarCraft Multi-Agent Challenge, bit for bit: what agents see and may do, what they earn, when a
battle ends (Samvelyan et al., 2019, arXiv:1902.04043; oxwhirl/smac's StarCraft2Env).

Shapes: N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.

All kernels work on ONE battle. Unit columns are [U] float64: x, y, health, shield, energy, cooldown (game loops left);
health 0 is dead and a dead unit's other columns are not looked at. SMAC sees 32-bit numbers from the game, computes in
64 bits and stores in 32 bits; hence every input is rounded to float32 first and every output rounded once.
`last_actions` [N] int64 holds the joint action of the last step, -1 before a battle's first step. `t` counts the
battle's steps so far. Each kernel is to be called with one set of types only: C-contiguous rows, float32 outputs, bool
masks.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.rules_tables import RulesTables, build_tables, max_reward
from dm2_ray.world.switches import SmacSwitches

__all__ = [
    "RulesTables",
    "Settlement",
    "SmacSwitches",
    "available_actions",
    "build_tables",
    "global_state",
    "max_reward",
    "observe",
    "settle",
    "visibility",
]

SIGHT_RANGE = 9.0
"""Of every unit, whatever its kind; centre to centre."""
SHOOT_RANGE = 6.0
"""Within which an attack may be ordered, whatever the weapon's range; centre to centre."""
NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_TARGET = 0, 1, 2, 3, 4, 5, 6
NO_ACTION = -1
"""In `last_actions`: nothing has been done yet."""

Column = NDArray[np.float64]


class Settlement(NamedTuple):
    """What one step led to."""

    reward: float
    terminated: bool
    """The battle was decided, or cut by the time limit without continuing_episode."""
    truncated: bool
    """Cut by the time limit with continuing_episode (SMAC: terminated, with `episode_limit` in its info)."""
    timed_out: bool
    """Cut by the time limit, either way."""
    won: bool
    dead_allies: int
    dead_enemies: int


@kernel
def _as_seen(value: float) -> float:
    """The number as the game's API would send it."""
    return np.float64(np.float32(value))


@kernel
def _is_walkable(tables: RulesTables, cell_x: int, cell_y: int) -> bool:
    inside = 0 <= cell_x < tables.walkable.shape[0] and 0 <= cell_y < tables.walkable.shape[1]
    return inside and tables.walkable[cell_x, cell_y]


@kernel
def available_actions(
    tables: RulesTables, x: Column, y: Column, health: Column, out_mask: NDArray[np.bool_]
) -> None:
    """Fill `out_mask` [N, A]: which actions each agent may take."""
    num_agents, probe = tables.num_agents, tables.move_probe
    out_mask[:, :] = False
    for i in range(num_agents):
        if not _as_seen(health[i]) > 0.0:
            out_mask[i, NO_OP] = True
            continue
        own_x, own_y = _as_seen(x[i]), _as_seen(y[i])
        out_mask[i, STOP] = True
        # Quirk: cells are found by truncation towards zero, so that x - probe in (-1, 0) still counts as cell 0.
        out_mask[i, NORTH] = _is_walkable(tables, int(own_x), int(own_y + probe))
        out_mask[i, SOUTH] = _is_walkable(tables, int(own_x), int(own_y - probe))
        out_mask[i, EAST] = _is_walkable(tables, int(own_x + probe), int(own_y))
        out_mask[i, WEST] = _is_walkable(tables, int(own_x - probe), int(own_y))
        # Quirk: a medivac's targets are agents, yet they share the columns of the enemies with the same numbers; it may
        # heal whoever is unhurt, and nothing asks whether a weapon can hit its target at all.
        heals = tables.is_medivac[i]
        first = 0 if heals else num_agents
        count = num_agents if heals else tables.num_enemies
        for j in range(count):
            u = first + j
            if not _as_seen(health[u]) > 0.0 or (heals and tables.is_medivac[u]):
                continue
            dx, dy = _as_seen(x[u]) - own_x, _as_seen(y[u]) - own_y
            out_mask[i, FIRST_TARGET + j] = sqrt(dx * dx + dy * dy) <= SHOOT_RANGE


@kernel
def _observe_ground(tables: RulesTables, cell_x: int, cell_y: int, obs: NDArray[np.float32]) -> None:
    """Append the ring's pathing and heights to the four move bits of one observation [O]."""
    step = tables.ring_step
    size_x, size_y = tables.walkable.shape
    at = 4
    for heights in range(2):
        if not (tables.obs_terrain_height if heights else tables.obs_pathing_grid):
            continue
        for k in range(8 + heights):
            rx, ry = cell_x, cell_y
            if k == 0:
                ry += 2 * step
            elif k == 1:
                ry -= 2 * step
            elif k == 2:
                rx += 2 * step
            elif k == 3:
                rx -= 2 * step
            elif k < 8:
                rx += step if k == 4 or k == 6 else -step
                ry += step if k == 4 or k == 7 else -step
            # Quirk: outside the map the ground counts as walkable, and as of the greatest height.
            value = 1.0
            if 0 <= rx < size_x and 0 <= ry < size_y:
                value = tables.terrain[rx, ry] if heights else (1.0 if tables.walkable[rx, ry] else 0.0)
            obs[at] = value
            at += 1


@kernel
def observe(
    tables: RulesTables,
    x: Column,
    y: Column,
    health: Column,
    shield: Column,
    last_actions: NDArray[np.int64],
    t: int,
    mask: NDArray[np.bool_],
    out_obs: NDArray[np.float32],
) -> None:
    """Fill `out_obs` [N, O]; `mask` [N, A] is what `available_actions` gave for the same columns.

    A dead agent observes zeros. Nobody observes its own position, energy or cooldown.
    """
    num_agents, bits = tables.num_agents, tables.unit_type_bits
    out_obs[:, :] = 0.0

    for i in range(num_agents):
        seen_health = _as_seen(health[i])
        if seen_health > 0.0:
            for move in range(4):
                out_obs[i, move] = 1.0 if mask[i, NORTH + move] else 0.0
            if tables.obs_pathing_grid or tables.obs_terrain_height:
                _observe_ground(tables, int(_as_seen(x[i])), int(_as_seen(y[i])), out_obs[i])
            at = tables.own_at
            if tables.obs_own_health:
                out_obs[i, at] = seen_health / tables.health_max[i]
                at += 1
                if tables.ally_shields:
                    out_obs[i, at] = _as_seen(shield[i]) / tables.shield_max[i]
                    at += 1
            if bits > 0:
                out_obs[i, at + tables.type_index[i]] = 1.0
        if tables.obs_timestep_number:
            # Quirk: the dead are told the time too.
            out_obs[i, tables.obs_size - 1] = t / tables.episode_limit

    for u in range(num_agents + tables.num_enemies):
        seen_health = _as_seen(health[u])
        if not seen_health > 0.0:
            continue
        is_enemy = u >= num_agents
        shows_shield = tables.enemy_shields if is_enemy else tables.ally_shields
        health_ratio = seen_health / tables.health_max[u]
        shield_ratio = _as_seen(shield[u]) / tables.shield_max[u] if shows_shield else 0.0
        unit_x, unit_y = _as_seen(x[u]), _as_seen(y[u])
        type_index = tables.type_index[u]
        for i in range(num_agents):
            if i == u or not _as_seen(health[i]) > 0.0:
                continue
            dx, dy = unit_x - _as_seen(x[i]), unit_y - _as_seen(y[i])
            distance = sqrt(dx * dx + dy * dy)
            if not distance < SIGHT_RANGE:
                continue
            if is_enemy:
                j = u - num_agents
                at = tables.enemies_at + j * tables.enemy_width
                # Quirk: for a medivac this column of the mask tells whether AGENT j can be healed.
                out_obs[i, at] = 1.0 if mask[i, FIRST_TARGET + j] else 0.0
            else:
                at = tables.allies_at + (u if u < i else u - 1) * tables.ally_width
                out_obs[i, at] = 1.0
            out_obs[i, at + 1] = distance / SIGHT_RANGE
            out_obs[i, at + 2] = dx / SIGHT_RANGE
            out_obs[i, at + 3] = dy / SIGHT_RANGE
            at += 4
            if tables.obs_all_health:
                out_obs[i, at] = health_ratio
                at += 1
                if shows_shield:
                    out_obs[i, at] = shield_ratio
                    at += 1
            if bits > 0:
                out_obs[i, at + type_index] = 1.0
                at += bits
            if tables.obs_last_action and not is_enemy and last_actions[u] >= 0:
                out_obs[i, at + last_actions[u]] = 1.0


@kernel
def global_state(
    tables: RulesTables,
    x: Column,
    y: Column,
    health: Column,
    shield: Column,
    energy: Column,
    cooldown: Column,
    last_actions: NDArray[np.int64],
    t: int,
    obs: NDArray[np.float32],
    out_state: NDArray[np.float32],
) -> None:
    """Fill `out_state` [S]; `obs` [N, O] is what `observe` gave for the same columns (for obs_instead_of_state)."""
    num_agents, bits = tables.num_agents, tables.unit_type_bits
    if tables.obs_instead_of_state:
        for i in range(num_agents):
            for k in range(tables.obs_size):
                out_state[i * tables.obs_size + k] = obs[i, k]
        return
    out_state[:] = 0.0
    at = 0
    for u in range(num_agents + tables.num_enemies):
        is_enemy = u >= num_agents
        width = tables.enemy_state_width if is_enemy else tables.ally_state_width
        seen_health = _as_seen(health[u])
        if seen_health > 0.0:
            out_state[at] = seen_health / tables.health_max[u]
            k = at + 1
            if not is_enemy:
                charge = energy[u] if tables.shows_energy[u] else cooldown[u]
                out_state[k] = _as_seen(charge) / tables.cooldown_max[u]
                k += 1
            out_state[k] = (_as_seen(x[u]) - tables.center_x) / tables.extent_x
            out_state[k + 1] = (_as_seen(y[u]) - tables.center_y) / tables.extent_y
            if tables.enemy_shields if is_enemy else tables.ally_shields:
                out_state[k + 2] = _as_seen(shield[u]) / tables.shield_max[u]
            if bits > 0:
                out_state[at + width - bits + tables.type_index[u]] = 1.0
        at += width
    if tables.state_last_action:
        for i in range(num_agents):
            if last_actions[i] >= 0:
                out_state[at + i * tables.num_actions + last_actions[i]] = 1.0
        at += num_agents * tables.num_actions
    if tables.state_timestep_number:
        out_state[at] = t / tables.episode_limit


@kernel
def visibility(tables: RulesTables, x: Column, y: Column, health: Column, out_visible: NDArray[np.bool_]) -> None:
    """Fill `out_visible` [N, U]: which living units each living agent sees; nobody sees itself."""
    out_visible[:, :] = False
    for i in range(tables.num_agents):
        if not _as_seen(health[i]) > 0.0:
            continue
        for u in range(tables.num_agents + tables.num_enemies):
            if u != i and _as_seen(health[u]) > 0.0:
                dx, dy = _as_seen(x[u]) - _as_seen(x[i]), _as_seen(y[u]) - _as_seen(y[i])
                out_visible[i, u] = sqrt(dx * dx + dy * dy) < SIGHT_RANGE


@kernel
def _lost_hit_points(before_health: float, before_shield: float, health: float, shield: float) -> float:
    """Health and shield that one unit lost in a step; what a dead unit's other columns hold does not count."""
    before = _as_seen(before_health) + _as_seen(before_shield)
    now = _as_seen(health)
    return before - now - _as_seen(shield) if now > 0.0 else before


@kernel
def settle(
    tables: RulesTables,
    previous_health: Column,
    previous_shield: Column,
    health: Column,
    shield: Column,
    dead: NDArray[np.bool_],
    t: int,
) -> Settlement:
    """Reward and outcome of the step that led from `previous_*` to the present columns, `t` counting that step.

    Args:
        dead: [U] who had died before this step; brought up to date here (all False at a battle's start).
    """
    num_agents, num_units = tables.num_agents, tables.num_agents + tables.num_enemies
    lost_by_allies, lost_by_enemies, deaths = 0.0, 0.0, 0.0
    allies, enemies, fighting_allies, enemy_medivacs = 0, 0, 0, 0
    for u in range(num_units):
        is_alive = _as_seen(health[u]) > 0.0
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

    # Quirk: on MMM maps a side that has only medivacs left is beaten, and the agents' defeat is looked at first, so that
    # two sides wiped out at once are a defeat there and a draw (neither bonus nor victory) elsewhere. The enemy is
    # beaten in this way only when exactly one medivac is left.
    lost_battle = (allies == 0 and enemies > 0) or (tables.is_mmm and fighting_allies == 0)
    won = not lost_battle and (
        (allies > 0 and enemies == 0) or (tables.is_mmm and enemies == 1 and enemy_medivacs == 1)
    )
    decided = lost_battle or won or (allies == 0 and enemies == 0)
    timed_out = not decided and t >= tables.episode_limit
    if won:
        reward = 1.0 if tables.reward_sparse else reward + tables.win_reward
    elif lost_battle:
        reward = -1.0 if tables.reward_sparse else reward + tables.defeat_reward
    # Quirk: sparse rewards are scaled as well.
    reward /= tables.reward_divisor

    truncated = timed_out and tables.continuing_episode
    return Settlement(
        reward,
        decided or (timed_out and not truncated),
        truncated,
        timed_out,
        won,
        num_agents - allies,
        tables.num_enemies - enemies,
    )
