"""`dm2 bench`: each option measures something else."""

from __future__ import annotations

import argparse

from dm2_ray.errors import UserError
from dm2_ray.world.maps.registry import world_map

# Stock RLlib takes 4 s to import and the compiler 0.5 s: each measurement is imported only when it is asked for.


def bench(options: argparse.Namespace) -> int:
    if options.world:
        from dm2_ray.benchmarks.world_throughput import MAPS, bench_world

        return bench_world(options.map or MAPS, repetitions=options.repetitions, as_json=options.json)
    if options.faults:
        return _bench_faults(options)
    if options.driver:
        from dm2_ray.benchmarks.driver_cost import SIZES, bench_driver

        return bench_driver(options.workers or SIZES, iterations=options.iterations or 30, as_json=options.json)
    if options.memory is not None:
        from dm2_ray.benchmarks.memory_trend import bench_memory

        return bench_memory(options.memory, as_json=options.json)
    from dm2_ray.benchmarks.throughput import bench_rllib

    return bench_rllib(map_name=_map(options, "5m_vs_6m"), repetitions=options.repetitions, as_json=options.json)


def _bench_faults(options: argparse.Namespace) -> int:
    from dm2_ray.benchmarks.fault_injection import FaultInjectionPlan, bench_faults

    map_name = _map(options, "3m")
    world_map(map_name, None)  # refuses an unknown one
    plan = FaultInjectionPlan(
        map=map_name, kills=options.kills, seed=options.seed, iterations=options.iterations or 120
    )
    return bench_faults(plan, as_json=options.json)


def _map(options: argparse.Namespace, default: str) -> str:
    maps: list[str] = options.map or [default]
    if len(maps) > 1:
        raise UserError(f"one map expected, got {', '.join(maps)} (--world measures several)")
    return maps[0]
