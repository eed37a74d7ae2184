"""`dm2 maps calibrate`: our learners' curves beside the published ones, as a table, a JSON object and a picture.

published_results ──► bands ──► steps ──► pipeline ──► runs ──► measured curves ──► table, result.json, result.png
                                (calibration_steps)        (or the packaged curves)   (calibration_plot)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dm2_ray.experiments.calibration_plot import draw_calibration
from dm2_ray.experiments.learning_curve import NotEvaluated, first_reaching
from dm2_ray.experiments.measured_curves import MeasuredCurve
from dm2_ray.experiments.published_results import AtMost, Band, PublishedResults, Source, Verdict
from dm2_ray.files import write_atomically
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.terminal import format_markdown_table
from dm2_ray.world.engine_settings import ENGINE_VERSION

TODAYS_ENGINE = f"embedded {ENGINE_VERSION}"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredGroup:
    """The seeds of one algorithm on one map, with the same settings and engine."""

    curves: tuple[MeasuredCurve, ...]

    @property
    def map(self) -> str:
        return self.curves[0].map

    @property
    def algorithm(self) -> str:
        return self.curves[0].algorithm

    @property
    def engine(self) -> str | None:
        return self.curves[0].engine

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the learner other than the published ones."""
        return self.curves[0].learner_settings

    @property
    def label(self) -> str:
        """The algorithm, with settings other than the published ones."""
        changed = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.algorithm} ({changed})" if changed else self.algorithm

    @property
    def end(self) -> int:
        """Env steps that all seeds have reached."""
        return min(curve.env_steps[-1] for curve in self.curves)

    @property
    def is_comparable(self) -> bool:
        """Whether the bands apply: today's engine, and a learner with the published settings."""
        return self.engine == TODAYS_ENGINE and not self.settings

    def mean(self) -> tuple[list[float], list[float]]:
        """Env steps and mean greedy win rate over the seeds, as far as all of them go."""
        steps = sorted({step for curve in self.curves for step in curve.env_steps if step <= self.end})
        return [float(step) for step in steps], [float(np.mean(self.win_rates_at(step))) for step in steps]

    def win_rates_at(self, env_steps: float) -> list[float]:
        """Win rates of the seeds that have got so far."""
        rates = (curve.win_rate_at(env_steps) for curve in self.curves)
        return [rate for rate in rates if rate is not None]

    def verdict(self, band: Band) -> Verdict:
        """Whether the mean over seeds is in a band."""
        return band.verdict(*self.mean())


def group_curves(curves: Iterable[MeasuredCurve]) -> tuple[MeasuredGroup, ...]:
    """Puts the seeds of the same algorithm, map, settings and engine together."""
    groups: dict[tuple[object, ...], list[MeasuredCurve]] = {}
    for curve in curves:
        key = (curve.map, curve.algorithm, json.dumps(curve.learner_settings, sort_keys=True), curve.engine)
        groups.setdefault(key, []).append(curve)
    return tuple(
        MeasuredGroup(curves=tuple(sorted(members, key=lambda curve: curve.seed))) for members in groups.values()
    )


def read_runs(
    paths: Sequence[Path], published: PublishedResults, *, maps: Sequence[str] = (), engine_version: str | None = None
) -> tuple[MeasuredCurve, ...]:
    """The curves of runs, finished or not; runs without an evaluation are left out.

    Args:
        paths: Run directories.
        published: Only runs on its maps can be compared.
        maps: If any are given, the runs must be on one of them.
        engine_version: Version of the embedded engine, for runs that did not store it.

    Raises:
        RunDirectoryError: A path is not a run, a run is on another map or another version of the engine, its version
            is not known, or two runs differ in nothing.
    """
    found: dict[tuple[object, ...], Path] = {}
    curves = []
    for path in dict.fromkeys(paths):
        run = RunDirectory.open(path)
        experiment = run.experiment()
        map_name = experiment.world.map
        allowed = tuple(maps) or published.maps
        if experiment.world.scenario is not None or map_name not in allowed:
            what = "maps with published values" if not maps else "requested maps"
            raise RunDirectoryError(f"{path} is a run on {map_name}; the {what} are {', '.join(allowed)}")
        engine = run.engine()
        if engine is None:
            if engine_version is None:
                raise RunDirectoryError(
                    f"{path} was started before runs stored their engine's version: say it with --engine-version "
                    f"(today's is {ENGINE_VERSION})"
                )
            engine = f"{experiment.world.backend} {engine_version}"
        if engine != TODAYS_ENGINE:
            raise RunDirectoryError(
                f"{path} was played on engine {engine!r}; today's is {TODAYS_ENGINE!r}, whose battles are others: "
                "leave that run out, or train it again"
            )
        try:
            curve = MeasuredCurve.of(run, engine)
        except NotEvaluated:
            continue
        key = (curve.map, curve.algorithm, json.dumps(curve.learner_settings, sort_keys=True), curve.seed)
        if key in found:
            raise RunDirectoryError(f"{path} and {found[key]} are runs of the same settings and seed: give one of them")
        found[key] = path
        curves.append(curve)
    return tuple(curves)


def calibration_markdown(groups: Sequence[MeasuredGroup], published: PublishedResults) -> str:
    """The table, and what its columns and sources mean."""
    if not groups:
        return "no curves: no run has been evaluated yet, or none is packaged for these maps"
    header = ["map", "algorithm", "published", "here", "seeds", "engine", "band", "in band"]
    rows = [row for group in groups for row in _rows(group, published)]
    names = {
        entry.source
        for group in groups
        for entry in (
            published.curve(group.map, group.algorithm),
            *published.finals_of(group.map, group.algorithm),
        )
        if entry is not None
    }
    sources = [_describe(name, source) for name, source in published.sources.items() if name in names]
    notes = (
        "Greedy win rates; here: means over seeds [lowest, highest] of the mean of three evaluations. Published win "
        "rates are of real StarCraft II, and their IPPO is not always this one (see the sources)."
    )
    return "\n\n".join([format_markdown_table(header, rows), notes, *(["\n".join(sources)] if sources else [])])


