"""`dm2 bench --driver`: the driver's CPU time per iteration, as a function of the number of rollout workers.

Workers are small and share the CPUs, so that many fit on a small machine; in each iteration, every worker gets one
small task. Only the driver's own CPU time is measured, which other processes on the machine do not increase. A line,
a + b x workers, is fitted to it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.distributed.ray_session import ray_session
from dm2_ray.terminal import format_table

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)
MAP = "2m_vs_1z"
STEPS_PER_WORKER = 64
WARM_UP = 5
"""Iterations that are not measured."""
WORKER_MIB = 450.0
"""Expected memory of a worker."""
RESERVE_MIB = 2500.0
"""Memory that is left for everything else, for example the learners."""
SHARE, ITERATION_S = 0.1, 10.0
"""The driver counts as a bottleneck when it is busy for this share of an iteration of ITERATION_S seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverCost:
    """Medians over iterations, for one number of workers.

    Attributes:
        workers: Number of rollout workers.
        driver_cpu_ms: CPU time of the driver per iteration, all threads together.
        iteration_ms: Wall-clock time of an iteration; with more workers than CPUs, mostly their work.
    """

    workers: int
    driver_cpu_ms: float
    iteration_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearFit:
    """The line driver_cpu_ms = fixed_ms + per_worker_ms x workers; `largest_error_ms` is the largest deviation."""

    fixed_ms: float
    per_worker_ms: float
    largest_error_ms: float

    @classmethod
    def fit(cls, costs: Sequence[DriverCost]) -> LinearFit:
        """Fits at least two numbers of workers by least squares of relative errors.

        With absolute errors, the large sizes, whose times vary more, would determine the line alone.
        """
        workers = np.array([cost.workers for cost in costs], float)
        cpu = np.array([cost.driver_cpu_ms for cost in costs])
        per_worker, fixed = np.polyfit(workers, cpu, 1, w=1 / cpu)
        errors = np.abs(fixed + per_worker * workers - cpu)
        return cls(fixed_ms=float(fixed), per_worker_ms=float(per_worker), largest_error_ms=float(errors.max()))

    def workers_at(self, driver_ms: float) -> float:
        """Number of workers at which the driver needs `driver_ms` per iteration; may be inf."""
        return (driver_ms - self.fixed_ms) / self.per_worker_ms if self.per_worker_ms > 0 else float("inf")


def measure_driver_cost(workers: int, iterations: int) -> DriverCost:
    """Runs IPPO with this number of workers; Ray must be running, with CPUs for them."""
    config = DM2Config().dm2(
        variant="ippo",
        world={"map": MAP},
        rollout={
            "env_runners": workers,
            "battles_per_env_runner": 2,
            "env_steps": STEPS_PER_WORKER * workers,
            "cpus_per_env_runner": 0.05,
        },
        policy={"hidden_size": 16, "network": "mlp"},
        ppo={"epochs": 1},
        matching={"coefficient": 0.0},
        learners={"cpus_per_learner": 0.05},
    )
    algorithm = config.build_algo()
    try:
        for _ in range(WARM_UP):
            algorithm.train()
        cpu, wall = [], []
        for _ in range(iterations):
            gc.collect()
            began_cpu, began = time.process_time(), time.perf_counter()
            algorithm.train()
            cpu.append(time.process_time() - began_cpu)
            wall.append(time.perf_counter() - began)
    finally:
        algorithm.stop()
    return DriverCost(
        workers=workers,
        driver_cpu_ms=1000 * statistics.median(cpu),
        iteration_ms=1000 * statistics.median(wall),
    )


def bench_driver(sizes: Sequence[int], *, iterations: int, as_json: bool) -> int:
    """Measures every size that fits into memory; prints a table (or one JSON object), progress on stderr."""
    costs: list[DriverCost] = []
    with contextlib.redirect_stdout(sys.stderr), ray_session(needed_cpus=4):  # Ray prints to stdout, too
        # Measured once, because the workers of one size are still ending when the next size begins.
        free = _free_memory_mib()
        for workers in sorted(set(sizes)):
            if free < workers * WORKER_MIB + RESERVE_MIB:
                logger.warning(
                    f"{workers} workers are left out: they need about {workers * WORKER_MIB / 1024:.1f} GiB, "
                    f"{max(0.0, free - RESERVE_MIB) / 1024:.1f} GiB are free"
                )
                continue
            logger.info(f"{workers} workers …")
            costs.append(measure_driver_cost(workers, iterations))
    line = LinearFit.fit(costs) if len(costs) > 1 else None
    limit_ms = SHARE * ITERATION_S * 1000
    if as_json:
        reached = None if line is None else line.workers_at(limit_ms)
        record = {
            "costs": [asdict(cost) for cost in costs],
            "line": None if line is None else asdict(line),
            "workers_at_a_tenth_of_10_s": reached if reached != float("inf") else None,
        }
        print(json.dumps(record))
        return 0 if costs else 1
    print(f"\ndriver CPU time per iteration, {MAP}, medians of {iterations}")
    rows = [("workers", "driver CPU, ms", "iteration, ms")]
    rows += [(str(cost.workers), f"{cost.driver_cpu_ms:.1f}", f"{cost.iteration_ms:.1f}") for cost in costs]
    print(format_table(rows, numbers=True))
    if line is not None:
        print(
            f"\ndriver CPU = {line.fixed_ms:.1f} ms + {line.per_worker_ms:.2f} ms x workers "
            f"(largest error {line.largest_error_ms:.1f} ms)\n"
            f"the driver needs {SHARE:.0%} of an iteration of {ITERATION_S:.0f} s with about "
            f"{line.workers_at(limit_ms):,.0f} workers"
        )
    return 0 if costs else 1


def _free_memory_mib() -> float:
    with open("/proc/meminfo") as lines:
        sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return float(sizes["MemAvailable"].split()[0]) / 1024
