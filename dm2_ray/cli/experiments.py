"""`dm2 quickstart`, `dm2 experiment` and `dm2 report`."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from dm2_ray.errors import Interrupted, UserError
from dm2_ray.experiments.comparison import Comparison
from dm2_ray.experiments.comparison_markdown import markdown, numbers, overall_markdown
from dm2_ray.experiments.matrix_file import load_matrix
from dm2_ray.experiments.pipeline import PipelineResult, run_pipeline
from dm2_ray.experiments.pipeline_progress import PipelineProgress
from dm2_ray.experiments.report import (
    EXPERIMENT_FILE,
    experiment_comparison,
    is_experiment,
    runs_comparisons,
    write_plan,
    write_report,
)
from dm2_ray.experiments.steps import build_plan
from dm2_ray.runs.run_directory import RunDirectoryError

log = logging.getLogger(__name__)


def quickstart(options: argparse.Namespace) -> int:
    _check_settings(options.settings)
    # It needs torch, 1.5 s to import, for the replays; `dm2 report` does not.
    from dm2_ray.experiments.quickstart import run_quickstart

    return run_quickstart(
        options.run_dir,
        map_name=options.map,
        seeds=options.seeds,
        full=options.full,
        scale=options.scale,
        overrides=options.settings,
    )


def experiment(options: argparse.Namespace) -> int:
    _check_settings(options.settings)
    matrix, source = load_matrix(
        options.name,
        map_name=options.map,
        num_seeds=options.seeds,
        seeds=options.seed_list,
        overrides=options.settings,
    )
    directory = options.run_dir or Path("runs") / f"{Path(options.name).stem}-{Path(matrix.map).stem}"
    if options.report_only:
        return _report_experiment(directory)
    plan = build_plan(matrix, source, directory)
    if options.dry_run:
        print("\n".join(plan.commands()))
        return 0
    outcome = run_pipeline(plan, jobs=options.jobs, progress=PipelineProgress(), begin=lambda: write_plan(plan))
    _report_experiment(directory)
    return pipeline_exit_code(outcome)


def pipeline_exit_code(outcome: PipelineResult) -> int:
    """The exit code of a command that ran a pipeline; says how to continue if it is not complete."""
    if outcome.stopped_by is not None:
        log.warning("stopped by %s; give the same command again to continue", outcome.stopped_by)
        return Interrupted.exit_code
    if outcome.failed:
        log.error("failed: %s; give the same command again to retry", ", ".join(outcome.failed))
        return 1
    return 0


def report(options: argparse.Namespace) -> int:
    experiments = [path for path in options.directories if is_experiment(path)]
    runs = [path for path in options.directories if path not in experiments]
    if experiments and runs:
        raise UserError(f"either runs or experiments: {experiments[0]} is an experiment, {runs[0]} is not")
    comparisons: list[Comparison] = [experiment_comparison(path) for path in experiments] or runs_comparisons(runs)
    out = options.out or (experiments[0] if len(experiments) == 1 else None)
    if out is not None:
        write_report(comparisons, out)
    if options.json:
        print(json.dumps({"maps": [comparison.record() for comparison in comparisons]}, allow_nan=False))
        return 0
    print("\n".join(markdown(comparison) for comparison in comparisons))
    if len(comparisons) > 1:
        print(overall_markdown(comparisons))
    if out is not None:
        print(f"written to {out}: result.md, result.json, result.png")
    return 0


def _check_settings(settings: Sequence[str]) -> None:
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"settings are written KEY=VALUE, got {setting}")


def _report_experiment(directory: Path) -> int:
    if not is_experiment(directory):
        raise RunDirectoryError(f"{directory} holds no experiment: it has no {EXPERIMENT_FILE}")
    comparison = experiment_comparison(directory)
    write_report([comparison], directory)
    print(f"\n{numbers(comparison)}\n\nmore in {directory}: result.md, result.json, result.png, {directory}/logs")
    return 0
