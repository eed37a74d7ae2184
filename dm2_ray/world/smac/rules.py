"""SMAC's observations, states and available actions, bit for bit (Samvelyan et al., 2019, arXiv:1902.04043;
oxwhirl/smac's StarCraft2Env). Rewards and ends of battles are in `step_outcome`.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size; F
rows of `units` (see units.state), of which the first six are read: x, y, health, shield, energy, cooldown.

Kernels work on one battle unless they say otherwise. Health 0 means dead; the other numbers of a dead unit are not
read. SMAC receives 32-bit numbers from the game, computes in 64 bits and stores in 32 bits; hence every input is
rounded to float32 first and every output rounded once. `last_actions` [N] int64 holds the joint action of the last
step, -1 before a battle's first step. `t` counts the battle's steps so far. Each kernel must be called with one set of
types only: C-contiguous arrays, float32 outputs, bool masks.
"""

from __future__ import annotations

from math import sqrt

from dm2_ray.arrays import Bools, Float32s, Float64s, Int64s
from dm2_ray.world.compile_cache import kernel
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.smac.step_outcome import to_float32
from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, SHIELD, Units, X, Y

SIGHT_RANGE = 9.0
"""Sight range of every unit of any kind; center to center."""
SHOOT_RANGE = 6.0
"""Distance within which an attack may be ordered, whatever the weapon's range; center to center."""
NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_TARGET = 0, 1, 2, 3, 4, 5, 6
NO_ACTION = -1
"""In `last_actions`: no action has been taken yet."""


@kernel(inline=True, allocates=False)
def available_actions(tables: RulesTables, units: Units, out_mask: Bools) -> None:
    """Fill `out_mask` [N, A]: which actions each agent may take in the battle of `units` [F, U]."""
    x, y, health = units[X], units[Y], units[HEALTH]
    num_agents, probe, walkable = tables.num_agents, tables.move_probe, tables.walkable
    size_x, size_y = walkable.shape
    out_mask[:, :] = False
    for i in range(num_agents):
        if not to_float32(health[i]) > 0.0:
            out_mask[i, NO_OP] = True
            continue
        own_x, own_y = to_float32(x[i]), to_float32(y[i])
        out_mask[i, STOP] = True
        for move in range(NORTH, WEST + 1):
            # Quirk: cells are found by truncation toward zero, so that x - probe in (-1, 0) still counts as cell 0.
            cell_x = int(own_x + (probe if move == EAST else -probe if move == WEST else 0.0))
            cell_y = int(own_y + (probe if move == NORTH else -probe if move == SOUTH else 0.0))
            inside = 0 <= cell_x < size_x and 0 <= cell_y < size_y
            out_mask[i, move] = inside and walkable[cell_x, cell_y]
        # Quirk: a medivac's targets are agents, yet they use the mask's columns of the enemies with the same numbers.
        # It may heal unhurt agents, and SMAC does not check whether a weapon can hit its target at all.
        heals = tables.is_medivac[i]
        first = 0 if heals else num_agents
        count = num_agents if heals else tables.num_enemies
        for j in range(count):
            u = first + j
            if not to_float32(health[u]) > 0.0 or (heals and tables.is_medivac[u]):
                continue
            dx, dy = to_float32(x[u]) - own_x, to_float32(y[u]) - own_y
            # In float64 this is sqrt(dx * dx + dy * dy) <= SHOOT_RANGE in every case: the root of the next number above
            # 36 rounds up. (The same would not hold for 81 and the sight range.)
            out_mask[i, FIRST_TARGET + j] = dx * dx + dy * dy <= SHOOT_RANGE * SHOOT_RANGE


@kernel(inline=True, allocates=False)
def _observe_ground(tables: RulesTables, cell_x: int, cell_y: int, i: int, out_obs: Float32s) -> None:
    """Write the surrounding pathing and heights after agent i's four move bits."""
    size_x, size_y = tables.walkable.shape
    at = 4
    # Quirk: outside the map the ground counts as walkable and has the maximum height.
    if tables.obs_pathing_grid:
        for k in range(8):
            ring_x, ring_y = cell_x + tables.ring[k, 0], cell_y + tables.ring[k, 1]
            inside = 0 <= ring_x < size_x and 0 <= ring_y < size_y
            out_obs[i, at + k] = 0.0 if inside and not tables.walkable[ring_x, ring_y] else 1.0
        at += 8
    if tables.obs_terrain_height:
        for k in range(9):
            ring_x, ring_y = cell_x + tables.ring[k, 0], cell_y + tables.ring[k, 1]
            inside = 0 <= ring_x < size_x and 0 <= ring_y < size_y
            out_obs[i, at + k] = tables.terrain[ring_x, ring_y] if inside else 1.0


