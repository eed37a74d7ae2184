"""Constants of the battles on one map, laid out for the engine's kernels.

Shapes: N agents, M enemies, U = N + M units, agents first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dm2_ray.arrays import Float64s, Int64s
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.spawn_positions import spawn_positions
from dm2_ray.world.maps.terrain import AIR, CLIFF_WALKER, GROUND
from dm2_ray.world.unit_kinds import UnitKind, unit_kind

MELEE_RANGE = 1.0
"""Weapons with a shorter range are melee weapons."""


(
    HEALTH_MAX,
    SHIELD_MAX,
    ARMOR,
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
    SIMULTANEOUS_HITS,
    SPLASH_SHAPE,
    SPLASH_RADIUS,
    SPLASH_HALF_LENGTH,
    EXPLODES,
    ACCELERATION,
    ENERGY_START,
    ENERGY_MAX,
    ENERGY_REGENERATION,
    HEAL_RATE,
    ENERGY_PER_HEALTH,
    HEAL_MIN_ENERGY,
    HEAL_SCAN_RANGE,
    IS_HEALABLE,
    LAYER,
) = range(35)
NUM_STATS = 35
"""Rows of UnitTables.stats. SECOND_HIT_DELAY 0 means a single hit, MISSILE_SPEED 0 an instant hit, ACCELERATION 0 full
speed at once; LAYER is one of the layers in maps.terrain. For healers, WEAPON_RANGE is the range of their healing."""

SPLASH_CIRCLE, SPLASH_LINE = 1, 2
"""Values of SPLASH_SHAPE; 0 hits the target alone."""


Stats = Float64s


class UnitTables(NamedTuple):
    """Constants that every game loop needs.

    Attributes:
        stats: [35, U] times in game loops, lengths in cells, rates per loop.
        damage: [U, U] damage of one hit of the row's unit on the column's, before armor; 0 if it cannot be hit.
        widest: The largest separation radius.
        largest_radius: The largest radius in which units are hit.
        has_delayed_hits: Some unit's hits take time: missiles and second blows.
    """

    num_agents: int
    stats: Float64s
    damage: Float64s
    widest: float
    largest_radius: float
    has_healers: bool
    has_regeneration: bool
    has_delayed_hits: bool
    has_explosions: bool
    help_radius: float
    leash: float
    retaliation: bool


class InitialUnits(NamedTuple):
    """How battles start.

    Attributes:
        start: [U, 2] starting positions.
        attack_line: [2 sides, 4]: a scripted side attacks toward a point drawn on the segment (x0, y0, x1, y1).
        kind_order: [U] equal for units of one kind; agents are sorted by position within these groups when they are
            created.
        holds_ground: The enemies have no order: each stays where it is.
        num_loops: Game loops before the first observation.
    """

    start: Float64s
    attack_line: Float64s
    kind_order: Int64s
    holds_ground: bool
    spawn_jitter: float
    shuffles_enemies: bool
    scripted_agents: bool
    num_loops: int


def build_unit_tables(spec: MapSpec, settings: EngineSettings) -> UnitTables:
    """Engine constants of a map's units."""
    names = (*spec.ally_kinds, *spec.enemy_kinds)
    kinds = [unit_kind(name, settings.balance) for name in names]
    columns = [_statistics(kind, settings) for kind in kinds]
    stats = np.array([[column[row] for column in columns] for row in range(NUM_STATS)], dtype=np.float64)
    if spec.enemy_order.kind == "attack_agents":
        # The order names its targets, so agents are found at any distance.
        stats[SCAN_RANGE, spec.num_agents :] = np.hypot(*spec.walkable.shape)
    return UnitTables(
        num_agents=spec.num_agents,
        stats=stats,
        damage=np.array([[_hit_damage(kind, target) for target in kinds] for kind in kinds]),
        widest=float(stats[SEPARATION].max()),
        largest_radius=float(stats[RADIUS].max()),
        has_regeneration=bool((stats[[SHIELD_MAX, HEALTH_REGENERATION]] > 0.0).any()),
        has_delayed_hits=bool((stats[[MISSILE_SPEED, SECOND_HIT_DELAY]] > 0.0).any()),
        has_healers=any(kind.healing is not None for kind in kinds),
        has_explosions=any(kind.splash is not None and kind.splash.explodes_when_killed for kind in kinds),
        help_radius=float(settings.help_radius),
        leash=float(settings.leash),
        retaliation=settings.retaliation,
    )


