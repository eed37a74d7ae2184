"""The part of SMAC's StarCraft2Env that needs no battle: attributes, sizes, names, and facts about positions and units.

Shapes: N agents, M enemies, A actions, O observation size, S state size; grids are [X, Y] cells, indexed [x, y].
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.envs import smac_features
from dm2_ray.world.envs.smac_units import SmacUnit, SmacUnitIndex
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules import EAST, FIRST_TARGET, NORTH, SHOOT_RANGE, SIGHT_RANGE
from dm2_ray.world.smac.rules_tables import NUM_MOVES, NUM_RING_CELLS, RulesTables, build_tables, max_reward
from dm2_ray.world.unit_kinds import Balance


class Direction(IntEnum):
    """Ways to move."""

    NORTH = 0
    SOUTH = 1
    EAST = 2
    WEST = 3


class SmacInterface:
    """The constant part of an environment with SMAC's names; attributes are those of StarCraft2Env.

    Unlike in StarCraft2Env, attributes of the map (`map_x`, `max_reward`, unit types, ...) exist before the first
    reset().

    Args:
        spec: The map.
        options: SMAC's constructor arguments.
        balance: Game data from which the units' maximum health and shields are taken.
    """

    n_actions_no_attack = FIRST_TARGET
    n_actions_move = NUM_MOVES
    n_obs_pathing = NUM_RING_CELLS
    n_obs_height = NUM_RING_CELLS + 1

    def __init__(self, spec: MapSpec, options: SmacOptions, balance: Balance) -> None:
        self._tables: RulesTables = build_tables(spec, options, balance=balance)
        self._unit_index = SmacUnitIndex(spec, balance)
        tables = self._tables
        self.map_name = spec.name
        self.map_type = spec.map_type
        self.n_agents = tables.num_agents
        self.n_enemies = tables.num_enemies
        self.n_actions = tables.num_actions
        self.episode_limit = tables.episode_limit
        self.unit_type_bits = tables.unit_type_bits
        self.shield_bits_ally = int(tables.ally_shields)
        self.shield_bits_enemy = int(tables.enemy_shields)
        self.ally_state_attr_names = smac_features.ally_attributes(tables)
        self.enemy_state_attr_names = smac_features.enemy_attributes(tables)
        self.max_reward = max_reward(spec, options, balance)

        self.difficulty = options.difficulty
        self.game_version = options.game_version
        self.continuing_episode = options.continuing_episode
        self.obs_all_health = options.obs_all_health
        self.obs_own_health = options.obs_own_health
        self.obs_last_action = options.obs_last_action
        self.obs_pathing_grid = options.obs_pathing_grid
        self.obs_terrain_height = options.obs_terrain_height
        self.obs_instead_of_state = options.obs_instead_of_state
        self.obs_timestep_number = options.obs_timestep_number
        self.state_last_action = options.state_last_action
        self.state_timestep_number = options.state_timestep_number
        self.reward_sparse = options.reward_sparse
        self.reward_only_positive = options.reward_only_positive
        self.reward_death_value = options.reward_death_value
        self.reward_win = options.reward_win
        self.reward_defeat = options.reward_defeat
        self.reward_negative_scale = options.reward_negative_scale
        self.reward_scale = options.reward_scale
        self.reward_scale_rate = options.reward_scale_rate
        self.replay_dir = options.replay_dir
        self.replay_prefix = options.replay_prefix
        self.window_size = (options.window_size_x, options.window_size_y)
        self.heuristic_ai = options.heuristic_ai
        self.heuristic_rest = options.heuristic_rest
        self.debug = options.debug
        self._move_amount = options.move_amount
        self._step_mul = options.step_mul

        self.map_x, self.map_y = tables.walkable.shape
        self.max_distance_x, self.max_distance_y = int(tables.extent_x), int(tables.extent_y)
        self.pathing_grid: NDArray[np.bool_] = tables.walkable.copy()
        self.terrain_height: NDArray[np.float64] = tables.terrain.copy()
        own = self._unit_index.own_types
        self._min_unit_type = min(own.values())
        self.marine_id, self.marauder_id = own.get("marine", 0), own.get("marauder", 0)
        self.stalker_id, self.zealot_id, self.colossus_id = (own.get(k, 0) for k in ("stalker", "zealot", "colossus"))
        self.hydralisk_id, self.zergling_id = own.get("hydralisk", 0), own.get("zergling", 0)
        self.baneling_id = own.get("baneling", 0)
        # Quirk: SMAC recognizes medivacs only on its MMM maps.
        self.medivac_id = own.get("medivac", 0) if spec.map_type == "MMM" else 0
        self._type_index = dict(zip(self._unit_index.types, tables.type_index.tolist(), strict=True))
        self._shields = dict(zip(self._unit_index.types, tables.shield_max.tolist(), strict=True))
        self._cooldowns = dict(zip(self._unit_index.types[: self.n_agents], tables.cooldown_max.tolist(), strict=True))

    # Sizes and names.

    def get_total_actions(self) -> int:
        """A"""
        return self.n_actions

    def get_obs_size(self) -> int:
        """O as SMAC states it: with obs_timestep_number observations are one longer."""
        return smac_features.observation_size(self._tables)

    def get_state_size(self) -> int:
        """S as SMAC states it."""
        return smac_features.state_size(self._tables)

    def get_obs_move_feats_size(self) -> int:
        """Length of an observation's move block."""
        return self._tables.enemies_at

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Rows and row length of an observation's enemy block."""
        return self.n_enemies, self._tables.enemy_width

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Rows and row length of an observation's ally block."""
        return self.n_agents - 1, self._tables.ally_width

    def get_obs_own_feats_size(self) -> int:
        """Length of an observation's own block."""
        return self.get_obs_size() - self._tables.own_at

    def get_ally_num_attributes(self) -> int:
        """Length of an agent's row in the state."""
        return self._tables.ally_state_width

    def get_enemy_num_attributes(self) -> int:
        """Length of an enemy's row in the state."""
        return self._tables.enemy_state_width

    def get_obs_feature_names(self, agent_id: int = 0) -> list[str]:
        """Names of all numbers in an agent's observation (SMACv2's method)."""
        return smac_features.observation_features(self._tables, agent_id)

    def get_state_feature_names(self) -> list[str]:
        """Names of all numbers in the state (SMACv2's method)."""
        return smac_features.state_features(self._tables)

    def get_env_info(self) -> dict[str, Any]:
        """Sizes, and the names of the columns in the agents' and the enemies' rows of the state."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": list(self.ally_state_attr_names),
            "enemy_features": list(self.enemy_state_attr_names),
        }

    # Units.

    def get_unit_types(self) -> list[int]:
        """Unit types of all agents, then of all enemies."""
        return list(self._unit_index.types)

    def get_unit_type_id(self, unit: SmacUnit, ally: bool) -> int:
        """Index of a unit's kind in the one-hot of unit types."""
        return self._type_index[unit.unit_type]

    def unit_shoot_range(self, agent_id: int) -> int:
        """Distance of centers up to which an agent may be ordered to attack; the same for all agents."""
        return int(SHOOT_RANGE)

    def unit_sight_range(self, agent_id: int) -> int:
        """Distance of centers below which an agent sees a unit; the same for all agents."""
        return int(SIGHT_RANGE)

    def unit_max_cooldown(self, unit: SmacUnit) -> int:
        """The number by which the state divides an agent's weapon cooldown, or a medivac's energy; 15 for any enemy."""
        return int(self._cooldowns.get(unit.unit_type, 15))

    def unit_max_shield(self, unit: SmacUnit) -> int | None:
        """Maximum shield of a unit's kind; None for kinds without shields."""
        return int(self._shields[unit.unit_type]) or None

    # Positions.

    @staticmethod
    def distance(x1: float, y1: float, x2: float, y2: float) -> float:
        """Distance of two positions in cells."""
        return math.hypot(x2 - x1, y2 - y1)

    def check_bounds(self, x: float, y: float) -> bool:
        """Whether a position is on the map."""
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: SmacUnit, direction: int) -> bool:
        """Whether the cell half a move ahead of a unit is walkable; `direction` is a Direction."""
        ahead = self._move_amount / 2
        move = NORTH + Direction(direction)
        east = (move == EAST) - (move == EAST + 1)
        north = (move == NORTH) - (move == NORTH + 1)
        # Quirk: truncation toward zero, as for all positions in SMAC.
        x, y = int(unit.pos.x + ahead * east), int(unit.pos.y + ahead * north)
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(self, unit: SmacUnit, include_self: bool = False) -> list[tuple[int, int]]:
        """The 8 cells around a unit whose pathing an agent may observe; with include_self also the unit's own cell."""
        ring = self._tables.ring if include_self else self._tables.ring[:NUM_RING_CELLS]
        x, y = int(unit.pos.x), int(unit.pos.y)
        return [(x + dx, y + dy) for dx, dy in ring.tolist()]

    def get_surrounding_pathing(self, unit: SmacUnit) -> list[bool]:
        """Whether those 8 cells are walkable; True outside the map."""
        points = self.get_surrounding_points(unit)
        return [bool(self.pathing_grid[x, y]) if self.check_bounds(x, y) else True for x, y in points]

    def get_surrounding_height(self, unit: SmacUnit) -> list[float]:
        """Heights of those 8 cells and the unit's own, 0 to 1; 1 outside the map."""
        points = self.get_surrounding_points(unit, include_self=True)
        return [float(self.terrain_height[x, y]) if self.check_bounds(x, y) else 1.0 for x, y in points]

    def _state_row(self, unit: SmacUnit, ally: bool) -> list[float]:
        """A unit's columns in the state, in 64 bits: see `ally_state_attr_names`, `enemy_state_attr_names`."""
        names = self.ally_state_attr_names if ally else self.enemy_state_attr_names
        if not unit.health > 0:
            return [0.0] * len(names)
        heals = ally and unit.unit_type == self.medivac_id
        values = {
            "health": unit.health / unit.health_max,
            "energy/cooldown": (unit.energy if heals else unit.weapon_cooldown) / self.unit_max_cooldown(unit),
            "rel_x": (unit.pos.x - self.map_x / 2) / self.max_distance_x,
            "rel_y": (unit.pos.y - self.map_y / 2) / self.max_distance_y,
            "shield": unit.shield / (self.unit_max_shield(unit) or 1),
        }
        if self.unit_type_bits:
            values |= {
                f"type_{bit}": float(bit == self.get_unit_type_id(unit, ally)) for bit in range(self.unit_type_bits)
            }
        return [values[name] for name in names]
