"""Puts a battle into a given state.

Shapes: N agents, M enemies, U = N + M units (agents first); F and G are the rows of `units` and `flags` (see
units.state).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.unit_records import SideChange, unit_changes
from dm2_ray.world.engine.battle_step import BattleConstants
from dm2_ray.world.engine.movement import POSITION_GRID
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.terrain import Terrain
from dm2_ray.world.smac.step_outcome import compute_outcome
from dm2_ray.world.units.state import (
    COOLDOWN,
    ENERGY,
    EXPLODING,
    GOAL_X,
    GOAL_Y,
    HEALTH,
    NONE,
    NOT_EXPLODING,
    ORDER,
    ORDER_SCRIPTED,
    ORDER_STOP,
    SHIELD,
    UNIT_COLUMNS,
    X,
    Y,
)
from dm2_ray.world.units.tables import ENERGY_MAX, HEALTH_MAX, LAYER, SHIELD_MAX, Stats

_ROWS = dict(zip(UNIT_COLUMNS, (X, Y, HEALTH, SHIELD, ENERGY, COOLDOWN), strict=True))
_KEPT_ROWS = (*_ROWS.values(), GOAL_X, GOAL_Y)
_MAXIMA = {"health": HEALTH_MAX, "shield": SHIELD_MAX, "energy": ENERGY_MAX}


def with_units_placed(
    spec: MapSpec,
    constants: BattleConstants,
    units: NDArray[np.float64],
    allies: SideChange | None,
    enemies: SideChange | None,
) -> NDArray[np.float64]:
    """A copy of one battle's `units` [F, U] with the changes made and everything in progress cleared.

    Positions are rounded down to multiples of 1/4096. Attacks, missiles, backswings, momentum and waiting times of
    shields are cleared; the goals of scripted units stay.

    Raises:
        TypeError, ValueError: One line about the problem: an unknown field, another kind than the map's, a number out
            of its range, a position where the unit cannot stand, a state in which the battle would be over.
    """
    stats = constants.tables.stats
    changed = np.zeros_like(units)
    changed[list(_KEPT_ROWS)] = units[list(_KEPT_ROWS)]
    for side, change, kinds, first in (
        ("allies", allies, spec.ally_kinds, 0),
        ("enemies", enemies, spec.enemy_kinds, spec.num_agents),
    ):
        if change is None:
            continue
        for index, numbers in unit_changes(side, change, kinds):
            _change_unit(f"{side}[{index}] ({kinds[index]})", stats, constants.terrain, changed, first + index, numbers)
    health, shield = changed[HEALTH], changed[SHIELD]
    if compute_outcome(constants.rules, health, shield, health, shield, health == 0.0, 0).terminated:
        allies_left = np.count_nonzero(health[: spec.num_agents])
        enemies_left = np.count_nonzero(health[spec.num_agents :])
        raise ValueError(
            f"with {allies_left} allies and {enemies_left} enemies of these kinds alive the battle would be over; "
            "leave both sides a unit that can fight"
        )
    return changed


def _change_unit(
    unit: str, stats: Stats, terrain: Terrain, units: NDArray[np.float64], u: int, numbers: dict[str, float]
) -> None:
    for name, value in numbers.items():
        if name in ("x", "y"):
            value = math.floor(value * POSITION_GRID) / POSITION_GRID
        elif value < 0.0:
            raise ValueError(f"{unit}: {name} is {value}; expected at least 0")
        elif name in _MAXIMA and value > stats[_MAXIMA[name], u]:
            raise ValueError(f"{unit}: {name} is {value}; expected at most {stats[_MAXIMA[name], u]}")
        if name == "health" and np.float32(value) == 0.0:
            value = 0.0  # agents see 32-bit numbers, in which the unit would be dead
        units[_ROWS[name], u] = value
    if units[HEALTH, u] > 0.0 and ("x" in numbers or "y" in numbers):
        x, y = float(units[X, u]), float(units[Y, u])
        passable = terrain.passable[int(stats[LAYER, u])]
        width, height = passable.shape
        if not (0.0 <= x < width and 0.0 <= y < height and passable[int(x), int(y)]):
            raise ValueError(
                f"{unit} cannot stand at ({x}, {y}); expected a position on walkable ground within {width} x {height} "
                "cells"
            )


def clear_flags(flags: NDArray[np.int64]) -> None:
    """Remove all targets and attacks in progress from one battle's `flags` [G, U]; agents stop, scripted units keep
    their order."""
    is_scripted = flags[ORDER] == ORDER_SCRIPTED
    flags[:] = NONE
    flags[EXPLODING] = NOT_EXPLODING
    flags[ORDER] = np.where(is_scripted, ORDER_SCRIPTED, ORDER_STOP)
