"""`dm2 bench`: what it measures, by its switches.

Each measurement is imported where it is asked for, so that `--help` and refusals do not wait for torch and Ray.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.parsing import add_command, natural, positive
from dm2_ray.errors import UserError

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers


def add_parsers(subparsers: Subparsers) -> None:
    """Adds the command to the command line's."""
    parser = add_command(
        subparsers, "bench", bench, "measure rollouts and iterations against stock RLlib in one run",
        "  dm2 bench\n  dm2 bench --map 3m --json\n"
        "  dm2 bench --world\n  dm2 bench --world --map MMM2 --map corridor --json\n"
        "  dm2 bench --faults --kills 60\n  dm2 bench --driver --workers 1,2,4,8,16,32\n"
        "  dm2 bench --memory runs/dm2-3m-0\n",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--world", action="store_true", help="instead the world alone in one thread: engine, SMACEnv, first call"
    )
    what.add_argument(
        "--faults", action="store_true",
        help="instead kill a run's processes at random moments: what it learns, and how soon they are back",
    )  # fmt: skip
    what.add_argument(
        "--driver", action="store_true", help="instead what an iteration costs the driver, by the rollout workers"
    )
    what.add_argument(
        "--memory", type=Path, metavar="RUN_DIR", help="instead whether the memory of a run's processes grows"
    )
    parser.add_argument(
        "--map", action="append", metavar="MAP",
        help="SMAC map or scenario (5m_vs_6m; with --faults 3m); with --world it may be given again (six maps of 6 to "
        "66 units)",
    )  # fmt: skip
    parser.add_argument("--repetitions", type=positive, default=3, metavar="N", help="rounds (%(default)s)")
    parser.add_argument("--kills", type=positive, default=60, metavar="K", help="with --faults (%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="with --faults (%(default)s)")
    parser.add_argument(
        "--iterations", type=positive, metavar="I", help="with --faults: of the run (120); with --driver: measured (30)"
    )
    parser.add_argument(
        "--workers", type=_sizes, metavar="W,W,…", help="with --driver: numbers of workers (1,2,4,8,16,32)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def bench(options: argparse.Namespace) -> int:
    """The command."""
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
    from dm2_ray.world.maps.registry import world_map

    map_name = _map(options, "3m")
    world_map(map_name, None)  # an unknown one is refused here
    plan = FaultInjectionPlan(
        map=map_name, kills=options.kills, seed=options.seed, iterations=options.iterations or 120
    )
    return bench_faults(plan, as_json=options.json)


def _map(options: argparse.Namespace, default: str) -> str:
    maps: list[str] = options.map or [default]
    if len(maps) > 1:
        raise UserError(f"one map expected, got {', '.join(maps)} (--world measures several)")
    return maps[0]


def _sizes(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]
