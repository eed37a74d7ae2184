"""Scene: the parts of a battle's picture that do not change, that is the ground and the properties of the units.

Shapes: N agents, M enemies, U = N + M units (agents first), W x H map cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.arrays import Bools, Float64s
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.unit_kinds import Balance, UnitKind, unit_kind

MARGIN = 1.0
"""Cells shown around the ground that units can reach."""

_PLAIN_ACTIONS = ("no-op", "stop", "north", "south", "east", "west")
_GROUND, _ELSEWHERE, _CLIFF = ".", ",", "#"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One map and the units that fight on it.

    Attributes:
        num_actions: A.
        kinds: [U].
        radius: [U] map cells.
        health_max: [U].
        shield_max: [U]; 0 for kinds without shields, likewise below.
        energy_max: [U].
        weapon_period: [U] game loops between attacks, without their random delay.
        weapon_range: [U] cells from edge to edge.
        blast_radius: [U] cells around a unit that explodes when it dies.
        healers: Agents whose targeted actions heal agents instead of attacking enemies.
        walkable: [W, H]; cell (x, y) covers [x, x + 1) x [y, y + 1).
        ground: [W, H] the walkable cells that can be reached from the units' starting positions; some maps have others.
        terrain_height: [W + 1, H + 1] at the cells' corners.
        view: The visible part of the map: west, south, east, north edge in cells.
    """

    map_name: str
    num_agents: int
    num_actions: int
    kinds: tuple[str, ...]
    radius: Float64s
    health_max: Float64s
    shield_max: Float64s
    energy_max: Float64s
    weapon_period: Float64s
    weapon_range: Float64s
    blast_radius: Float64s
    healers: tuple[int, ...]
    walkable: Bools
    ground: Bools
    terrain_height: Float64s
    view: tuple[float, float, float, float]

    @staticmethod
    def from_map(spec: MapSpec, balance: Balance = "liberty") -> Scene:
        """The scene of a map."""
        names = (*spec.ally_kinds, *spec.enemy_kinds)
        kinds = [unit_kind(name, balance) for name in names]
        is_mmm = spec.map_type == "MMM"
        reached = _reach(spec.walkable, [(spawn.x, spawn.y) for spawn in spec.spawns])
        return Scene(
            map_name=spec.name,
            num_agents=spec.num_agents,
            num_actions=spec.num_actions,
            kinds=names,
            radius=np.array([kind.radius for kind in kinds]),
            health_max=np.array([kind.health for kind in kinds]),
            shield_max=np.array([kind.shield for kind in kinds]),
            energy_max=np.array([kind.healing.energy_max if kind.healing else 0.0 for kind in kinds]),
            weapon_period=np.array([kind.weapon.period_loops if kind.weapon else 0.0 for kind in kinds]),
            weapon_range=np.array([kind.weapon.range if kind.weapon else 0.0 for kind in kinds]),
            blast_radius=np.array([_blast_radius(kind) for kind in kinds]),
            # SMAC lets medivacs heal on its MMM maps only.
            healers=tuple(i for i, name in enumerate(spec.ally_kinds) if is_mmm and name == "medivac"),
            walkable=spec.walkable,
            ground=reached & spec.walkable,
            terrain_height=spec.terrain_height,
            view=_view(reached),
        )

    @property
    def num_units(self) -> int:
        """U"""
        return len(self.kinds)

    def label(self, unit: int) -> str:
        """A unit's kind and SMAC's number of it; each side is numbered from 0."""
        number = unit if unit < self.num_agents else unit - self.num_agents
        return f"{self.kinds[unit].capitalize()} {number}"

    def action_names(self, agent: int) -> tuple[str, ...]:
        """[A] SMAC's names of an agent's actions."""
        verb, first, count = "attack", self.num_agents, self.num_units - self.num_agents
        if agent in self.healers:
            verb, first, count = "heal", 0, self.num_agents
        # Healers and fighters have the same number of actions; those beyond the last target are never available.
        targets = range(self.num_actions - len(_PLAIN_ACTIONS))
        names = (f"{verb} {self.label(first + j)}" if j < count else f"{verb} nobody ({j})" for j in targets)
        return (*_PLAIN_ACTIONS, *names)

    def action_target(self, agent: int, action: int) -> int:
        """The unit at which an action is aimed, -1 for none."""
        if action < len(_PLAIN_ACTIONS):
            return -1
        return action - len(_PLAIN_ACTIONS) + (0 if agent in self.healers else self.num_agents)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; grids as one string or list per row, from south to north."""
        free = np.where(self.walkable, _ELSEWHERE, _CLIFF)
        return {
            "map_name": self.map_name,
            "num_agents": self.num_agents,
            "num_actions": self.num_actions,
            "kinds": list(self.kinds),
            **{name: _plain(getattr(self, name)) for name in _PER_UNIT},
            "healers": list(self.healers),
            "cells": ["".join(row) for row in np.where(self.ground, _GROUND, free).T.tolist()],
            "terrain_height": [_plain(row) for row in self.terrain_height.T],
            "view": _plain(np.array(self.view)),
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Scene:
        """The inverse of `to_dict`.

        Raises:
            ValueError: An entry is missing or has another form.
        """
        try:
            cells = np.array([list(row) for row in content["cells"]]).T
            scene = Scene(
                map_name=str(content["map_name"]),
                num_agents=int(content["num_agents"]),
                num_actions=int(content["num_actions"]),
                kinds=tuple(map(str, content["kinds"])),
                **{name: np.array(content[name], dtype=np.float64) for name in _PER_UNIT},
                healers=tuple(map(int, content["healers"])),
                walkable=cells != _CLIFF,
                ground=cells == _GROUND,
                terrain_height=np.array(content["terrain_height"], dtype=np.float64).T,
                view=_four(content["view"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the scene of a battle: {type(error).__name__} at {error}") from error
        shapes = {scene.terrain_height.shape: tuple(n + 1 for n in cells.shape)}
        shapes |= {getattr(scene, name).shape: (scene.num_units,) for name in _PER_UNIT}
        if any(found != expected for found, expected in shapes.items()):
            raise ValueError("not the scene of a battle: arrays of different sizes")
        return scene


_PER_UNIT = ("radius", "health_max", "shield_max", "energy_max", "weapon_period", "weapon_range", "blast_radius")


def _blast_radius(kind: UnitKind) -> float:
    return kind.splash.radius if kind.splash is not None and kind.splash.explodes_when_killed else 0.0


def _reach(walkable: Bools, positions: Sequence[tuple[float, float]]) -> Bools:
    """[W, H] cells that can be walked to from any of the positions, and the cells of the positions themselves."""
    width, height = walkable.shape
    reached = np.zeros_like(walkable)
    frontier: deque[tuple[int, int]] = deque()
    for x, y in positions:
        cell = (min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1))
        reached[cell] = True
        frontier.append(cell)
    while frontier:
        x, y = frontier.popleft()
        # Diagonal steps too: the rooms of `corridor` touch at corners only.
        for cell in ((i, j) for i in (x - 1, x, x + 1) for j in (y - 1, y, y + 1)):
            if 0 <= cell[0] < width and 0 <= cell[1] < height and walkable[cell] and not reached[cell]:
                reached[cell] = True
                frontier.append(cell)
    return reached


def _view(reached: Bools) -> tuple[float, float, float, float]:
    xs, ys = np.flatnonzero(reached.any(1)), np.flatnonzero(reached.any(0))
    return _four((xs[0] - MARGIN, ys[0] - MARGIN, xs[-1] + 1 + MARGIN, ys[-1] + 1 + MARGIN))


def _plain(values: NDArray[Any]) -> list[float]:
    """Numbers rounded to three decimals, whole ones without a decimal point."""
    return [int(v) if v == int(v) else v for v in np.round(values.astype(np.float64), 3).tolist()]


def _four(values: Sequence[float]) -> tuple[float, float, float, float]:
    west, south, east, north = map(float, values)
    return west, south, east, north
