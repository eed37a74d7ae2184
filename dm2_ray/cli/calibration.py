"""`dm2 maps calibrate`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from dm2_ray.errors import Interrupted, UserError
from dm2_ray.experiments.calibration import (
    calibration_markdown,
    calibration_record,
    group_curves,
    read_runs,
    write_calibration,
)
from dm2_ray.experiments.calibration_steps import check_maps, plan_calibration
from dm2_ray.experiments.measured_curves import MeasuredCurve, load_measured_curves, write_measured_curves
from dm2_ray.experiments.pipeline import run_pipeline
from dm2_ray.experiments.pipeline_progress import PipelineProgress
from dm2_ray.experiments.published_results import load_published_results
from dm2_ray.experiments.step_state import last_record
from dm2_ray.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)

DEFAULT_DIRECTORY = Path("runs/calibration")
DEFAULT_SEEDS = 2


def calibrate(options: argparse.Namespace) -> int:
    maps = tuple(dict.fromkeys(word for word in options.settings if "=" not in word))
    settings = [word for word in options.settings if "=" in word]
    trains = not options.show and options.runs is None
    if settings and not trains:
        raise UserError(f"{settings[0]} is a setting of runs, but with --show or --from nothing is trained")
    for name in ("seeds", "env_steps", "jobs"):
        if getattr(options, name) is not None and not trains:
            raise UserError(f"--{name.replace('_', '-')} is for training, but with --show or --from nothing is trained")
    if options.engine_version is not None and options.runs is None:
        raise UserError("--engine-version is for the runs of --from; a run that is trained knows its engine")
    if options.show and options.save is not None:
        raise UserError("--show shows the curves that are saved already: --save is for runs")
    published = load_published_results()
    check_maps(maps, published)
    code, directory = 0, options.out
    if options.show:
        curves = tuple(curve for curve in load_measured_curves() if not maps or curve.map in maps)
    elif options.runs is not None:
        curves = read_runs(options.runs, published, maps=maps, engine_version=options.engine_version)
    else:
        directory = options.out or DEFAULT_DIRECTORY
        code, curves = _train(options, directory, maps, settings)
    if options.algorithms is not None:
        curves = tuple(curve for curve in curves if curve.algorithm in options.algorithms)
    if options.save is not None:
        write_measured_curves(curves, options.save)
    groups = group_curves(curves)
    if directory is not None:
        write_calibration(groups, published, directory)
    if options.json:
        print(json.dumps(calibration_record(groups, published), allow_nan=False))
        return code
    print(calibration_markdown(groups, published))
    if directory is not None:
        print(f"\nwritten to {directory}: result.md, result.json" + (", result.png" if groups else ""))
    if options.save is not None:
        print(f"{len(curves)} curves saved in {options.save}")
    return code


def _train(
    options: argparse.Namespace, directory: Path, maps: tuple[str, ...], settings: list[str]
) -> tuple[int, tuple[MeasuredCurve, ...]]:
    """Runs what is not finished yet; returns the exit code and the curves so far."""
    published = load_published_results()
    plan = plan_calibration(
        published,
        directory,
        maps=maps,
        algorithms=options.algorithms,
        seeds=options.seeds or DEFAULT_SEEDS,
        env_steps=options.env_steps,
        settings=settings,
    )
    stream = sys.stderr if options.json else sys.stdout
    outcome = run_pipeline(plan, jobs=options.jobs or 1, progress=PipelineProgress(stream=stream))
    runs = [RunDirectory(step.path) for step in plan.steps.values()]
    curves = read_runs([run.path for run in runs if last_record(run.metrics)], published)
    if outcome.stopped_by is not None:
        log.warning("stopped by %s; give the same command again to continue", outcome.stopped_by)
        return Interrupted.exit_code, curves
    if outcome.failed:
        log.error("failed: %s; give the same command again to retry", ", ".join(outcome.failed))
        return 1, curves
    return 0, curves
