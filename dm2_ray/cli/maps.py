"""`dm2 maps …`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from dm2_ray.terminal import StatusLine, format_table
from dm2_ray.world.maps.registry import load_map, scenario_names
from dm2_ray.world.maps.scenario_checks import separate_areas
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables, max_reward
from dm2_ray.world.unit_kinds import unit_kind
from dm2_ray.world.viewing.text_map import count_units, draw_map

if TYPE_CHECKING:
    from dm2_ray.world.maps.map_spec import MapSpec

log = logging.getLogger(__name__)

# The compiler (numba) takes 0.5 s to import: only the commands that play or find ways wait for it.


def list_maps(options: argparse.Namespace) -> int:
    sections = {
        "maps": [_brief_record(load_map(name)) for name in map_names()],
        "scenarios": [_brief_record(load_map(name)) for name in scenario_names()],
    }
    if options.json:
        print(json.dumps(sections))
        return 0
    titles = {"maps": "SMAC's maps", "scenarios": "packaged scenarios (for your own, give the path of its YAML file)"}
    columns = ("name", "agents", "enemies", "limit")
    for section, records in sections.items():
        print(f"{titles[section]}:")
        rows = [columns, *(_brief_row(record) for record in records)]
        print(format_table(rows, indent="  "))
        print()
    return 0


def show(options: argparse.Namespace) -> int:
    spec = load_map(options.map)
    record = _full_record(spec)
    drawing = draw_map(spec)
    if options.json:
        print(json.dumps({**record, "drawing": drawing.splitlines()}))
        return 0
    width, height = spec.walkable.shape
    move, enemies, allies, own = record["obs_parts"].values()
    facts = {
        "episode limit": f"{spec.episode_limit} env steps",
        "map": f"{width} x {height} cells, {int(spec.walkable.sum())} can be walked on",
        "n_actions": str(spec.num_actions),
        "observation": f"{record['obs_shape']} = move {move} + enemies {enemies[0]} x {enemies[1]} "
        f"+ allies {allies[0]} x {allies[1]} + own {own}",
        "state": str(record["state_shape"]),
        "max reward": f"{record['max_reward']:g}",
        "enemies' order": _format_order(spec),
    }
    kind = "scenario" if spec.is_scenario else "SMAC map"
    print(f"{spec.name}: {kind}, {count_units(spec.ally_kinds)} against {count_units(spec.enemy_kinds)}\n")
    print(format_table(list(facts.items()), indent="  "))
    print()
    columns = ("side", "ids", "kind", "health", "shield", "armor", "damage", "range", "cells/step")
    print(format_table([columns, *map(_unit_row, record["units"])], indent="  "))
    print(f"\n{drawing}")
    return 0


def check(options: argparse.Namespace) -> int:
    from dm2_ray.world.maps.terrain import build_terrain

    spec = load_map(options.file)
    build_terrain(spec.walkable)  # raises if the map cannot be played
    width, height = spec.walkable.shape
    print(
        f"{options.file}: valid; {spec.name}, {count_units(spec.ally_kinds)} against {count_units(spec.enemy_kinds)} "
        f"on {width} x {height} cells, {spec.episode_limit} env steps"
    )
    areas = separate_areas(spec)
    if len(areas) > 1:
        log.warning(
            "%s: warning: ground units start in %d parts of the ground with no way between them (%s units)",
            options.file,
            len(areas),
            ", ".join(map(str, areas)),
        )
    return 0


def difficulty(options: argparse.Namespace) -> int:
    from dm2_ray.analysis.map_difficulty import markdown_table, measure_win_rates

    specs = [load_map(name) for name in options.settings or map_names()]
    status = StatusLine(sys.stderr, terminal_every_s=0.1, plain_every_s=None)
    results = []
    for index, spec in enumerate(specs, start=1):
        started = time.monotonic()
        where = f"[{index}/{len(specs)}] {spec.name}"

        def show_progress(team: str, ended: int, where: str = where) -> None:
            if status.is_due():
                status.show(f"{where}  {team} {ended}/{options.battles}")

        result = measure_win_rates(spec, battles=options.battles, seed=options.seed, progress=show_progress)
        rates = ", ".join(f"{team} {result.win_rate(team):.2f}" for team in result.won)
        status.close()
        status.note(f"{where}  {rates}  ({time.monotonic() - started:.1f} s)")
        results.append(result)
    if options.json:
        print(json.dumps({"seed": options.seed, "maps": [result.record() for result in results]}))
    else:
        print(markdown_table(results))
    return 0


def _brief_record(spec: MapSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "agents": dict(Counter(spec.ally_kinds)),
        "enemies": dict(Counter(spec.enemy_kinds)),
        "n_agents": spec.num_agents,
        "n_enemies": spec.num_enemies,
        "episode_limit": spec.episode_limit,
    }


def _brief_row(record: dict[str, Any]) -> tuple[str, ...]:
    sides = [count_units(Counter(record[side]).elements()) for side in ("agents", "enemies")]
    return record["name"], *sides, str(record["episode_limit"])


def _full_record(spec: MapSpec) -> dict[str, Any]:
    """Sizes with SMAC's default arguments, units in the order of their numbers, and the order that the enemies obey."""
    smac = SmacOptions()
    tables = build_tables(spec, smac)
    order = spec.enemy_order
    line = {"start": list(order.start), "end": list(order.end)} if order.kind == "attack_move" else {}
    return {
        **_brief_record(spec),
        "scenario_hash": spec.scenario_hash,
        "map_size": list(spec.walkable.shape),
        "n_actions": tables.num_actions,
        "obs_shape": tables.obs_size,
        "obs_parts": {
            "move": tables.enemies_at,
            "enemies": [spec.num_enemies, tables.enemy_width],
            "allies": [spec.num_agents - 1, tables.ally_width],
            "own": tables.obs_size - tables.own_at,
        },
        "state_shape": tables.state_size,
        "max_reward": max_reward(spec, smac),
        "units": [
            *_unit_records("agents", spec.ally_kinds, smac.step_mul),
            *_unit_records("enemies", spec.enemy_kinds, smac.step_mul),
        ],
        "enemy_order": {"kind": order.kind, **line},
    }


