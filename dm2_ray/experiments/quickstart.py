"""The quickstart: what demonstrations are worth, in minutes. It is the experiment configs/experiments/quickstart.yaml.

a team that comes with the package ──► joint demonstrations ──► DM2 from scratch ───┐
                                       IPPO from scratch, at the same time ─────────┴──► table, picture, replay
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from dm2_ray.analysis.replay import record_battle, write_replay
from dm2_ray.config.errors import ConfigError
from dm2_ray.errors import Interrupted
from dm2_ray.experiments.comparison import Comparison
from dm2_ray.experiments.comparison_markdown import markdown
from dm2_ray.experiments.matrix import Matrix
from dm2_ray.experiments.matrix_file import load_matrix
from dm2_ray.experiments.matrix_source import MatrixSource
from dm2_ray.experiments.pipeline import PipelineResult, run_pipeline
from dm2_ray.experiments.pipeline_progress import PipelineProgress
from dm2_ray.experiments.quickstart_report import draw_quickstart, longer_run, quickstart_table
from dm2_ray.experiments.report import experiment_comparison, write_plan
from dm2_ray.experiments.steps import ExperimentPlan, build_plan
from dm2_ray.files import write_atomically
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.maps.scenario import ScenarioError
from dm2_ray.zoo import list_teams

logger = logging.getLogger(__name__)

EXPERIMENT = "quickstart"
SET = "demonstrations"
"""Name of the demonstration set in the experiment's file."""
EXPERT = "demonstrators"
"""Name of the expert in the experiment's file that `--full` trains."""
JOBS = 2
"""The two trainings run side by side, each on one core."""
MINUTES_PER_MILLION_ENV_STEPS = {"train": 12.0, "expert": 8.0}
"""Measured on two cores at 2 GHz with both of them busy; only for the estimate before the first progress."""


def run_quickstart(
    directory: Path,
    *,
    map_name: str | None = None,
    seeds: int = 1,
    full: bool = False,
    scale: float = 1.0,
    overrides: Sequence[str] = (),
) -> int:
    """Runs the quickstart and prints the comparison.

    Args:
        directory: Everything is written below it. What is finished there is not repeated, and interrupted runs are
            continued.
        map_name: Map with a packaged team; None takes the experiment's.
        seeds: How many times each method is trained, with seeds 0, 1, …
        full: Train the demonstrators, too, instead of taking a packaged team.
        scale: Factor on the env steps of all runs.
        overrides: KEY=VALUE, keys of the experiment's file or settings of all runs.

    Raises:
        ConfigError: An override is not valid, or no packaged team knows the map.
        RunDirectoryError: The directory is in use, or contains runs with other settings.
        Interrupted: A stop signal was received; what is running has been saved.

    Returns:
        Exit code.
    """
    started = time.monotonic()
    matrix, source = load_quickstart(map_name=map_name, seeds=seeds, full=full, scale=scale, overrides=overrides)
    plan = build_plan(matrix, source, directory)
    print(introduction(plan), flush=True)
    progress = PipelineProgress(labels=step_labels(plan), plain_every_s=15.0)
    outcome = run_pipeline(plan, jobs=JOBS, progress=progress, begin=lambda: write_plan(plan))
    if outcome.stopped_by is not None:
        raise Interrupted(f"stopped by {outcome.stopped_by}; the same command continues")
    return _report(plan, outcome, started)


def load_quickstart(
    *, map_name: str | None, seeds: int, full: bool, scale: float, overrides: Sequence[str]
) -> tuple[Matrix, MatrixSource]:
    """The experiment with its demonstrators and its size; `run_quickstart` documents the arguments.

    Raises:
        ConfigError: An override is not valid, or no packaged team knows the map.
    """
    own = []
    keys = tuple(f"sets.{SET}.{origin}=" for origin in ("checkpoint", "scripted", "paths"))
    names_team = any(text.startswith(keys) for text in overrides)
    if full:
        own = [f"sets.{SET}.checkpoint=null", f"sets.{SET}.expert={EXPERT}"]
    elif map_name not in (None, load_matrix(EXPERIMENT)[0].map) and not names_team:
        own = [f"sets.{SET}.checkpoint={json.dumps(_best_packaged_team(str(map_name)))}"]
    matrix, source = load_matrix(EXPERIMENT, map_name=map_name, seeds=range(seeds), overrides=[*own, *overrides])
    steps = None if matrix.env_steps is None else _scaled(matrix.env_steps, scale)
    experts = {
        name: expert.model_copy(update={"env_steps": expert.env_steps and _scaled(expert.env_steps, scale)})
        for name, expert in matrix.experts.items()
    }
    return matrix.model_copy(update={"env_steps": steps, "experts": experts}), source


