"""Free parameters of the embedded engine: properties of the closed StarCraft II engine that are unknown or may vary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from dm2_ray.errors import suggest_name

ENGINE_VERSION = "3"
"""Changes whenever the same seed and actions may give a different battle; recorded with demonstrations."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Free parameters of the embedded engine. Distances in map cells, times in game loops (16 per "Normal" second).

    Attributes:
        balance: Unit statistics: the data that the SMAC maps load, or the 4.10 ladder's.
        chase_ranged: A scripted ranged unit follows its target up to this distance beyond its weapon range, unless
            another agent is within range; then it takes the nearest.
        chase_melee: The same for melee units; with 0 they turn to the nearest agent whenever the target is out of
            reach.
        retaliation: A scripted unit without a target attacks a unit that hit it, or a nearby friend, in the last 32
            loops.
        scan_range: Edge distance at which scripted units notice agents (their weapon range if that is longer).
        help_radius: Friends hit within this distance call for help.
        leash: An attacker farther away than this is not pursued.
        damage_point: Whether a shot is released only after the weapon's damage point; moving before cancels it.
        backswing: Whether a unit whose target left its range waits for the end of the weapon's backswing before it
            follows.
        random_delay: Whether every attack's period varies uniformly by -1 to +2 loops.
        spawn_pitch: Distance between units created together, in multiples of the sum of their separation radii.
        spawn_jitter: Units start up to this distance from their position along each axis; 0 in StarCraft II.
        shuffle_enemies: Whether the enemies of one kind exchange their starting positions in every battle, as
            StarCraft II lists its units in an order of its own; False ties enemy numbers to places.
        opening_loops: Game loops between the units' creation and the first observation; enemies may already move.
        scripted_agents: The scripted opponent plays both sides and actions are ignored: for fairness checks.

    Raises:
        ValueError: A value is out of range.
    """

    balance: Literal["liberty", "lotv"] = "liberty"
    chase_ranged: float = 2.0
    chase_melee: float = 0.0
    retaliation: bool = True
    scan_range: float = 5.0
    help_radius: float = 4.0
    leash: float = 21.0
    damage_point: bool = True
    backswing: bool = True
    random_delay: bool = True
    spawn_pitch: float = 1.0
    spawn_jitter: float = 0.0
    shuffle_enemies: bool = True
    opening_loops: int = 1
    scripted_agents: bool = False

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> EngineSettings:
        """Settings from keyword arguments.

        Raises:
            TypeError: An unknown setting (the message names the closest one), or a value of the wrong type.
            ValueError: A value out of range.
        """
        kinds = {field.name: str(field.type) for field in fields(cls)}
        for name, value in arguments.items():
            if name not in kinds:
                raise TypeError(f"unknown engine setting {name!r}; {suggest_name(name, kinds, 'settings')}")
            accepted: tuple[type, ...] = {"bool": (bool,), "int": (int,), "float": (int, float)}.get(
                kinds[name], (str,)
            )
            if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
                raise TypeError(f"{name} is {value!r}; it must be {kinds[name]}")
        return cls(**arguments)

    def __post_init__(self) -> None:
        if self.balance not in ("liberty", "lotv"):
            raise ValueError(f"balance is {self.balance!r}; it must be 'liberty' or 'lotv'")
        for name in ("chase_ranged", "chase_melee", "scan_range", "help_radius", "leash", "spawn_jitter"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a finite number of at least 0")
        if not (math.isfinite(self.spawn_pitch) and self.spawn_pitch >= 1):
            raise ValueError(f"spawn_pitch is {self.spawn_pitch}; it must be at least 1, or units would overlap")
        if not 0 <= self.opening_loops <= 8:
            raise ValueError(f"opening_loops is {self.opening_loops}; it must be between 0 and 8")
