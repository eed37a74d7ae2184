"""What does not change during battles on one map, laid out for the engine's kernels.

Shapes: N agents, M enemies, U = N + M units, agents first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps import MapSpec, load_map, map_names
from dm2_ray.world.placement import starting_positions
from dm2_ray.world.units import UnitKind, Weapon, unit_kind

SUPPORTED_KINDS = ("marine", "stalker", "zealot")

_MELEE_RANGE = 1.0


class UnsupportedMapError(ValueError):
    """A map with units whose abilities the embedded engine does not play."""


(
    HEALTH_MAX,
    SHIELD_MAX,
    ARMOUR,
    HEALTH_REGENERATION,
    SHIELD_REGENERATION,
    SHIELD_DELAY,
    SPEED,
    RADIUS,
    SEPARATION,
    SECOND_HIT_DELAY,
    WEAPON_RANGE,
    RANGE_SLOP,
    PERIOD,
    DAMAGE_POINT,
    BACKSWING,
    MISSILE_SPEED,
    SCAN_RANGE,
    CHASE,
    DELAY_MIN,
    DELAY_SPAN,
) = range(20)
"""Rows of UnitTables.stats. A SECOND_HIT_DELAY of 0 is a single hit, a MISSILE_SPEED of 0 an instant one."""


Stats = NDArray[np.float64]


class UnitTables(NamedTuple):
    """Constants that every game loop needs."""

    num_agents: int
    stats: NDArray[np.float64]
    """[20, U] times in game loops, lengths in cells, rates per loop."""
    damage: NDArray[np.float64]
    """[U, U] damage of one hit of the row's unit on the column's, before armour."""
    walkable: NDArray[np.bool_]
    """Indexed by cell [x, y]."""
    help_radius: float
    leash: float
    retaliation: bool


class Opening(NamedTuple):
    """How battles begin."""

    start: NDArray[np.float64]
    """[U, 2] starting places."""
    attack_line: NDArray[np.float64]
    """[2 sides, 4]: a scripted side attacks towards a point drawn on the segment (x0, y0, x1, y1)."""
    kind_order: NDArray[np.int64]
    """[U] equal for units of one kind: agents are sorted within these groups when they are created."""
    spawn_jitter: float
    scripted_agents: bool
    num_loops: int
    """Game loops before the first observation."""


def supported_maps() -> tuple[str, ...]:
    """Names of the maps that the embedded engine plays."""
    return tuple(name for name in map_names() if _is_supported(load_map(name)))


def _is_supported(spec: MapSpec) -> bool:
    kinds = {*spec.ally_kinds, *spec.enemy_kinds}
    return kinds <= set(SUPPORTED_KINDS) and spec.enemy_order.kind == "attack_move"


def build_unit_tables(spec: MapSpec, settings: EngineSettings) -> UnitTables:
    """Engine constants of a map.

    Raises UnsupportedMapError, naming the supported maps, if some unit of the map is beyond the engine.
    """
    if not _is_supported(spec):
        missing = sorted({*spec.ally_kinds, *spec.enemy_kinds} - set(SUPPORTED_KINDS))
        raise UnsupportedMapError(
            f"the embedded engine cannot play {spec.name!r} (it lacks: {', '.join(missing)}); "
            f"supported maps: {', '.join(supported_maps())}"
        )
    names = (*spec.ally_kinds, *spec.enemy_kinds)
    kinds = [unit_kind(name, settings.balance) for name in names]
    weapons = [_weapon_of(kind) for kind in kinds]
    stats = {
        HEALTH_MAX: [kind.health for kind in kinds],
        SHIELD_MAX: [kind.shield for kind in kinds],
        ARMOUR: [kind.armour for kind in kinds],
        HEALTH_REGENERATION: [kind.health_regen_per_loop for kind in kinds],
        SHIELD_REGENERATION: [kind.shield_regen_per_loop for kind in kinds],
        SHIELD_DELAY: [kind.shield_regen_delay_loops for kind in kinds],
        SPEED: [kind.speed_per_loop for kind in kinds],
        RADIUS: [kind.radius for kind in kinds],
        SEPARATION: [kind.separation_radius for kind in kinds],
        SECOND_HIT_DELAY: [weapon.second_hit_delay_loops for weapon in weapons],
        WEAPON_RANGE: [weapon.range for weapon in weapons],
        RANGE_SLOP: [weapon.range_slop for weapon in weapons],
        PERIOD: [weapon.period_loops for weapon in weapons],
        DAMAGE_POINT: [weapon.damage_point_loops * settings.damage_point for weapon in weapons],
        BACKSWING: [weapon.backswing_loops * settings.backswing for weapon in weapons],
        MISSILE_SPEED: [weapon.missile_speed_per_loop or 0.0 for weapon in weapons],
        SCAN_RANGE: [max(weapon.range, settings.scan_range) for weapon in weapons],
        CHASE: [settings.chase_melee if weapon.range < _MELEE_RANGE else settings.chase_ranged for weapon in weapons],
        DELAY_MIN: [weapon.period_jitter_loops[0] * settings.random_delay for weapon in weapons],
        DELAY_SPAN: [
            (weapon.period_jitter_loops[1] - weapon.period_jitter_loops[0]) * settings.random_delay
            for weapon in weapons
        ],
    }
    return UnitTables(
        num_agents=spec.num_agents,
        stats=np.array([stats[row] for row in range(len(stats))], dtype=np.float64),
        damage=np.array([[_damage_of_hit(weapon, target) for target in kinds] for weapon in weapons]),
        walkable=np.array(spec.walkable),
        help_radius=float(settings.help_radius),
        leash=float(settings.leash),
        retaliation=settings.retaliation,
    )


def build_opening(spec: MapSpec, settings: EngineSettings) -> Opening:
    """How battles on a map begin."""
    names = (*spec.ally_kinds, *spec.enemy_kinds)
    enemy_point = next((spawn.x, spawn.y) for spawn in spec.spawns if spawn.owner == 2)
    return Opening(
        start=np.concatenate(
            [
                starting_positions(spec, owner, side, balance=settings.balance, pitch=settings.spawn_pitch)
                for owner, side in ((1, spec.ally_kinds), (2, spec.enemy_kinds))
            ]
        ),
        attack_line=np.array(
            [(*enemy_point, *enemy_point), (*spec.enemy_order.start, *spec.enemy_order.end)], dtype=np.float64
        ),
        kind_order=np.array([names.index(name) for name in names], dtype=np.int64),
        spawn_jitter=float(settings.spawn_jitter),
        scripted_agents=settings.scripted_agents,
        num_loops=settings.opening_loops,
    )


def _weapon_of(kind: UnitKind) -> Weapon:
    if kind.weapon is None:
        raise UnsupportedMapError(f"unit kind {kind.name!r} has no weapon")
    return kind.weapon


def _damage_of_hit(weapon: Weapon, target: UnitKind) -> float:
    bonus = weapon.bonus_damage if weapon.bonus_attribute in target.attributes else 0.0
    return weapon.damage + bonus