@kernel(inline=True, allocates=False)
def _shield_ratio(tables: RulesTables, shield: Float64s, u: int) -> float:
    """Fraction of unit u's shield that is left; 0 for kinds without shields, which a side of several races may have."""
    return to_float32(shield[u]) / tables.shield_max[u] if tables.shield_max[u] > 0.0 else 0.0


@kernel(inline=True, allocates=False)
def observe(tables: RulesTables, units: Units, last_actions: Int64s, t: int, mask: Bools, out_obs: Float32s) -> None:
    """Fill `out_obs` [N, O]; `mask` [N, A] is the result of `available_actions` for the same units.

    A dead agent observes zeros. No agent observes its own position, energy or cooldown.
    """
    x, y, health, shield = units[X], units[Y], units[HEALTH], units[SHIELD]
    num_agents, bits = tables.num_agents, tables.unit_type_bits
    out_obs[:, :] = 0.0

    for i in range(num_agents):
        seen_health = to_float32(health[i])
        if seen_health > 0.0:
            for move in range(4):
                out_obs[i, move] = 1.0 if mask[i, NORTH + move] else 0.0
            if tables.obs_pathing_grid or tables.obs_terrain_height:
                _observe_ground(tables, int(to_float32(x[i])), int(to_float32(y[i])), i, out_obs)
            at = tables.own_at
            if tables.obs_own_health:
                out_obs[i, at] = seen_health / tables.health_max[i]
                at += 1
                if tables.ally_shields:
                    out_obs[i, at] = _shield_ratio(tables, shield, i)
                    at += 1
            if bits > 0:
                out_obs[i, at + tables.type_index[i]] = 1.0
        if tables.obs_timestep_number:
            # Quirk: dead agents observe the time too.
            out_obs[i, tables.obs_size - 1] = t / tables.episode_limit

    for j in range(tables.num_enemies):
        u = num_agents + j
        seen_health = to_float32(health[u])
        if not seen_health > 0.0:
            continue
        enemy_x, enemy_y = to_float32(x[u]), to_float32(y[u])
        health_ratio = seen_health / tables.health_max[u]
        shield_ratio = _shield_ratio(tables, shield, u)
        for i in range(num_agents):
            if not to_float32(health[i]) > 0.0:
                continue
            dx, dy = enemy_x - to_float32(x[i]), enemy_y - to_float32(y[i])
            distance = sqrt(dx * dx + dy * dy)
            if not distance < SIGHT_RANGE:
                continue
            at = tables.enemies_at + j * tables.enemy_width
            # Quirk: for a medivac this column of the mask says whether AGENT j can be healed.
            out_obs[i, at] = 1.0 if mask[i, FIRST_TARGET + j] else 0.0
            out_obs[i, at + 1] = distance / SIGHT_RANGE
            out_obs[i, at + 2] = dx / SIGHT_RANGE
            out_obs[i, at + 3] = dy / SIGHT_RANGE
            at += 4
            if tables.obs_all_health:
                out_obs[i, at] = health_ratio
                at += 1
                if tables.enemy_shields:
                    out_obs[i, at] = shield_ratio
                    at += 1
            if bits > 0:
                out_obs[i, at + tables.type_index[u]] = 1.0

    for first in range(num_agents):
        if not to_float32(health[first]) > 0.0:
            continue
        for second in range(first + 1, num_agents):
            if not to_float32(health[second]) > 0.0:
                continue
            dx, dy = to_float32(x[second]) - to_float32(x[first]), to_float32(y[second]) - to_float32(y[first])
            distance = sqrt(dx * dx + dy * dy)
            if not distance < SIGHT_RANGE:
                continue
            distance_ratio, dx_ratio, dy_ratio = distance / SIGHT_RANGE, dx / SIGHT_RANGE, dy / SIGHT_RANGE
            for turn in range(2):
                viewer, ally, row = (first, second, second - 1) if turn == 0 else (second, first, first)
                at = tables.allies_at + row * tables.ally_width
                out_obs[viewer, at] = 1.0
                out_obs[viewer, at + 1] = distance_ratio
                out_obs[viewer, at + 2] = dx_ratio if turn == 0 else 0.0 - dx_ratio
                out_obs[viewer, at + 3] = dy_ratio if turn == 0 else 0.0 - dy_ratio
                at += 4
                if tables.obs_all_health:
                    # obs_all_health implies obs_own_health: the ratios are in the ally's own block already.
                    out_obs[viewer, at] = out_obs[ally, tables.own_at]
                    at += 1
                    if tables.ally_shields:
                        out_obs[viewer, at] = out_obs[ally, tables.own_at + 1]
                        at += 1
                if bits > 0:
                    out_obs[viewer, at + tables.type_index[ally]] = 1.0
                    at += bits
                if tables.obs_last_action and last_actions[ally] >= 0:
                    out_obs[viewer, at + last_actions[ally]] = 1.0