def _statistics(kind: UnitKind, settings: EngineSettings) -> dict[int, float]:
    """One unit's column of UnitTables.stats."""
    body = {
        HEALTH_MAX: kind.health,
        SHIELD_MAX: kind.shield,
        ARMOR: kind.armor,
        HEALTH_REGENERATION: kind.health_regen_per_loop,
        SHIELD_REGENERATION: kind.shield_regen_per_loop,
        SHIELD_DELAY: kind.shield_regen_delay_loops,
        SPEED: kind.speed_per_loop,
        ACCELERATION: kind.acceleration_per_loop2 if kind.acceleration_per_loop2 < kind.speed_per_loop else 0.0,
        RADIUS: kind.radius,
        SEPARATION: kind.separation_radius,
        LAYER: float(AIR if kind.flies else CLIFF_WALKER if kind.cliff_walker else GROUND),
        IS_HEALABLE: float("Biological" in kind.attributes and "Structure" not in kind.attributes),
    }
    return dict.fromkeys(range(NUM_STATS), 0.0) | body | _weapon_table(kind, settings) | _healing_table(kind)


def _weapon_table(kind: UnitKind, settings: EngineSettings) -> dict[int, float]:
    weapon, splash = kind.weapon, kind.splash
    if weapon is None:
        return {}
    is_static = kind.speed_per_loop == 0.0
    chase = settings.chase_melee if weapon.range < MELEE_RANGE else settings.chase_ranged
    shape = 0 if splash is None else SPLASH_CIRCLE if splash.shape == "circle" else SPLASH_LINE
    return {
        WEAPON_RANGE: weapon.range,
        RANGE_SLOP: weapon.range_slop,
        PERIOD: weapon.period_loops,
        DAMAGE_POINT: weapon.damage_point_loops * settings.damage_point,
        BACKSWING: weapon.backswing_loops * settings.backswing,
        MISSILE_SPEED: weapon.missile_speed_per_loop or 0.0,
        SECOND_HIT_DELAY: weapon.second_hit_delay_loops,
        SIMULTANEOUS_HITS: float(weapon.hits if weapon.second_hit_delay_loops == 0.0 else 1),
        # A unit that cannot move ignores enemies out of its reach.
        SCAN_RANGE: weapon.range if is_static else max(weapon.range, settings.scan_range),
        CHASE: 0.0 if is_static else chase,
        DELAY_MIN: weapon.period_jitter_loops[0] * settings.random_delay,
        DELAY_SPAN: (weapon.period_jitter_loops[1] - weapon.period_jitter_loops[0]) * settings.random_delay,
        SPLASH_SHAPE: float(shape),
        SPLASH_RADIUS: 0.0 if splash is None else splash.radius,
        SPLASH_HALF_LENGTH: 0.0 if splash is None else splash.half_length,
        EXPLODES: float(splash is not None and splash.explodes_when_killed),
    }


def _healing_table(kind: UnitKind) -> dict[int, float]:
    healing = kind.healing
    if healing is None:
        return {}
    return {
        WEAPON_RANGE: healing.range,
        ENERGY_START: healing.energy_start,
        ENERGY_MAX: healing.energy_max,
        ENERGY_REGENERATION: healing.energy_regen_per_loop,
        HEAL_RATE: healing.health_per_loop,
        ENERGY_PER_HEALTH: healing.energy_per_health,
        HEAL_MIN_ENERGY: healing.min_energy,
        HEAL_SCAN_RANGE: healing.scan_range,
    }


def build_initial_units(spec: MapSpec, settings: EngineSettings) -> InitialUnits:
    """How battles on a map start."""
    names = (*spec.ally_kinds, *spec.enemy_kinds)
    enemy_point = next((spawn.x, spawn.y) for spawn in spec.spawns if spawn.owner == 2)
    return InitialUnits(
        start=np.concatenate(
            [
                spawn_positions(spec, owner, side, balance=settings.balance, pitch=settings.spawn_pitch)
                for owner, side in ((1, spec.ally_kinds), (2, spec.enemy_kinds))
            ]
        ),
        attack_line=np.array(
            [(*enemy_point, *enemy_point), (*spec.enemy_order.start, *spec.enemy_order.end)], dtype=np.float64
        ),
        holds_ground=spec.enemy_order.kind == "none",
        kind_order=np.array([names.index(name) for name in names], dtype=np.int64),
        spawn_jitter=float(settings.spawn_jitter),
        shuffles_enemies=settings.shuffle_enemies,
        scripted_agents=settings.scripted_agents,
        num_loops=settings.opening_loops,
    )


def _hit_damage(kind: UnitKind, target: UnitKind) -> float:
    weapon = kind.weapon
    if weapon is None or (target.flies and not weapon.hits_air):
        return 0.0
    if kind.splash is not None and kind.splash.structure_damage is not None and "Structure" in target.attributes:
        return kind.splash.structure_damage
    return weapon.damage + (weapon.bonus_damage if weapon.bonus_attribute in target.attributes else 0.0)