def _unit_records(side: str, kinds: tuple[str, ...], loops_per_step: int) -> list[dict[str, Any]]:
    """One record for each group of consecutive units of the same kind."""
    starts = [index for index in range(len(kinds)) if index == 0 or kinds[index] != kinds[index - 1]]
    records = []
    for first, last in zip(starts, [*starts[1:], len(kinds)], strict=True):
        kind = unit_kind(kinds[first])
        weapon = kind.weapon
        records.append(
            {
                "side": side,
                "ids": list(range(first, last)),
                "kind": kind.name,
                "health": kind.health,
                "shield": kind.shield,
                "armor": kind.armor,
                "damage": weapon.damage if weapon else None,
                "bonus_damage": {weapon.bonus_attribute: weapon.bonus_damage}
                if weapon and weapon.bonus_attribute
                else {},
                "hits": weapon.hits if weapon else 0,
                "range": weapon.range if weapon else None,
                "cells_per_step": kind.speed_per_loop * loops_per_step,
            }
        )
    return records


def _unit_row(unit: dict[str, Any]) -> tuple[str, ...]:
    ids = unit["ids"]
    damage = reach = "-"
    if unit["damage"] is not None:
        bonus = "".join(f" +{amount:g} {attribute}" for attribute, amount in unit["bonus_damage"].items())
        damage, reach = f"{unit['hits']} x {unit['damage']:g}{bonus}", f"{unit['range']:g}"
    return (
        unit["side"],
        f"{ids[0]}-{ids[-1]}" if len(ids) > 1 else str(ids[0]),
        unit["kind"],
        *(f"{unit[name]:g}" for name in ("health", "shield", "armor")),
        damage,
        reach,
        f"{unit['cells_per_step']:.4g}",
    )


def _format_order(spec: MapSpec) -> str:
    order = spec.enemy_order
    if order.kind == "none":
        return "none (they stay)"
    if order.kind == "attack_agents":
        return "attack the agents wherever they are"
    (x, y), (to_x, to_y) = order.start, order.end
    if order.start == order.end:
        return f"attack-move to ({x:g}, {y:g})"
    return f"attack-move to a random point between ({x:g}, {y:g}) and ({to_x:g}, {to_y:g})"