@kernel(inline=True, allocates=False)
def global_state(
    tables: RulesTables, units: Units, last_actions: Int64s, t: int, obs: Float32s, out_state: Float32s
) -> None:
    """Fill `out_state` [S]; `obs` [N, O] is the result of `observe` for the same units (for obs_instead_of_state)."""
    x, y, health = units[X], units[Y], units[HEALTH]
    shield, energy, cooldown = units[SHIELD], units[ENERGY], units[COOLDOWN]
    num_agents, bits = tables.num_agents, tables.unit_type_bits
    if tables.obs_instead_of_state:
        for i in range(num_agents):
            for k in range(tables.obs_size):
                out_state[i * tables.obs_size + k] = obs[i, k]
    else:
        out_state[:] = 0.0
        at = 0
        for u in range(num_agents + tables.num_enemies):
            is_enemy = u >= num_agents
            width = tables.enemy_state_width if is_enemy else tables.ally_state_width
            seen_health = to_float32(health[u])
            if seen_health > 0.0:
                out_state[at] = seen_health / tables.health_max[u]
                k = at + 1
                if not is_enemy:
                    charge = energy[u] if tables.shows_energy[u] else cooldown[u]
                    out_state[k] = to_float32(charge) / tables.cooldown_max[u]
                    k += 1
                out_state[k] = (to_float32(x[u]) - tables.center_x) / tables.extent_x
                out_state[k + 1] = (to_float32(y[u]) - tables.center_y) / tables.extent_y
                if tables.enemy_shields if is_enemy else tables.ally_shields:
                    out_state[k + 2] = _shield_ratio(tables, shield, u)
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


@kernel(inline=True, allocates=False)
def update_view(
    tables: RulesTables,
    units: Units,
    last_actions: Int64s,
    t: int,
    out_mask: Bools,
    out_obs: Float32s,
    out_state: Float32s,
) -> None:
    """Fill mask, observations and state of the battle of `units` [F, U]."""
    available_actions(tables, units, out_mask)
    observe(tables, units, last_actions, t, out_mask, out_obs)
    global_state(tables, units, last_actions, t, out_obs, out_state)


@kernel(allocates=False)
def update_views(
    tables: RulesTables,
    units: Float64s,
    last_actions: Int64s,
    t: Int64s,
    selected: Bools,
    out_mask: Bools,
    out_obs: Float32s,
    out_state: Float32s,
) -> None:
    """`update_view` for the battles where `selected` [B] is True; the outputs of the others do not change.

    Args:
        tables: Tables of the map.
        units: [B, F, U].
        last_actions: [B, N].
        t: [B].
        selected: [B].
        out_mask: [B, N, A].
        out_obs: [B, N, O].
        out_state: [B, S].
    """
    for b in range(selected.shape[0]):
        if selected[b]:
            update_view(tables, units[b], last_actions[b], t[b], out_mask[b], out_obs[b], out_state[b])


@kernel(allocates=False)
def visibility(tables: RulesTables, x: Float64s, y: Float64s, health: Float64s, out_visible: Bools) -> None:
    """Fill `out_visible` [N, U]: which living units each living agent sees; no agent sees itself."""
    out_visible[:, :] = False
    for i in range(tables.num_agents):
        if not to_float32(health[i]) > 0.0:
            continue
        for u in range(tables.num_agents + tables.num_enemies):
            if u != i and to_float32(health[u]) > 0.0:
                dx, dy = to_float32(x[u]) - to_float32(x[i]), to_float32(y[u]) - to_float32(y[i])
                out_visible[i, u] = sqrt(dx * dx + dy * dy) < SIGHT_RANGE
