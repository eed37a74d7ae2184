"""The rules' constants for one map and one set of options, laid out for compiled kernels.

Shapes: N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size;
grids are [X, Y] cells, indexed [x, y].

One observation is move | M enemy rows | N - 1 ally rows | own; the state is N ally rows | M enemy rows | last actions
| time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.unit_kinds import Balance, unit_kind

NUM_MOVES = 4
NUM_RING_CELLS = 8
MEDIVAC_ENERGY_MAX = 200.0

# Cells around a unit in SMAC's order, in multiples of move_amount: N, S, E, W, NE, SW, SE, NW and its own.
_RING = ((0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (0, 0))

# SMAC divides weapon cooldowns by these numbers (game loops), which its authors measured; real cooldowns may be longer.
_COOLDOWN_MAX = {
    "marine": 15.0,
    "marauder": 25.0,
    "stalker": 35.0,
    "zealot": 22.0,
    "colossus": 24.0,
    "hydralisk": 10.0,
    "zergling": 11.0,
    "baneling": 1.0,
}
_OTHER_COOLDOWN_MAX = 15.0


class RulesTables(NamedTuple):
    """Everything that the rules' kernels need to know about a map and the options.

    Attributes:
        obs_size: O, the length of an observation as it is returned.
        state_size: S, the length of the state as it is returned.
        enemies_at: Where the enemy rows begin in an observation; likewise `allies_at` and `own_at`.
        move_probe: How far ahead a move's availability is tested.
        reward_divisor: max_reward / reward_scale_rate, or 1 without reward_scale.
        walkable: [X, Y].
        ring: [9, 2] cells, relative to a unit's own, whose pathing (first 8) and height (all 9) it may observe.
        terrain: [X, Y] heights as shown: 0..1.
        health_max: [U].
        shield_max: [U]; 0 for kinds without shields.
        cooldown_max: [N] divisor of the energy or cooldown in the state (see `shows_energy`).
        shows_energy: [N] the state shows energy in place of the weapon's cooldown (medivacs where the map type is MMM).
        is_medivac: [U] medivacs where the map type is MMM.
        type_index: [U] index in the one-hot of unit types.
    """

    num_agents: int
    num_enemies: int
    num_actions: int
    episode_limit: int
    unit_type_bits: int
    obs_size: int
    state_size: int
    enemies_at: int
    enemy_width: int
    allies_at: int
    ally_width: int
    own_at: int
    ally_state_width: int
    enemy_state_width: int
    move_probe: float
    center_x: float
    center_y: float
    extent_x: float
    extent_y: float
    death_value: float
    win_reward: float
    defeat_reward: float
    negative_scale: float
    reward_divisor: float
    is_mmm: bool
    ally_shields: bool
    enemy_shields: bool
    obs_all_health: bool
    obs_own_health: bool
    obs_last_action: bool
    obs_pathing_grid: bool
    obs_terrain_height: bool
    obs_timestep_number: bool
    obs_instead_of_state: bool
    state_last_action: bool
    state_timestep_number: bool
    reward_sparse: bool
    reward_only_positive: bool
    continuing_episode: bool
    walkable: Bools
    ring: Int64s
    terrain: Float64s
    health_max: Float64s
    shield_max: Float64s
    cooldown_max: Float64s
    shows_energy: Bools
    is_medivac: Bools
    type_index: Int64s


def max_reward(map_spec: MapSpec, options: SmacOptions, balance: Balance = "liberty") -> float:
    """Maximum undiscounted sum of rewards without regeneration, before scaling (SMAC's `max_reward`).

    Quirk not reproduced: SMAC adds the enemies' hit points again when reset() is called twice before its first
    episode has ended.
    """
    kinds = [unit_kind(kind, balance) for kind in map_spec.enemy_kinds]
    hit_points = sum(kind.health + kind.shield for kind in kinds)
    return float(map_spec.num_enemies * options.reward_death_value + options.reward_win + hit_points)


def height_image(map_spec: MapSpec) -> NDArray[np.uint8]:
    """[X, Y] the map's heights as the game's API shows them: one byte per cell over heights from -16 to 16."""
    corners = map_spec.terrain_height
    cells = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
    return np.rint(255 * (cells + 16) / 32).astype(np.uint8)


def build_tables(
    map_spec: MapSpec,
    options: SmacOptions,
    terrain_height: NDArray[np.uint8] | None = None,
    balance: Balance = "liberty",
) -> RulesTables:
    """Tables for one map.

    Args:
        map_spec: The map.
        options: SMAC's constructor arguments.
        terrain_height: [X, Y] height image, 0..255; None takes the map's own.
        balance: The game data behind health and shield maxima.

    Raises:
        ValueError: The height image has another shape than the map.
    """
    observation = _observation_layout(map_spec, options)
    return RulesTables(
        num_agents=map_spec.num_agents,
        num_enemies=map_spec.num_enemies,
        num_actions=map_spec.num_actions,
        episode_limit=map_spec.episode_limit,
        unit_type_bits=map_spec.unit_type_bits,
        is_mmm=map_spec.map_type == "MMM",
        ally_shields=map_spec.ally_race == "P",
        enemy_shields=map_spec.enemy_race == "P",
        **observation,
        **_state_layout(map_spec, options, observation["obs_size"]),
        **_reward_constants(map_spec, options, balance),
        **_map_constants(map_spec, options, terrain_height),
        **_unit_constants(map_spec, balance),
        **{name: getattr(options, name) for name in _SWITCHES},
    )


_SWITCHES = (
    "obs_all_health",
    "obs_own_health",
    "obs_last_action",
    "obs_pathing_grid",
    "obs_terrain_height",
    "obs_timestep_number",
    "obs_instead_of_state",
    "state_last_action",
    "state_timestep_number",
    "reward_sparse",
    "reward_only_positive",
    "continuing_episode",
)
"""Options that the tables contain unchanged."""


def _observation_layout(map_spec: MapSpec, options: SmacOptions) -> dict[str, Any]:
    """Where the blocks of an observation begin, and their widths."""
    bits, ally_shields, enemy_shields = map_spec.unit_type_bits, map_spec.ally_race == "P", map_spec.enemy_race == "P"
    move_width = NUM_MOVES + NUM_RING_CELLS * options.obs_pathing_grid
    move_width += (NUM_RING_CELLS + 1) * options.obs_terrain_height
    enemy_width = 4 + bits + (1 + enemy_shields) * options.obs_all_health
    ally_width = 4 + bits + (1 + ally_shields) * options.obs_all_health + map_spec.num_actions * options.obs_last_action
    # Quirk: with obs_timestep_number SMAC reserves a slot of the own block, leaves it zero and appends the time after
    # the end, so that observations are one longer than its get_obs_size() says.
    own_width = bits + (1 + ally_shields) * options.obs_own_health + options.obs_timestep_number
    allies_at = move_width + map_spec.num_enemies * enemy_width
    own_at = allies_at + (map_spec.num_agents - 1) * ally_width
    return {
        "enemies_at": move_width,
        "enemy_width": enemy_width,
        "allies_at": allies_at,
        "ally_width": ally_width,
        "own_at": own_at,
        "obs_size": own_at + own_width + options.obs_timestep_number,
    }


def _state_layout(map_spec: MapSpec, options: SmacOptions, obs_size: int) -> dict[str, Any]:
    """Widths of the state's rows, and its size."""
    bits, ally_shields, enemy_shields = map_spec.unit_type_bits, map_spec.ally_race == "P", map_spec.enemy_race == "P"
    ally_width, enemy_width = 4 + ally_shields + bits, 3 + enemy_shields + bits
    size = map_spec.num_agents * ally_width + map_spec.num_enemies * enemy_width + options.state_timestep_number
    size += map_spec.num_agents * map_spec.num_actions * options.state_last_action
    if options.obs_instead_of_state:
        size = map_spec.num_agents * obs_size
    return {"ally_state_width": ally_width, "enemy_state_width": enemy_width, "state_size": size}


def _reward_constants(map_spec: MapSpec, options: SmacOptions, balance: Balance) -> dict[str, Any]:
    divisor = max_reward(map_spec, options, balance) / options.reward_scale_rate if options.reward_scale else 1.0
    return {
        "death_value": float(options.reward_death_value),
        "win_reward": float(options.reward_win),
        "defeat_reward": float(options.reward_defeat),
        "negative_scale": float(options.reward_negative_scale),
        "reward_divisor": float(divisor),
    }


def _map_constants(map_spec: MapSpec, options: SmacOptions, terrain_height: NDArray[np.uint8] | None) -> dict[str, Any]:
    """Size and grids of the map, and where around a unit they are read."""
    size_x, size_y = map_spec.walkable.shape
    heights = height_image(map_spec) if terrain_height is None else np.asarray(terrain_height)
    if heights.shape != (size_x, size_y):
        raise ValueError(f"terrain_height has shape {heights.shape}, expected {(size_x, size_y)} for {map_spec.name!r}")
    return {
        "move_probe": options.move_amount / 2,
        "center_x": size_x / 2,
        "center_y": size_y / 2,
        "extent_x": float(size_x),
        "extent_y": float(size_y),
        "walkable": np.array(map_spec.walkable, dtype=np.bool_, order="C"),
        "ring": int(options.move_amount) * np.array(_RING, dtype=np.int64),
        "terrain": np.array(heights / 255, dtype=np.float64, order="C"),
    }


def _unit_constants(map_spec: MapSpec, balance: Balance) -> dict[str, Any]:
    """Constants of each unit, agents first."""
    names = (*map_spec.ally_kinds, *map_spec.enemy_kinds)
    kinds = [unit_kind(name, balance) for name in names]
    is_medivac = np.array([map_spec.map_type == "MMM" and name == "medivac" for name in names])
    cooldown_max = [
        MEDIVAC_ENERGY_MAX if medivac else _COOLDOWN_MAX.get(name, _OTHER_COOLDOWN_MAX)
        for name, medivac in zip(map_spec.ally_kinds, is_medivac, strict=False)
    ]
    type_index = [map_spec.ally_types.index(name) for name in map_spec.ally_kinds]
    type_index += [map_spec.enemy_types.index(name) for name in map_spec.enemy_kinds]
    return {
        "health_max": np.array([kind.health for kind in kinds], dtype=np.float64),
        "shield_max": np.array([kind.shield for kind in kinds], dtype=np.float64),
        "cooldown_max": np.array(cooldown_max, dtype=np.float64),
        "shows_energy": is_medivac[: map_spec.num_agents].copy(),
        "is_medivac": is_medivac,
        "type_index": np.array(type_index, dtype=np.int64),
    }
