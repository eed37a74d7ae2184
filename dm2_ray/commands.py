"""What each command of the command line does.

Each imports what it needs, so that `--help` and refusals do not wait for torch and Ray.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dm2_ray.actors.checkpoint import Checkpoint
    from dm2_ray.config import Experiment
    from dm2_ray.experiments.run_directory import RunDirectory

EXIT_INTERRUPTED = 130


def train(options: argparse.Namespace) -> int:
    from dm2_ray.config_files import load_experiment
    from dm2_ray.experiments.run_directory import RunDirectory

    config_file, overrides = _split_settings(options.settings)
    if options.config is not None and config_file is not None:
        raise _usage(f"two configuration files given: {options.config} and {config_file}")
    overrides += _limits(options)
    if options.seed is not None:
        overrides.append(f"seed={options.seed}")
    overrides += _experts(options.demos or [])
    experiment = load_experiment(
        options.config or config_file, variant=options.variant, map_name=options.map, overrides=overrides
    )
    if experiment.stop.iterations is None and experiment.stop.env_steps is None:
        raise _usage("when should the run end? give --iterations K or --env-steps T")
    _check_cloning_alone(experiment)
    _check_world_and_demonstrations(experiment, options.address)
    default = f"runs/{experiment.variant}-{experiment.world.map}-{experiment.seed}"
    run = RunDirectory.create(Path(options.run_dir or default), experiment)
    return _run(run, experiment, None, options.address)


def resume(options: argparse.Namespace) -> int:
    from dm2_ray.actors.checkpoint import open_checkpoint
    from dm2_ray.experiments.run_directory import RunDirectory

    run = RunDirectory.open(Path(options.run_dir))
    experiment = run.experiment()
    if options.iterations is not None or options.env_steps is not None:
        limits = {"iterations": options.iterations, "env_steps": options.env_steps}
        stop = experiment.stop.model_copy(update=limits)
        experiment = experiment.model_copy(update={"stop": stop})
    _check_cloning_alone(experiment)
    _check_world_and_demonstrations(experiment, options.address)
    checkpoint = open_checkpoint(run.checkpoints)
    print(f"resuming {run.path} at iteration {checkpoint.iteration} ({checkpoint.env_steps:,} env steps)")
    return _run(run, experiment, checkpoint, options.address)


def _run(run: RunDirectory, experiment: Experiment, checkpoint: Checkpoint | None, address: str | None) -> int:
    from dm2_ray.experiments.training import train as run_training

    result = run_training(run, experiment, resume_from=checkpoint, address=address)
    rate = "not evaluated" if result.final_win_rate is None else f"greedy win rate {result.final_win_rate:.2f}"
    print(
        f"{run.path}: {result.iterations} iterations, {result.env_steps:,} env steps, {rate}, {result.minutes:.1f} min"
    )
    if result.stopped_by.startswith("SIG"):
        print(f"stopped by {result.stopped_by}; go on with: dm2 resume {run.path}")
        return EXIT_INTERRUPTED
    return 0


def evaluate(options: argparse.Namespace) -> int:
    from dm2_ray.actors.checkpoint import open_checkpoint
    from dm2_ray.config import WorldSettings
    from dm2_ray.config_files import resolve_world
    from dm2_ray.experiments import teams
    from dm2_ray.experiments.recording import SCRIPTED_PREFIX, check_same_map

    if options.against is None and (options.out is not None or options.agent is not None):
        raise _usage("--out and --agent are for a comparison: give --against SET, too")
    if options.checkpoint.startswith(SCRIPTED_PREFIX):
        if options.map is None:
            raise _usage("a scripted team needs --map")
        world = resolve_world(WorldSettings(map=options.map))
        name = options.checkpoint.removeprefix(SCRIPTED_PREFIX)
        team, map_name = options.checkpoint, world.map
        play, watch = partial(teams.evaluate_script, name, world), partial(teams.watch_script, name, world)
    else:
        checkpoint = open_checkpoint(Path(options.checkpoint))
        world, greedy = checkpoint.experiment().world, not options.stochastic
        check_same_map(checkpoint, world, options.map)
        team, map_name = str(checkpoint.path), checkpoint.map
        play = partial(teams.evaluate_checkpoint, checkpoint, greedy=greedy)
        watch = partial(teams.watch_checkpoint, checkpoint, greedy=greedy)
    more, text = {}, ""
    if options.against is None:
        result = play(episodes=options.episodes, seed=options.seed)
    else:
        from dm2_ray.experiments.visitation_report import load_experts, visitation_report

        experts = load_experts(Path(options.against), world, options.agent)
        result, visits = watch(episodes=options.episodes, seed=options.seed)
        report = visitation_report(team, visits, experts, world, options.seed)
        more, text = {"against": report.record()}, f"\n\n{report.text()}"
        if options.out is not None:
            text += f"\n\n{report.write(Path(options.out), options.agent)}"
    if options.json:
        print(json.dumps({"checkpoint": team, "map": map_name, **teams.result_record(result), **more}))
        return 0
    low, high = result.win_rate_interval
    print(
        f"{team} on {map_name}: win rate {result.win_rate:.3f} [{low:.3f}, {high:.3f}], "
        f"return {result.return_mean:.2f}, {result.episode_length_mean:.1f} steps a battle, {result.episodes} battles"
        f"{text}"
    )
    return 0


def replay(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.replay import check_files, write_replay
    from dm2_ray.experiments.replay import replay as play_again

    files = options.out or [Path("replay.html")]
    check_files(files)
    recording = play_again(
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
    from dm2_ray.experiments.quickstart import quickstart as run_quickstart

    config_file, overrides = _split_settings(options.settings)
    if config_file is not None:
        raise _usage(f"settings are written KEY=VALUE, got {config_file}")
    return run_quickstart(
        Path(options.run_dir), seeds=options.seeds, map_name=options.map, scale=options.scale, overrides=overrides
    )


def bench(options: argparse.Namespace) -> int:
    if options.world:
        from dm2_ray.experiments.bench_world import MAPS, bench_world

        return bench_world(options.map or MAPS, repetitions=options.repetitions, as_json=options.json)
    maps = options.map or ["5m_vs_6m"]
    if len(maps) > 1:
        raise _usage(f"one map expected, got {', '.join(maps)} (--world measures several)")
    from dm2_ray.experiments.bench import bench as run_bench

    return run_bench(map_name=maps[0], repetitions=options.repetitions, as_json=options.json)


def _check_cloning_alone(experiment: Experiment) -> None:
    """Behaviour cloning that went on with PPO would be reported under a wrong name."""
    cloning, stop = experiment.cloning.iterations, experiment.stop.iterations
    if experiment.variant == "bc" and not 1 <= (stop or 0) <= cloning:
        raise _usage(
            f"variant bc ends with the cloning: stop.iterations must be 1 to {cloning} (cloning.iterations), "
            f"got {stop}; variant bc_ippo goes on with PPO"
        )


def _check_world_and_demonstrations(experiment: Experiment, address: str | None) -> None:
    """Refuses what cannot be played, and a demonstration set that is damaged or of another world, before anything
    starts."""
    from dm2_ray.actors.expert_sources import check_experts
    from dm2_ray.world.maps import world_map
    from dm2_ray.world.switches import SmacSwitches
    from dm2_ray.world.terrain import build_terrain

    spec = world_map(experiment.world.map, experiment.world.scenario)
    if experiment.world.backend == "starcraft":
        if spec.is_scenario:
            raise _usage(f"world.backend: StarCraft II plays SMAC's maps only; scenario {spec.name} needs embedded")
        if address is None:
            # On a cluster the battles are played elsewhere; a machine that lacks the game says so then.
            from dm2_ray.world.starcraft import check_starcraft

            switches = SmacSwitches.from_arguments(experiment.world.smac)
            check_starcraft(experiment.world.map, experiment.world.starcraft, switches.game_version)
    elif spec.is_scenario:
        build_terrain(spec.walkable)  # SMAC's maps are known to be playable
    check_experts(experiment)


def _split_settings(settings: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Positional arguments: at most one configuration file, any number of KEY=VALUE."""
    files = [setting for setting in settings if "=" not in setting]
    if len(files) > 1:
        raise _usage(f"one configuration file expected, got {', '.join(files)} (settings are written KEY=VALUE)")
    return (Path(files[0]) if files else None), [setting for setting in settings if "=" in setting]


def _experts(demos: Sequence[str]) -> list[str]:
    """One joint team, or one independent team per agent; either takes the place of what a file says of both."""
    if not demos:
        return []
    path, per_agent = (demos[0], []) if len(demos) == 1 else (None, list(demos))
    return [f"demonstrations.path={json.dumps(path)}", f"demonstrations.paths_per_agent={json.dumps(per_agent)}"]


def _limits(options: argparse.Namespace) -> list[str]:
    limits = []
    if options.iterations is not None:
        limits.append(f"stop.iterations={options.iterations}")
    if options.env_steps is not None:
        limits.append(f"stop.env_steps={options.env_steps}")
    return limits


def _usage(message: str) -> Exception:
    from dm2_ray.config_errors import ConfigError

    return ConfigError(message)
