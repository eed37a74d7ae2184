"""Unit kinds and their statistics.

Numbers are those of StarCraft II's published game data (build 4.10.0.75689, SC2Mapster/SC2GameData) with the copies
of the agents' kinds that the SMAC maps define. Two balances are packaged:

* ``liberty``: the data that the SMAC maps load (their only dependency is Liberty.SC2Mod); the default;
* ``lotv``: the ladder balance of Legacy of the Void, as listed on Liquipedia.

Times are in game loops (16 loops are one second of the game's "Normal" speed), lengths in map cells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from dm2_ray.errors import suggest_name

Balance = Literal["liberty", "lotv"]

STOCK_TYPES = {
    "colossus": 4,
    "baneling": 9,
    "marine": 48,
    "marauder": 51,
    "medivac": 54,
    "zealot": 73,
    "stalker": 74,
    "spinecrawler": 98,
    "zergling": 105,
    "hydralisk": 107,
}
"""The game's own numbers of the kinds. SMAC's enemies have these; its agents are copies with other numbers."""


@dataclass(frozen=True, kw_only=True)
class Weapon:
    """A unit's weapon. Ranges are from edge to edge: add both units' radii for the distance between centers.

    Attributes:
        bonus_damage: Added to `damage` against a target with the attribute `bonus_attribute`.
        hits: Hits per attack; armor is subtracted from each.
        min_scan_range: Targets are searched within max(range, min_scan_range).
        range_slop: An attack that has begun still lands if its target is up to this distance beyond `range`.
        period_jitter_loops: Bounds of the uniform random delay added to each period.
        damage_point_loops: From the start of the attack to the hit; moving before cancels the attack.
        missile_speed_per_loop: None: the hit is instantaneous.
    """

    damage: float
    bonus_damage: float
    bonus_attribute: str | None
    hits: int
    second_hit_delay_loops: float
    range: float
    min_scan_range: float
    range_slop: float
    period_loops: float
    period_jitter_loops: tuple[float, float]
    damage_point_loops: float
    backswing_loops: float
    missile_speed_per_loop: float | None
    hits_air: bool


@dataclass(frozen=True, kw_only=True)
class Splash:
    """Area of a weapon's damage."""

    shape: Literal["circle", "line"]
    """circle: around the attacker (baneling); line: through the target, perpendicular to the shot (colossus)."""
    radius: float
    half_length: float
    structure_damage: float | None
    explodes_when_killed: bool


@dataclass(frozen=True, kw_only=True)
class Healing:
    """A medivac's heal and the energy it costs. Only biological units other than itself are healed."""

    energy_start: float
    energy_max: float
    energy_regen_per_loop: float
    health_per_loop: float
    energy_per_health: float
    range: float
    scan_range: float
    min_energy: float
    """Energy needed to begin healing."""


@dataclass(frozen=True, kw_only=True)
class UnitKind:
    """Statistics of one kind of unit."""

    name: str
    health: float
    armor: float
    health_regen_per_loop: float
    shield: float
    shield_regen_per_loop: float
    shield_regen_delay_loops: float
    """Loops without damage before the shield regenerates."""
    speed_per_loop: float
    acceleration_per_loop2: float
    radius: float
    separation_radius: float
    attributes: frozenset[str]
    """Some of Armored, Biological, Light, Massive, Mechanical, Structure."""
    flies: bool
    cliff_walker: bool = False
    """Walks over cliffs and units, and can be hit by weapons that hit air as well."""
    weapon: Weapon | None = None
    splash: Splash | None = None
    healing: Healing | None = None


@cache
def _packaged() -> dict[str, dict[str, dict[str, Any]]]:
    text = resources.files("dm2_ray.world").joinpath("data/units.json").read_text(encoding="utf-8")
    tables: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return tables


@cache
def kind_names() -> tuple[str, ...]:
    """Names of all unit kinds in the order of SMAC's unit catalog, which is alphabetical: agents are numbered and
    one-hots of types are laid out in this order."""
    return tuple(sorted(_packaged()["liberty"]))


@cache
def unit_kind(name: str, balance: Balance = "liberty") -> UnitKind:
    """The unit kind called `name`.

    Args:
        name: One of marine, marauder, stalker, zealot, colossus, zergling, baneling, hydralisk, spinecrawler, medivac.
        balance: The game data, ``liberty`` or ``lotv``.

    Raises:
        ValueError: No such kind or balance.
    """
    tables = _packaged()
    if balance not in tables:
        raise ValueError(f"unknown balance {balance!r}: expected one of {', '.join(tables)}")
    kinds = {**tables["liberty"], **tables[balance]}
    if name not in kinds:
        raise ValueError(f"unknown unit kind {name!r}; {suggest_name(name, kinds, 'kinds')}")
    fields = dict(kinds[name])
    fields["attributes"] = frozenset(fields["attributes"])
    if "weapon" in fields:
        weapon = dict(fields["weapon"])
        weapon["period_jitter_loops"] = tuple(weapon["period_jitter_loops"])
        fields["weapon"] = Weapon(**weapon)
    if "splash" in fields:
        fields["splash"] = Splash(**fields["splash"])
    if "healing" in fields:
        fields["healing"] = Healing(**fields["healing"])
    return UnitKind(name=name, **fields)