def calibration_record(groups: Sequence[MeasuredGroup], published: PublishedResults) -> dict[str, Any]:
    """The same as a JSON object, with the verdict of every seed and the thinned curves."""
    return {
        "engine": TODAYS_ENGINE,
        "sources": {name: source.model_dump(mode="json") for name, source in published.sources.items()},
        "groups": [_record(group, published) for group in groups],
    }


def write_calibration(groups: Sequence[MeasuredGroup], published: PublishedResults, directory: Path) -> None:
    """Writes result.md, result.json and, if there is any curve, result.png."""
    text = f"# Difficulty of the maps: {TODAYS_ENGINE}\n\n{calibration_markdown(groups, published)}\n"
    write_atomically(directory / "result.md", text.encode())
    record = calibration_record(groups, published)
    write_atomically(directory / "result.json", json.dumps(record, indent=2, allow_nan=False).encode() + b"\n")
    if groups:
        draw_calibration([(group.label, group.curves) for group in groups], published, directory / "result.png")


def _rows(group: MeasuredGroup, published: PublishedResults) -> list[list[str]]:
    """A row per band; without bands, one for the end of the curves."""
    engine = group.engine or "unknown"
    engine += "" if engine == TODAYS_ENGINE else f" (not today's, {ENGINE_VERSION})"
    start, end = [group.map, group.label], [str(len(group.curves)), engine]
    bands = published.bands_of(group.map, group.algorithm)
    rows = [
        [*start, _published_at(band, published), _measured_at(band, group), *end, str(band),
         group.verdict(band) if group.is_comparable else "does not apply"]
        for band in bands
    ]  # fmt: skip
    if not rows or all(band.horizon < 0.9 * group.end for band in bands):
        rows.append([*start, _published_rate(group.map, group.algorithm, group.end, published),
                     _measured_rate(group, group.end), *end, "", ""])  # fmt: skip
    return rows


def _published_at(band: Band, published: PublishedResults) -> str:
    curve = published.curve(band.map, band.algorithm)
    if isinstance(band, AtMost) or curve is None:
        return _published_rate(band.map, band.algorithm, band.horizon, published)
    reached = first_reaching(curve.env_steps, curve.win_rates, band.win_rate)
    last = f"{max(curve.win_rates):.2f} at most, until {_steps(curve.env_steps[-1])}"
    return last if reached is None else f"{band.win_rate:g} at {_steps(reached)}"


def _published_rate(map_name: str, algorithm: str, env_steps: int, published: PublishedResults) -> str:
    """The published win rate at so many env steps, or else the final ones of all implementations."""
    curve = published.curve(map_name, algorithm)
    if curve is not None and (rate := curve.win_rate_at(env_steps)) is not None:
        if env_steps >= curve.env_steps[0]:
            return f"{rate:.2f} at {_steps(env_steps)}"
        return f"{curve.win_rates[0]:.2f} at {_steps(curve.env_steps[0])} ({_steps(env_steps)} is not published)"
    finals = [
        f"{final.win_rate:g} at {published.sources[final.source].budget} ({final.source})"
        for final in published.finals_of(map_name, algorithm)
    ]
    return "; ".join(finals) or "not published"


def _measured_at(band: Band, group: MeasuredGroup) -> str:
    if isinstance(band, AtMost):
        return _measured_rate(group, min(band.horizon, group.end))
    reached = first_reaching(*group.mean(), band.win_rate)
    return _measured_rate(group, group.end) if reached is None else f"{band.win_rate:g} at {_steps(reached)}"


def _measured_rate(group: MeasuredGroup, env_steps: int) -> str:
    rates = group.win_rates_at(env_steps)
    text = f"{float(np.mean(rates)):.2f}"
    if len(rates) > 1:
        text += f" [{min(rates):.2f}, {max(rates):.2f}]"
    return f"{text} at {_steps(env_steps)}"


def _record(group: MeasuredGroup, published: PublishedResults) -> dict[str, Any]:
    curve = published.curve(group.map, group.algorithm)
    steps, rates = group.mean()
    return {
        "map": group.map,
        "algorithm": group.algorithm,
        "engine": group.engine,
        "settings": group.settings,
        "seeds": [measured.seed for measured in group.curves],
        "env_steps": group.end,
        "win_rate": rates[-1] if rates else None,
        "published": {
            "curve": None if curve is None else curve.model_dump(mode="json"),
            "finals": [final.model_dump(mode="json") for final in published.finals_of(group.map, group.algorithm)],
        },
        "bands": [
            {
                **band.model_dump(mode="json"),
                "in_band": group.verdict(band) if group.is_comparable else None,
                "reached_at": first_reaching(steps, rates, band.win_rate) if band.win_rate > 0 else None,
                "in_band_by_seed": {
                    str(measured.seed): band.verdict(measured.env_steps, measured.greedy_win_rates)
                    for measured in group.curves
                    if group.is_comparable
                },
            }
            for band in published.bands_of(group.map, group.algorithm)
        ],
        "curves": [measured.thinned().model_dump(mode="json") for measured in group.curves],
    }


def _describe(name: str, source: Source) -> str:
    seeds = "" if source.seeds is None else f", {source.seeds} seeds"
    return f"* {name}: {source.title}, {source.url}; {source.game}{seeds}. {source.note}"


def _steps(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value / 1e3:.1f} k"
