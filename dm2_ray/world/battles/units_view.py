"""The columns of a battle's units, as they are read by scripted players and renderers.

Shapes: B battles, U = N + M units, agents first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dm2_ray.arrays import Bools, Float64s, Int64s
from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y

_Number = TypeVar("_Number", bound=np.floating)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitColumns(Generic[_Number]):
    """Numbers of all units; the last axis is U, agents first. A dead unit keeps its last position.

    Attributes:
        x: Map cells, growing east.
        y: Map cells, growing north.
        health: 0 = dead.
        energy: 0 for kinds without energy; likewise `shield`.
        cooldown: Game loops until the next attack may start.
        target: Index in 0..U - 1 of the unit that is being fought or healed; -1 for none and after a battle's end.
    """

    x: NDArray[_Number]
    y: NDArray[_Number]
    health: NDArray[_Number]
    shield: NDArray[_Number]
    energy: NDArray[_Number]
    cooldown: NDArray[_Number]
    target: Int64s


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitsView(UnitColumns[np.float64]):
    """Read-only view of the engine's units [B, U], for scripted players and renderers; agents do not see them."""

    num_agents: int

    @staticmethod
    def from_arrays(num_agents: int, units: Float64s, target: Int64s) -> UnitsView:
        """View of the engine's rows `units` [B, F, U] (see units.state) and of `target` [B, U]."""
        rows, targets = units.view(), target.view()
        rows.flags.writeable = targets.flags.writeable = False
        return UnitsView(
            num_agents=num_agents,
            x=rows[:, X],
            y=rows[:, Y],
            health=rows[:, HEALTH],
            shield=rows[:, SHIELD],
            energy=rows[:, ENERGY],
            cooldown=rows[:, COOLDOWN],
            target=targets,
        )

    @property
    def alive(self) -> Bools:
        """[B, U]"""
        return self.health > 0.0

    @property
    def agents(self) -> UnitsView:
        """The agents' columns [B, N]."""
        return self._part(slice(None, self.num_agents), self.num_agents)

    @property
    def enemies(self) -> UnitsView:
        """The enemies' columns [B, M]."""
        return self._part(slice(self.num_agents, None), 0)

    def _part(self, units: slice, num_agents: int) -> UnitsView:
        columns = {column.name: getattr(self, column.name)[:, units] for column in fields(UnitColumns)}
        return UnitsView(num_agents=num_agents, **columns)