def introduction(plan: ExperimentPlan) -> str:
    """What the quickstart is going to do, and how long it takes."""
    matrix = plan.matrix
    demonstrations = matrix.sets[SET]
    origin = demonstrations.checkpoint or "another set"
    if demonstrations.expert is not None:
        origin = f"a {matrix.experts[demonstrations.expert].variant.upper()} team that is trained first"
    elif demonstrations.scripted is not None:
        origin = f"the scripted team {demonstrations.scripted}"
    minutes = 1.0
    for step in plan.steps.values():
        if step.experiment is not None and step.experiment.stop.env_steps is not None:
            per_million = MINUTES_PER_MILLION_ENV_STEPS["train" if step.condition else "expert"]
            minutes += per_million * step.experiment.stop.env_steps / 1e6 / (JOBS if step.condition else 1)
    repeated = "" if len(matrix.seeds) == 1 else f", {len(matrix.seeds)} seeds each"
    return "\n".join(
        [
            f"{matrix.title}, on {Path(matrix.map).stem}: about {round(minutes + 0.5)} minutes on two quiet cores",
            f"  1. demonstrations: {demonstrations.episodes} joint battles of {origin}",
            f"  2. from scratch, side by side: DM² with these demonstrations, IPPO with the team reward alone; "
            f"{matrix.env_steps:,} env steps{repeated}",
            "  3. table, picture and replays of the trained teams",
            f"everything is in {plan.directory}; Ctrl-C saves, and the same command continues",
        ]
    )


def step_labels(plan: ExperimentPlan) -> dict[str, str]:
    """Short names of the steps for the line about what is running."""
    labels = {}
    for name, step in plan.steps.items():
        if step.condition is None:
            labels[name] = "demonstrators" if step.kind == "train" else "recording demonstrations"
        else:
            labels[name] = plan.matrix.label(step.condition) + (f" {step.seed}" if len(plan.matrix.seeds) > 1 else "")
    return labels


def _report(plan: ExperimentPlan, outcome: PipelineResult, started: float) -> int:
    comparison = experiment_comparison(plan.directory)
    if comparison.evaluated:
        _write_results(plan, comparison, (time.monotonic() - started) / 60)
    for name in outcome.failed:
        logger.error("%s failed; its log: %s", step_labels(plan)[name], plan.directory / "logs" / f"{name}.log")
    if outcome.failed:
        logger.error("the same command tries again")
    return 1 if outcome.failed else 0


def _write_results(plan: ExperimentPlan, comparison: Comparison, minutes: float) -> None:
    directory = plan.directory
    longer = next((longer_run(step.experiment) for step in plan.steps_of("ippo")), None)
    table = quickstart_table(comparison, longer)
    picture = directory / "result.png"
    draw_quickstart(comparison, longer, picture)
    record = json.dumps(comparison.record(), indent=2, allow_nan=False)
    write_atomically(directory / "result.json", f"{record}\n".encode())
    write_atomically(directory / "result.md", f"{table}\n\n{markdown(comparison)}".encode())
    print(f"\n{table}\n\npicture: {picture}")
    for name, file in _write_replays(plan, comparison):
        print(f"replay of the {name} team: {file} (open it in a browser)")
    print(f"more numbers: {directory / 'result.md'}\ntotal time: {minutes:.1f} minutes\n")
    print("the commands that do the same step by step:")
    for command in plan.commands():
        print(f"  {command}")


def _write_replays(plan: ExperimentPlan, comparison: Comparison) -> list[tuple[str, Path]]:
    """Writes a battle of each method's first team as a page; of a team that wins, a won battle."""
    written = []
    for row in comparison.evaluated:
        run = next(step.path for step in plan.steps_of(row.name) if step.seed == row.curves[0].seed)
        file = plan.directory / f"replay-{row.name}.html"
        wins = row.curves[0].last_win_rate >= 0.1
        write_replay(record_battle(str(run), until="win" if wins else None), file)
        written.append((row.label, file))
    return written


def _best_packaged_team(map_name: str) -> str:
    """Reference to the packaged team of a map that wins most with sampled actions, as demonstrations are recorded."""
    try:
        name = load_map(map_name).name
    except (UnknownMapError, ScenarioError) as error:
        raise ConfigError(f"--map: {error}") from None
    teams = [team for team in list_teams() if team.map == name]
    if not teams:
        known = sorted({team.map for team in list_teams()})
        raise ConfigError(
            f"--map {map_name}: no packaged team plays it, and the quickstart needs one that demonstrates; there are "
            f"teams for {', '.join(known)}, or name your own: sets.{SET}.checkpoint=RUN_DIR"
        )
    return max(teams, key=lambda team: team.sampled.win_rate if team.sampled else 0.0).reference


def _scaled(env_steps: int, scale: float) -> int:
    return max(1, round(env_steps * scale))
