"""What each command of the command line does.

Each imports what it needs, so that `--help` and refusals do not wait for torch and Ray.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.experiment_options import (
    check_cloning_alone,
    check_world_and_demonstrations,
    requested_experiment,
    split_settings,
)
from dm2_ray.errors import Interrupted, UserError

if TYPE_CHECKING:
    from dm2_ray.checkpoints import Checkpoint
    from dm2_ray.config.schema import Experiment
    from dm2_ray.runs.run_directory import RunDirectory


def train(options: argparse.Namespace) -> int:
    from dm2_ray.runs.run_directory import RunDirectory

    experiment = requested_experiment(options)
    check_world_and_demonstrations(experiment, options.address)
    _check_place_for_copies(experiment)
    default = f"runs/{experiment.variant}-{experiment.world.map}-{experiment.seed}"
    run = RunDirectory.create(Path(options.run_dir or default), experiment)
    return _run(run, experiment, None, options.address)


def resume(options: argparse.Namespace) -> int:
    from dm2_ray.checkpoints import has_checkpoints, open_checkpoint
    from dm2_ray.runs.run_directory import RunDirectory
    from dm2_ray.runs.run_lock import check_not_running

    if "://" in options.run_dir:
        from dm2_ray.runs.downloads import fetch_run

        run = fetch_run(options.run_dir, options.to)
        print(f"{options.run_dir} brought to {run.path}")
    elif options.to is not None:
        raise UserError("--run-dir says where a run's copy is brought to: the run itself has to be a URI then")
    else:
        run = RunDirectory.open(Path(options.run_dir))
    check_not_running(run.path)
    experiment = run.experiment()
    if options.iterations is not None or options.env_steps is not None:
        limits = {"iterations": options.iterations, "env_steps": options.env_steps}
        stop = experiment.stop.model_copy(update=limits)
        experiment = experiment.model_copy(update={"stop": stop})
    check_cloning_alone(experiment)
    check_world_and_demonstrations(experiment, options.address)
    _check_place_for_copies(experiment)
    checkpoint = None
    if has_checkpoints(run.checkpoints):
        checkpoint = open_checkpoint(run.checkpoints)
        print(f"resuming {run.path} at iteration {checkpoint.iteration} ({checkpoint.env_steps:,} env steps)")
    else:
        print(f"resuming {run.path} from its beginning: it was ended before its first checkpoint")
    return _run(run, experiment, checkpoint, options.address)


def _run(run: RunDirectory, experiment: Experiment, checkpoint: Checkpoint | None, address: str | None) -> int:
    from dm2_ray.runs.training import train as run_training

    result = run_training(run, experiment, resume_from=checkpoint, address=address)
    rate = "not evaluated" if result.final_win_rate is None else f"greedy win rate {result.final_win_rate:.2f}"
    print(
        f"{run.path}: {result.iterations} iterations, {result.env_steps:,} env steps, {rate}, {result.minutes:.1f} min"
    )
    if result.stopped_by.startswith("SIG"):
        print(f"stopped by {result.stopped_by}; go on with: dm2 resume {run.path}")
        return Interrupted.exit_code
    return 0


def _check_place_for_copies(experiment: Experiment) -> None:
    """Refuses a checkpoint.uri that cannot be written to, before anything starts."""
    if experiment.checkpoint.uri is not None:
        from dm2_ray.checkpoints.remote_copy import check_location

        check_location(experiment.checkpoint.uri)


def evaluate(options: argparse.Namespace) -> int:
    from dm2_ray.checkpoints import open_checkpoint
    from dm2_ray.config.schema import WorldSettings
    from dm2_ray.recording.recorder import SCRIPTED_PREFIX, check_same_map
    from dm2_ray.runs import evaluation
    from dm2_ray.world.configured import resolve_world

    if options.against is None and (options.out is not None or options.agent is not None):
        raise UserError("--out and --agent are for a comparison: give --against SET, too")
    if options.checkpoint.startswith(SCRIPTED_PREFIX):
        if options.map is None:
            raise UserError("a scripted team needs --map")
        world = resolve_world(WorldSettings(map=options.map))
        name = options.checkpoint.removeprefix(SCRIPTED_PREFIX)
        team, map_name = options.checkpoint, world.map
        play, watch = (
            partial(evaluation.evaluate_script, name, world),
            partial(evaluation.evaluate_script_with_rollouts, name, world),
        )
    else:
        checkpoint = open_checkpoint(Path(options.checkpoint), best=options.best)
        world, greedy = checkpoint.experiment().world, not options.stochastic
        check_same_map(checkpoint, world, options.map)
        team, map_name = str(checkpoint.path), checkpoint.map
        play = partial(evaluation.evaluate_checkpoint, checkpoint, greedy=greedy)
        watch = partial(evaluation.evaluate_checkpoint_with_rollouts, checkpoint, greedy=greedy)
    more, text = {}, ""
    if options.against is None:
        result = play(episodes=options.episodes, seed=options.seed)
    else:
        from dm2_ray.analysis.visitation_report import load_experts, visitation_report

        experts = load_experts(Path(options.against), world, options.agent)
        result, visits = watch(episodes=options.episodes, seed=options.seed)
        report = visitation_report(team, visits, experts, world, options.seed)
        more, text = {"against": report.record()}, f"\n\n{report.text()}"
        if options.out is not None:
            text += f"\n\n{report.write(Path(options.out), options.agent)}"
    if options.json:
        print(json.dumps({"checkpoint": team, "map": map_name, **evaluation.result_record(result), **more}))
        return 0
    low, high = result.win_rate_interval
    print(
        f"{team} on {map_name}: win rate {result.win_rate:.3f} [{low:.3f}, {high:.3f}], "
        f"return {result.return_mean:.2f}, {result.episode_length_mean:.1f} steps a battle, {result.episodes} battles"
        f"{text}"
    )
    return 0


def replay(options: argparse.Namespace) -> int:
    from dm2_ray.analysis.replay import check_files, record_battle, write_replay

    files = options.out or [Path("replay.html")]
    check_files(files)
    recording = record_battle(
        options.team,
        map_name=options.map,
        seed=options.seed,
        battle=options.battle,
        greedy=not options.stochastic,
        until=options.until,
    )
    for file in files:
        write_replay(recording, file, speed=options.speed, size=options.size, close_up=options.close_up)
    print(f"{', '.join(map(str, files))}: battle {recording.provenance.battle} on {recording.provenance.map}, "
          f"{recording.outcome} after {recording.num_steps} steps, return {recording.rewards.sum():.2f}")  # fmt: skip
    return 0


def quickstart(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.quickstart import run_quickstart

    config_file, overrides = split_settings(options.settings)
    if config_file is not None:
        raise UserError(f"settings are written KEY=VALUE, got {config_file}")
    return run_quickstart(
        Path(options.run_dir), seeds=options.seeds, map_name=options.map, scale=options.scale, overrides=overrides
    )
