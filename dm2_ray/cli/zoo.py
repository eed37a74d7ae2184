"""`dm2 zoo …`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dm2_ray.errors import UserError
from dm2_ray.terminal import format_table
from dm2_ray.world.engine_settings import ENGINE_VERSION
from dm2_ray.zoo import list_teams
from dm2_ray.zoo.references import TEAMS_DIRECTORY

if TYPE_CHECKING:
    from dm2_ray.zoo import TeamManifest
    from dm2_ray.zoo.manifest import Measured


def list_zoo(options: argparse.Namespace) -> int:
    if options.directory is not None and not options.directory.is_dir():
        raise UserError(f"{options.directory} is not a directory of packed teams")
    manifests = list_teams(options.directory or TEAMS_DIRECTORY)
    if options.json:
        print(json.dumps([_record(_name(manifest, options.directory), manifest) for manifest in manifests]))
        return 0
    _print_table(manifests, options.directory)
    others = sum(manifest.engine_version != ENGINE_VERSION for manifest in manifests)
    if others:
        print(f"\n{others} of them were measured on another version of the engine than this one ({ENGINE_VERSION}).")
    return 0


def pack(options: argparse.Namespace) -> int:
    # torch and Ray take 4 s to import; `dm2 zoo list` needs neither.
    from dm2_ray.experiments.team_packing import pack_run

    packed = pack_run(
        options.checkpoint,
        options.name,
        options.out,
        levels=options.levels or (),
        best=options.best,
        battles=options.battles,
        note=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.json:
        print(json.dumps([_record(team.name, team.manifest) for team in packed]))
        return 0
    for team in packed:
        manifest = team.manifest
        print(
            f"{team.name}: {manifest.variant} on {manifest.map}, {manifest.env_steps:,} env steps, win rate "
            f"{_rate(manifest.greedy)} greedy, {_rate(manifest.sampled)} sampled, {manifest.weights_bytes:,} bytes"
        )
    return 0


def train(options: argparse.Namespace) -> int:
    # torch and Ray take 4 s to import; `dm2 zoo list` needs neither.
    from dm2_ray.cli.experiments import pipeline_exit_code
    from dm2_ray.experiments.pipeline import run_pipeline
    from dm2_ray.experiments.pipeline_progress import PipelineProgress
    from dm2_ray.experiments.zoo_recipe import PACKAGED_RECIPE, build_zoo_plan

    recipe = options.recipe or PACKAGED_RECIPE
    plan = build_zoo_plan(options.out, options.teams, path=recipe, battles=options.battles)
    if options.dry_run:
        for step in plan.steps.values():
            print(step.command())
        return 0
    outcome = run_pipeline(plan, jobs=options.jobs, progress=PipelineProgress())
    teams = options.out / "teams"
    if manifests := list_teams(teams):
        print()
        _print_table(manifests, teams)
    return pipeline_exit_code(outcome)


def _name(manifest: TeamManifest, directory: Path | None) -> str:
    return manifest.reference if directory is None else str(directory / manifest.map / manifest.name)


def _print_table(manifests: Sequence[TeamManifest], directory: Path | None) -> None:
    columns = ("team", "map", "variant", "greedy", "sampled", "env steps", "engine", "size")
    print(format_table([columns, *(_row(_name(manifest, directory), manifest) for manifest in manifests)]))


def _record(name: str, manifest: TeamManifest) -> dict[str, Any]:
    return {"team": name, **manifest.model_dump(mode="json")}


def _row(name: str, manifest: TeamManifest) -> tuple[str, ...]:
    return (
        name,
        manifest.map,
        manifest.variant,
        _rate(manifest.greedy),
        _rate(manifest.sampled),
        f"{manifest.env_steps:,}",
        manifest.engine_version,
        f"{manifest.weights_bytes / 1000:.0f} kB",
    )


def _rate(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    low, high = measured.interval
    return f"{measured.win_rate:.2f} [{low:.2f}, {high:.2f}]"
