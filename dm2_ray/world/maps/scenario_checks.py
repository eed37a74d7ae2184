"""Checks of the units' starting positions in a scenario: enough space, no overlaps, which units can meet.

Shapes: N agents, M enemies, U = N + M units (agents first), X x Y cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.scenario_schema import InvalidScenario
from dm2_ray.world.maps.spawn_positions import spawn_positions
from dm2_ray.world.unit_kinds import UnitKind, unit_kind

_TOLERANCE = 1e-3
"""Tolerance of distances: positions are rounded to the engine's grid of 1/4096 cells."""


class FixedPosition(NamedTuple):
    """A position that the scenario gives to one unit."""

    key: tuple[str, ...]
    owner: int
    kind: str
    x: float
    y: float


def starting_positions(spec: MapSpec) -> NDArray[np.float64]:
    """[U, 2] starting positions under the engine's default settings.

    Raises:
        ValueError: There is not enough space for some group.
    """
    settings = EngineSettings()
    sides = ((1, spec.ally_kinds), (2, spec.enemy_kinds))
    return np.concatenate(
        [
            spawn_positions(spec, owner, kinds, balance=settings.balance, pitch=settings.spawn_pitch)
            for owner, kinds in sides
        ]
    )


def check_positions(spec: MapSpec, exact: Sequence[FixedPosition]) -> None:
    """Raises InvalidScenario if units overlap, do not fit, or cannot stand where the scenario puts them."""
    for one, other in combinations(exact, 2):
        if problem := _overlap(one.kind, (one.x, one.y), other.kind, (other.x, other.y)):
            raise InvalidScenario(other.key, f"{problem} (the other is {'.'.join(one.key)})")
    try:
        positions = starting_positions(spec)
    except ValueError as error:
        what = str(error).partition(": ")[2].partition(" with spawn_pitch")[0]
        raise InvalidScenario(("terrain",), what) from None
    kinds = (*spec.ally_kinds, *spec.enemy_kinds)
    sides = {1: slice(None, spec.num_agents), 2: slice(spec.num_agents, None)}
    for fixed in exact:
        own = [k == fixed.kind for k in kinds[sides[fixed.owner]]]
        distances = np.abs(positions[sides[fixed.owner]][own] - (fixed.x, fixed.y)).max(axis=1)
        if distances.min() > _TOLERANCE:
            raise InvalidScenario(fixed.key, "is taken by a group that comes before it; list exact positions first")
    gaps = np.linalg.norm(positions[: spec.num_agents, None] - positions[None, spec.num_agents :], axis=-1)
    for agent, enemy in zip(*np.nonzero(gaps < _widest(spec)), strict=True):
        u = spec.num_agents + enemy
        if problem := _overlap(kinds[agent], positions[agent], kinds[u], positions[u]):
            raise InvalidScenario(("enemies",), f"start too close to the agents: {problem}")


def separate_areas(spec: MapSpec) -> tuple[int, ...]:
    """Numbers of ground units that start in each connected part of the ground, largest first; units in different parts
    cannot reach each other. Flying units and cliff walkers are not counted."""
    areas = _areas(spec.walkable)
    found = []
    for name, (x, y) in zip((*spec.ally_kinds, *spec.enemy_kinds), starting_positions(spec), strict=True):
        if not any(_layer(unit_kind(name))):
            found.append(int(areas[int(x), int(y)]))
    return tuple(sorted((found.count(area) for area in set(found)), reverse=True))


def _areas(walkable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[X, Y] number of the connected part to which a walkable cell belongs, -1 elsewhere; connected by edges only."""
    areas = np.full(walkable.shape, -1, np.int64)
    for area, start in enumerate(zip(*np.nonzero(walkable), strict=True)):
        if areas[start] >= 0:
            continue
        areas[start] = area
        waiting = deque([start])
        while waiting:
            x, y = waiting.popleft()
            for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                inside = 0 <= cell[0] < walkable.shape[0] and 0 <= cell[1] < walkable.shape[1]
                if inside and walkable[cell] and areas[cell] < 0:
                    areas[cell] = area
                    waiting.append(cell)
    return areas


def _overlap(one: str, here: Sequence[float], other: str, there: Sequence[float]) -> str:
    """The problem with two units' positions; empty if there is none."""
    first, second = unit_kind(one), unit_kind(other)
    needed = first.separation_radius + second.separation_radius
    distance = float(np.hypot(here[0] - there[0], here[1] - there[1]))
    if _layer(first) != _layer(second) or distance >= needed - _TOLERANCE:
        return ""
    where = f"a {one} at ({here[0]:g}, {here[1]:g}) and a {other} at ({there[0]:g}, {there[1]:g})"
    return f"{where} are {distance:.2f} apart; they need {needed:g}"


def _layer(kind: UnitKind) -> tuple[bool, bool]:
    """Layer of movement; units of different layers pass through each other."""
    return kind.flies, kind.cliff_walker


def _widest(spec: MapSpec) -> float:
    return 2.0 * max(unit_kind(kind).separation_radius for kind in {*spec.ally_kinds, *spec.enemy_kinds})
