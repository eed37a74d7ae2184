"""Read-only columns of a battle's units.

Shapes: B battles, U = N + M units, agents first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.units.state import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y


@dataclass(frozen=True, kw_only=True)
class UnitsView:
    """Read-only columns of the engine's units, agents first, for scripted players and renderers; agents do not see
    them. A dead unit keeps its last position."""

    num_agents: int
    x: NDArray[np.float64]
    """[B, U] map cells, growing east."""
    y: NDArray[np.float64]
    """[B, U] map cells, growing north."""
    health: NDArray[np.float64]
    """[B, U], 0 = dead."""
    shield: NDArray[np.float64]
    """[B, U]"""
    energy: NDArray[np.float64]
    """[B, U]; 0 for kinds without."""
    cooldown: NDArray[np.float64]
    """[B, U] game loops until the next attack may start."""
    target: NDArray[np.int64]
    """[B, U] index in 0..U - 1 of the unit that is being fought or healed; -1 for none and after a battle's end."""

    @staticmethod
    def from_arrays(num_agents: int, units: NDArray[np.float64], target: NDArray[np.int64]) -> UnitsView:
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
    def alive(self) -> NDArray[np.bool_]:
        """[B, U]"""
        return self.health > 0.0

    @property
    def agents(self) -> UnitsView:
        """The agents' columns [B, N]."""
        return self._columns(slice(None, self.num_agents), self.num_agents)

    @property
    def enemies(self) -> UnitsView:
        """The enemies' columns [B, M]."""
        return self._columns(slice(self.num_agents, None), 0)

    def _columns(self, part: slice, num_agents: int) -> UnitsView:
        return UnitsView(
            num_agents=num_agents,
            x=self.x[:, part],
            y=self.y[:, part],
            health=self.health[:, part],
            shield=self.shield[:, part],
            energy=self.energy[:, part],
            cooldown=self.cooldown[:, part],
            target=self.target[:, part],
        )
