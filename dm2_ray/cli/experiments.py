"""What `dm2 experiment` and `dm2 report` do.

Each imports what it needs, so that `--help` does not wait.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.parsing import add_command, natural, positive
from dm2_ray.errors import Interrupted, UserError

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers


def add_parsers(subparsers: Subparsers) -> None:
    """Adds `dm2 experiment` and `dm2 report`."""
    parser = add_command(
        subparsers, "experiment", experiment, "run one of the paper's experiments whole: experts, demonstrations, rows",
        "  dm2 experiment demonstrations_2x2 --dry-run\n"
        "  dm2 experiment demonstrations_2x2 --map 3m --seeds 3 --jobs 2 env_steps=300000\n"
        "  dm2 experiment core --map 3s_vs_4z --run-dir runs/core sets.better.win_rate=0.6 rollout.env_runners=8\n"
        "  dm2 experiment my_experiment.yaml --seed-list 4,5,6\n",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME | FILE", help="of configs/experiments, or a YAML file of your own")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of all runs, or keys of the file")
    parser.add_argument("--map", help="instead of the file's: SMAC map, packaged scenario, or a scenario's YAML file")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=positive, metavar="K", help="every row with the first K of the file's seeds")
    seeds.add_argument("--seed-list", type=_seed_list, metavar="S,S,…", help="every row with these seeds")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/NAME-MAP")
    parser.add_argument("--jobs", type=positive, default=1, metavar="J", help="processes at once (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the commands")
    parser.add_argument("--report-only", action="store_true", help="start nothing: report what there is")
    parser = add_command(
        subparsers, "report", report, "compare runs, or what there is of an experiment: table, statistics, picture",
        "  dm2 report runs/core-3s_vs_4z\n"
        "  dm2 report runs/dm2-3m-0 runs/dm2-3m-1 runs/ippo-3m-0 runs/ippo-3m-1 --out runs/compared\n"
        "  dm2 report runs/core-3s_vs_4z runs/core-5m_vs_6m --out runs/core --json\n",
    )  # fmt: skip
    parser.add_argument("directories", nargs="+", type=Path, metavar="RUN_DIR | EXPERIMENT_DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of result.md, .json and .png; an experiment's own if "
                        "there is one alone, else nothing is written")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def experiment(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.matrix_file import load_matrix, write_matrix
    from dm2_ray.experiments.steps import build_plan

    for setting in options.settings:
        if "=" not in setting:
            raise UserError(f"settings are written KEY=VALUE, got {setting}")
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
        for step in plan.steps.values():
            print(step.command())
        return 0

    from dm2_ray.experiments.pipeline import run_pipeline
    from dm2_ray.experiments.pipeline_progress import PipelineProgress
    from dm2_ray.experiments.report import COMMANDS_FILE, EXPERIMENT_FILE
    from dm2_ray.files import write_atomically

    def begin() -> None:
        write_matrix(matrix, directory / EXPERIMENT_FILE)
        lines = [step.command() for step in plan.steps.values()]
        write_atomically(directory / COMMANDS_FILE, "\n".join([*lines, ""]).encode())

    outcome = run_pipeline(plan, jobs=options.jobs, progress=PipelineProgress(), begin=begin)
    _report_experiment(directory)
    if outcome.stopped_by is not None:
        print(f"stopped by {outcome.stopped_by}; the same command goes on")
        return Interrupted.exit_code
    if outcome.failed:
        print(f"failed: {', '.join(outcome.failed)}; the same command tries them again")
        return 1
    return 0


def report(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.comparison import Comparison
    from dm2_ray.experiments.comparison_markdown import markdown, overall_markdown
    from dm2_ray.experiments.report import experiment_comparison, is_experiment, runs_comparisons, write_report

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


def _report_experiment(directory: Path) -> int:
    from dm2_ray.experiments.comparison_markdown import numbers
    from dm2_ray.experiments.report import EXPERIMENT_FILE, experiment_comparison, is_experiment, write_report
    from dm2_ray.runs.run_directory import RunDirectoryError

    if not is_experiment(directory):
        raise RunDirectoryError(f"{directory} holds no experiment: it has no {EXPERIMENT_FILE}")
    comparison = experiment_comparison(directory)
    write_report([comparison], directory)
    print(f"\n{numbers(comparison)}\n\nmore in {directory}: result.md, result.json, result.png, {directory}/logs")
    return 0


def _seed_list(text: str) -> list[int]:
    return [natural(word) for word in text.split(",")]
