"""`dm2 bench --memory RUN`: whether the memory of a run's processes grows, from its metrics (timing/memory)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.terminal import format_table
from dm2_ray.tracking import read_metrics

WARM_UP = 0.1
"""Share of a run that is left out at its beginning, while caches fill up and libraries are loaded."""
BLOCKS = 12
"""Consecutive samples are correlated, so the line is fitted to the means of this number of blocks of equal length."""
UNIT = "_mib"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryTrend:
    """Memory of one kind of process over a run, in MiB.

    `first` and `last` are the means of the first and the last block, `largest` is the largest sample, `per_hour` is the
    slope of the fitted line, and `interval` its 95 % interval.
    """

    kind: str
    first: float
    last: float
    largest: float
    per_hour: float
    interval: tuple[float, float]


def memory_trends(records: Sequence[Mapping[str, Any]]) -> tuple[list[MemoryTrend], float]:
    """Trends of every kind of process, and the hours that they cover.

    Args:
        records: A run's metrics; of a resumed run, only those since it was resumed last are used.

    Raises:
        RunDirectoryError: There are too few samples to fit a line.
    """
    samples = [record["timing"] for record in records if "memory" in record.get("timing", {})]
    # wall_s restarts with every driver, and so do all processes.
    start = max((i for i in range(1, len(samples)) if samples[i]["wall_s"] < samples[i - 1]["wall_s"]), default=0)
    samples = samples[start:]
    samples = samples[round(len(samples) * WARM_UP) :]
    if len(samples) < 2 * BLOCKS:
        raise RunDirectoryError(
            f"{len(samples)} samples of memory found, {2 * BLOCKS} are needed: let the run continue"
        )
    hours = np.array([sample["wall_s"] for sample in samples]) / 3600
    kinds = [name for name in samples[0]["memory"] if name.endswith(UNIT)]
    return [_trend(name, samples, hours) for name in kinds], float(hours[-1] - hours[0])


def bench_memory(directory: Path, *, as_json: bool) -> int:
    """Prints a table (or one JSON object) for a run that has ended or is still running.

    Raises:
        RunDirectoryError: There is no such run, or it is still too short.
    """
    run = RunDirectory.open(directory)
    trends, hours = memory_trends(read_metrics(run.metrics) if run.metrics.is_file() else [])
    if as_json:
        print(json.dumps({"run": str(directory), "hours": hours, "trends": [asdict(trend) for trend in trends]}))
        return 0
    print(f"{directory}: memory over {hours * 60:.0f} minutes, in MiB (mean of the processes of a kind)\n")
    rows = [["", "first", "last", "largest", "per hour", "95 % interval"]]
    for trend in trends:
        low, high = trend.interval
        sizes = [f"{size:.1f}" for size in (trend.first, trend.last, trend.largest)]
        rows.append([trend.kind, *sizes, f"{trend.per_hour:+.1f}", f"[{low:+.1f}, {high:+.1f}]"])
    print(format_table(rows, numbers=True))
    return 0


def _trend(name: str, samples: Sequence[Mapping[str, Any]], hours: np.ndarray) -> MemoryTrend:
    # At some samples, there may be no process of a kind.
    present = np.array([name in sample["memory"] for sample in samples])
    sizes = np.array([sample["memory"].get(name, 0.0) for sample in samples])[present]
    times, means = (
        np.array([part.mean() for part in np.array_split(values, BLOCKS)]) for values in (hours[present], sizes)
    )
    line = stats.linregress(times, means)
    margin = float(stats.t.ppf(0.975, BLOCKS - 2) * line.stderr)
    return MemoryTrend(
        kind=name.removesuffix(UNIT).replace("_", " "),
        first=float(means[0]),
        last=float(means[-1]),
        largest=float(sizes.max()),
        per_hour=float(line.slope),
        interval=(float(line.slope) - margin, float(line.slope) + margin),
    )
