"""The type of a map: teams, sizes, terrain, spawns and the enemies' order.

x grows east, y grows north. Shapes: N agents, M enemies, A actions, X x Y cells.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dm2_ray.errors import UserError

Race = Literal["T", "P", "Z"]


class UnknownMapError(UserError, ValueError):
    """No map has this name; the message names the closest ones."""


@dataclass(frozen=True, kw_only=True)
class Spawn:
    """One line of the map's spawning script: `count` units of `kind`, all at the point (x, y).

    Attributes:
        owner: 1: the agents' side; 2: the enemy.
    """

    owner: Literal[1, 2]
    count: int
    kind: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class EnemyOrder:
    """The one order that all enemies get at the start of a battle.

    Attributes:
        kind: attack_move: advance to a point drawn uniformly on the segment start..end (one point if they are equal)
            and attack agents on the way; attack_agents: attack the group of agents wherever they are; none: stay.
    """

    kind: Literal["attack_move", "attack_agents", "none"]
    start: tuple[float, float] = (0.0, 0.0)
    end: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MapSpec:
    """One map.

    Attributes:
        num_actions: A = 6 + M: no-op, stop, four moves, one action per target; or 6 + N if that is more and the agents
            have medivacs, whose targets are agents.
        ally_race: SMAC's letter for the agents' side; "P" means that shields are shown, so a side of several races has
            it if any of its kinds has shields.
        unit_type_bits: Length of the one-hot of unit types in observations; 0 if each side has a single type.
        map_type: SMAC's family name. Rules depend only on "MMM": medivacs heal agents, and a side that has only
            medivacs left has lost.
        ally_kinds: [N] in agent order: by unit type, then by position; constant within a map.
        enemy_kinds: [M] in the order in which the map's script creates them.
        ally_types: The agents' kinds in the order of the one-hot of unit types; likewise `enemy_types`.
        walkable: [X, Y], indexed [x, y]; cell (x, y) covers [x, x + 1) x [y, y + 1). 32 x 32 on SMAC's maps.
        terrain_height: [X + 1, Y + 1] heights at the cells' corners, indexed [x, y].
        spawns: In the order of the script.
        is_scenario: Not one of SMAC's maps: the name alone does not identify it (see `scenario_hash`).
    """

    name: str
    num_agents: int
    num_enemies: int
    num_actions: int
    episode_limit: int
    ally_race: Race
    enemy_race: Race
    unit_type_bits: int
    map_type: str
    ally_kinds: tuple[str, ...]
    enemy_kinds: tuple[str, ...]
    ally_types: tuple[str, ...]
    enemy_types: tuple[str, ...]
    walkable: NDArray[np.bool_]
    terrain_height: NDArray[np.float64]
    spawns: tuple[Spawn, ...]
    enemy_order: EnemyOrder
    is_scenario: bool = False

    def __post_init__(self) -> None:
        sizes = {
            "ally_kinds": (len(self.ally_kinds), self.num_agents),
            "enemy_kinds": (len(self.enemy_kinds), self.num_enemies),
            "num_actions": (self.num_actions, num_actions_for(self.ally_kinds, self.enemy_kinds)),
            "ally_types": (sorted(self.ally_types), sorted(set(self.ally_kinds))),
            "enemy_types": (sorted(self.enemy_types), sorted(set(self.enemy_kinds))),
            "unit_type_bits": (self.unit_type_bits, type_bits_for(self.ally_kinds, self.enemy_kinds)),
            "allied spawns": (sum(s.count for s in self.spawns if s.owner == 1), self.num_agents),
            "enemy spawns": (sum(s.count for s in self.spawns if s.owner == 2), self.num_enemies),
        }
        for what, (found, expected) in sizes.items():
            if found != expected:
                raise ValueError(f"map {self.name!r}: {what}: found {found}, expected {expected}")
        if self.terrain_height.shape != tuple(n + 1 for n in self.walkable.shape):
            raise ValueError(
                f"map {self.name!r}: terrain_height has shape {self.terrain_height.shape}, expected one more "
                f"vertex than cells along each axis of walkable {self.walkable.shape}"
            )

    @property
    def scenario_hash(self) -> str | None:
        """Hash (16 hexadecimal digits) of a scenario's content without its name; None on SMAC's maps."""
        if not self.is_scenario:
            return None
        plain = (self.episode_limit, self.ally_kinds, self.enemy_kinds, self.walkable.shape)
        script = ([astuple(spawn) for spawn in self.spawns], astuple(self.enemy_order))
        digest = hashlib.sha256(json.dumps([plain, script]).encode())
        digest.update(np.packbits(self.walkable).tobytes())
        digest.update(self.terrain_height.tobytes())
        return digest.hexdigest()[:16]


def num_actions_for(ally_kinds: tuple[str, ...], enemy_kinds: tuple[str, ...]) -> int:
    """A. The targets of medivacs among the agents are agents, those of all others are enemies."""
    return 6 + max(len(enemy_kinds), len(ally_kinds) if "medivac" in ally_kinds else 0)


def type_bits_for(ally_kinds: tuple[str, ...], enemy_kinds: tuple[str, ...]) -> int:
    """Length of the one-hot of unit types: 0 if each side has a single kind."""
    kinds = max(len(set(ally_kinds)), len(set(enemy_kinds)))
    return kinds if kinds > 1 else 0
