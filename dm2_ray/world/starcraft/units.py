"""StarCraft II's units and map in the form that the rules need: the row of each unit, and the constants.

Shapes: N agents, M enemies, U = N + M units (agents first); grids are [X, Y] cells, indexed [x, y].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.starcraft.protocol import StarCraftError
from dm2_ray.world.unit_kinds import STOCK_TYPES, unit_kind
from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, NONE, SHIELD, TARGET, UnitFlags, Units, X, Y

AGENTS_OWNER, ENEMIES_OWNER = 1, 2

_STOCK_KINDS = {number: kind for kind, number in STOCK_TYPES.items()}
# SMAC's numbering of the enemies' kinds; None means all others.
_ENEMY_TYPE_INDEX: dict[str, dict[int | None, int]] = {
    "stalkers_and_zealots": {73: 0, 74: 1},
    "colossi_stalkers_zealots": {4: 0, 74: 1, None: 2},
    "bane": {9: 0, None: 1},
    "MMM": {51: 0, 48: 1, None: 2},
}


class BattleUnits:
    """The units of one battle; each keeps its index from the first observation to the battle's end.

    Args:
        raw_units: Units of the first observation; `ready` says whether all units exist.
        map_spec: The map, which determines how many units there must be.
        units: [F, U] as in units.state; `update` writes the rows that the game shows. A dead unit has health 0 and
            keeps its other numbers.
        flags: [G, U] likewise; only TARGET is written.
    """

    def __init__(self, raw_units: Iterable[Any], map_spec: MapSpec, units: Units, flags: UnitFlags) -> None:
        found = list(raw_units)
        # SMAC numbers agents by kind and position, enemies in the order in which the game lists them.
        agents = [unit for unit in found if unit.owner == AGENTS_OWNER]
        agents.sort(key=lambda unit: (unit.unit_type, unit.pos.x, unit.pos.y))
        enemies = [unit for unit in found if unit.owner == ENEMIES_OWNER]
        self.ready = (len(agents), len(enemies)) == (map_spec.num_agents, map_spec.num_enemies)
        self.counts = (len(agents), len(enemies))
        if not self.ready:
            return
        self.members = [*agents, *enemies]
        """The U units of the first observation."""
        self.tags = [unit.tag for unit in self.members]
        self._units = units
        self._flags = flags
        self._index = {tag: u for u, tag in enumerate(self.tags)}
        self.update(found)

    def update(self, raw_units: Iterable[Any]) -> None:
        """Store the next observation. Units that are missing in it are dead."""
        units, target = self._units, self._flags[TARGET]
        units[HEALTH] = 0.0
        target[:] = NONE
        for unit in raw_units:
            u = self._index.get(unit.tag)
            if u is None:
                continue
            units[X, u], units[Y, u] = unit.pos.x, unit.pos.y
            units[HEALTH, u], units[SHIELD, u] = unit.health, unit.shield
            units[ENERGY, u], units[COOLDOWN, u] = unit.energy, unit.weapon_cooldown
            target[u] = self._index.get(unit.engaged_target_tag, NONE)

    @property
    def living_tags(self) -> list[int]:
        """Tags of the living units."""
        return [tag for tag, health in zip(self.tags, self._units[HEALTH], strict=True) if health > 0.0]


def with_game_map(rules: RulesTables, game_info: Any) -> RulesTables:
    """The tables with the grids, size and playable area of the game's own map, read in the same way as by SMAC."""
    raw = game_info.start_raw
    size_x, size_y = raw.map_size.x, raw.map_size.y
    pathing = np.frombuffer(raw.pathing_grid.data, np.uint8)
    if raw.pathing_grid.bits_per_pixel == 1:
        walkable = np.unpackbits(pathing)[: size_x * size_y].reshape(size_y, size_x).T.astype(np.bool_)
    else:
        # Old versions: one byte per cell, 0 for walkable cells, the top row first.
        walkable = ~np.flip(pathing.reshape(size_y, size_x).T.astype(np.bool_), axis=1)
    # Quirk: SMAC flips the heights vertically, whatever the order of the rows.
    heights = np.flip(np.frombuffer(raw.terrain_height.data, np.uint8).reshape(size_y, size_x).T, axis=1)
    area = raw.playable_area
    return rules._replace(
        walkable=np.array(walkable, dtype=np.bool_, order="C"),
        terrain=np.array(heights / 255, dtype=np.float64, order="C"),
        center_x=size_x / 2,
        center_y=size_y / 2,
        extent_x=float(area.p1.x - area.p0.x),
        extent_y=float(area.p1.y - area.p0.y),
    )


def with_unit_constants(rules: RulesTables, map_spec: MapSpec, options: SmacOptions, units: BattleUnits) -> RulesTables:
    """The tables with the constants of these units: kinds, order and maximum health as reported by the game.

    Raises:
        StarCraftError: The units are not those of the map.
    """
    num_agents = map_spec.num_agents
    agents, enemies = units.members[:num_agents], units.members[num_agents:]
    first_type = min(unit.unit_type for unit in agents)
    type_index = rules.type_index.copy()
    is_medivac = rules.is_medivac.copy()
    shield_max = rules.shield_max.copy()
    if map_spec.unit_type_bits:
        _check_agents(agents, type_index[:num_agents], first_type, map_spec)
    kinds = {unit.unit_type: kind for unit, kind in zip(agents, map_spec.ally_kinds, strict=True)} | _STOCK_KINDS
    numbering = _ENEMY_TYPE_INDEX[map_spec.map_type] if map_spec.unit_type_bits else {None: 0}
    for row, unit in enumerate(enemies, start=num_agents):
        index = numbering.get(unit.unit_type, numbering.get(None))
        if index is None:
            raise StarCraftError(f"map {map_spec.name!r}: an enemy has unit type {unit.unit_type}, unknown to SMAC")
        type_index[row] = index
        is_medivac[row] = map_spec.map_type == "MMM" and unit.unit_type == STOCK_TYPES["medivac"]
        if unit.unit_type in kinds:
            shield_max[row] = unit_kind(kinds[unit.unit_type]).shield
    divisor = 1.0
    if options.reward_scale:
        greatest = map_spec.num_enemies * options.reward_death_value + options.reward_win
        for unit in enemies:
            greatest += unit.health_max + unit.shield_max
        divisor = greatest / options.reward_scale_rate
    return rules._replace(
        type_index=type_index,
        is_medivac=is_medivac,
        health_max=np.array([unit.health_max for unit in units.members], dtype=np.float64),
        shield_max=shield_max,
        reward_divisor=float(divisor),
    )


def _check_agents(agents: list[Any], expected: NDArray[np.int64], first_type: int, map_spec: MapSpec) -> None:
    found = [unit.unit_type - first_type for unit in agents]
    if found != expected.tolist():
        raise StarCraftError(
            f"map {map_spec.name!r}: the agents' unit types, from {first_type} on, are {found}; "
            f"expected {expected.tolist()}: the file holds another map of this name"
        )
