"""The command line: `dm2 COMMAND --help`.

Exit codes: 0 done, 1 the run failed, 2 bad input (nothing was started), 130 interrupted (state saved).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print("dm2: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"dm2: {error}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """Exit code of an error that explains itself in one line; None for a bug, which keeps its traceback."""
    from dm2_ray.config_errors import ConfigError
    from dm2_ray.demonstrations import DemonstrationError
    from dm2_ray.experiments.run_directory import RunDirectoryError
    from dm2_ray.tracking import TrackingError
    from dm2_ray.world import UnknownMapError

    if isinstance(error, (ConfigError, DemonstrationError, RunDirectoryError, TrackingError, UnknownMapError)):
        return EXIT_BAD_INPUT
    if "dm2_ray.actors" not in sys.modules:
        return None
    from dm2_ray.actors.agent_learner import LearningDiverged
    from dm2_ray.actors.checkpoint import CheckpointError
    from dm2_ray.actors.learner_group import LearnerLost
    from dm2_ray.actors.ray_session import ClusterUnreachable
    from dm2_ray.actors.resources import NotEnoughResources
    from dm2_ray.actors.rollout_pool import RolloutWorkersLost

    if isinstance(error, (CheckpointError, ClusterUnreachable, NotEnoughResources)):
        return EXIT_BAD_INPUT
    if isinstance(error, (LearnerLost, RolloutWorkersLost, LearningDiverged)):
        return EXIT_FAILED
    return None


# Commands. Each imports what it needs, so that `--help` and refusals do not wait for torch and Ray.


def _train(options: argparse.Namespace) -> int:
    from dm2_ray.config_files import load_experiment
    from dm2_ray.experiments.run_directory import RunDirectory

    config_file, overrides = _split_settings(options.settings)
    if options.config is not None and config_file is not None:
        raise _usage(f"two configuration files given: {options.config} and {config_file}")
    overrides += _limits(options)
    if options.seed is not None:
        overrides.append(f"seed={options.seed}")
    if options.demos is not None:
        overrides.append(f"demonstrations.path={json.dumps(str(options.demos))}")
    experiment = load_experiment(
        options.config or config_file, variant=options.variant, map_name=options.map, overrides=overrides
    )
    if experiment.stop.iterations is None and experiment.stop.env_steps is None:
        raise _usage("when should the run end? give --iterations K or --env-steps T")
    _check_demonstrations(experiment)
    default = f"runs/{experiment.variant}-{experiment.world.map}-{experiment.seed}"
    run = RunDirectory.create(Path(options.run_dir or default), experiment)
    return _run(run, experiment, None, options.address)


def _resume(options: argparse.Namespace) -> int:
    from dm2_ray.actors.checkpoint import open_checkpoint
    from dm2_ray.experiments.run_directory import RunDirectory

    run = RunDirectory.open(Path(options.run_dir))
    experiment = run.experiment()
    if options.iterations is not None or options.env_steps is not None:
        limits = {"iterations": options.iterations, "env_steps": options.env_steps}
        stop = experiment.stop.model_copy(update=limits)
        experiment = experiment.model_copy(update={"stop": stop})
    _check_demonstrations(experiment)
    checkpoint = open_checkpoint(run.checkpoints)
    print(f"resuming {run.path} at iteration {checkpoint.iteration} ({checkpoint.env_steps:,} env steps)")
    return _run(run, experiment, checkpoint, options.address)


def _run(run, experiment, checkpoint, address) -> int:  # type: ignore[no-untyped-def]
    from dm2_ray.experiments.training import train

    result = train(run, experiment, resume_from=checkpoint, address=address)
    rate = "not evaluated" if result.final_win_rate is None else f"greedy win rate {result.final_win_rate:.2f}"
    print(
        f"{run.path}: {result.iterations} iterations, {result.env_steps:,} env steps, {rate}, {result.minutes:.1f} min"
    )
    if result.stopped_by.startswith("SIG"):
        print(f"stopped by {result.stopped_by}; go on with: dm2 resume {run.path}")
        return EXIT_INTERRUPTED
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from dm2_ray.actors.checkpoint import open_checkpoint
    from dm2_ray.experiments.teams import evaluate_checkpoint, result_record

    checkpoint = open_checkpoint(Path(options.checkpoint))
    result = evaluate_checkpoint(
        checkpoint, episodes=options.episodes, seed=options.seed, greedy=not options.stochastic
    )
    if options.json:
        print(json.dumps({"checkpoint": str(checkpoint.path), "map": checkpoint.map, **result_record(result)}))
        return 0
    low, high = result.win_rate_interval
    print(
        f"{checkpoint.path} on {checkpoint.map}: win rate {result.win_rate:.3f} [{low:.3f}, {high:.3f}], "
        f"return {result.return_mean:.2f}, {result.episode_length_mean:.1f} steps a battle, {result.episodes} battles"
    )
    return 0


def _demos_record(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.recording import record

    manifest = record(
        options.team,
        map_name=options.map,
        episodes=options.episodes,
        out=Path(options.out),
        greedy=not options.stochastic,
        seed=options.seed,
    )
    print(f"{options.out}: {manifest.episodes} joint episodes, {manifest.env_steps:,} env steps, "
          f"win rate {manifest.win_rate:.2f}")  # fmt: skip
    return 0


def _demos_inspect(options: argparse.Namespace) -> int:
    from dm2_ray.demonstrations import JointTrajectories

    manifest = JointTrajectories.open(options.set).manifest
    if options.json:
        print(manifest.model_dump_json())
        return 0
    policy = manifest.policy
    print(f"{options.set}: intact\n"
          f"  map                  {manifest.map} ({manifest.backend} engine, version {manifest.engine_version})\n"
          f"  team                 {policy.kind} {policy.source} ({'greedy' if policy.greedy else 'stochastic'})\n"
          f"  joint episodes       {manifest.episodes} ({manifest.env_steps:,} env steps)\n"
          f"  win rate             {manifest.win_rate:.3f}\n"
          f"  return, mean         {manifest.return_mean:.2f}\n"
          f"  episode length, mean {manifest.episode_length_mean:.1f}\n"
          f"  agents, observation, actions   {manifest.num_agents}, {manifest.obs_size}, {manifest.num_actions}\n"
          f"  shards               {len(manifest.shards)}")  # fmt: skip
    return 0


def _quickstart(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.quickstart import quickstart

    config_file, overrides = _split_settings(options.settings)
    if config_file is not None:
        raise _usage(f"settings are written KEY=VALUE, got {config_file}")
    return quickstart(
        Path(options.run_dir), seeds=options.seeds, map_name=options.map, scale=options.scale, overrides=overrides
    )


def _bench(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.bench import bench

    return bench(map_name=options.map, repetitions=options.repetitions, as_json=options.json)


def _check_demonstrations(experiment) -> None:  # type: ignore[no-untyped-def]
    """Refuses a set that is damaged or of another world while nothing has been started."""
    if experiment.matching.coefficient == 0:
        return
    from dm2_ray.demonstrations import JointTrajectories
    from dm2_ray.world.maps import load_map
    from dm2_ray.world.rules_tables import build_tables
    from dm2_ray.world.switches import SmacSwitches

    tables = build_tables(load_map(experiment.world.map), SmacSwitches.from_arguments(experiment.world.smac))
    demonstrations = JointTrajectories.open(experiment.demonstrations.path)
    demonstrations.check_world(experiment.world.map, tables.num_agents, tables.obs_size, tables.num_actions)


def _split_settings(settings: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Positional arguments: at most one configuration file, any number of KEY=VALUE."""
    files = [setting for setting in settings if "=" not in setting]
    if len(files) > 1:
        raise _usage(f"one configuration file expected, got {', '.join(files)} (settings are written KEY=VALUE)")
    return (Path(files[0]) if files else None), [setting for setting in settings if "=" in setting]


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


# The parser.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm2", description="Distributed multi-agent imitation-guided learning (DM2) on Ray."
    )
    parser.add_argument("--version", action="version", version=f"dm2-ray {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_quickstart(commands)
    _add_train(commands)
    _add_resume(commands)
    _add_evaluate(commands)
    _add_demos(commands)
    _add_bench(commands)
    return parser


def _command(commands, name: str, function, help: str, examples: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _add_quickstart(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "quickstart", _quickstart, "the whole story once: expert, demonstrations, DM2 beside IPPO, a picture",
        "  dm2 quickstart\n  dm2 quickstart --seeds 3 --run-dir runs/three-seeds\n",
    )  # fmt: skip
    parser.add_argument("--run-dir", default="runs/quickstart", help="where everything is written (%(default)s)")
    parser.add_argument("--seeds", type=_positive, default=1, metavar="N", help="repeat with N seeds (%(default)s)")
    parser.add_argument("--map", default="2s3z", help="SMAC map (%(default)s)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings for both runs")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor on the env steps of the runs, e.g. 0.05 to see it work"
    )


def _add_train(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "train", _train, "train a team",
        "  dm2 train --variant ippo --map 3m --env-steps 500000\n"
        "  dm2 train --variant dm2 --map 3m --demos demos/3m --env-steps 500000 matching.coefficient=0.1\n"
        "  dm2 train my_experiment.yaml seed=3 rollout.env_runners=8 --address auto\n",
    )  # fmt: skip
    parser.add_argument(
        "settings", nargs="*", metavar="CONFIG | KEY=VALUE", help="a YAML file, and single settings that override it"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the YAML file, named")
    parser.add_argument("--variant", help="ippo, dm2, … (configs/variants)")
    parser.add_argument("--map", help="SMAC map")
    parser.add_argument("--demos", type=Path, metavar="SET", help="demonstration set (demonstrations.path)")
    parser.add_argument("--seed", type=int, metavar="S")
    _add_limits(parser)
    parser.add_argument("--run-dir", metavar="DIR", help="default: runs/VARIANT-MAP-SEED")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster; default: a local one")


def _add_resume(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "resume", _resume, "go on with a run from its newest intact checkpoint",
        "  dm2 resume runs/dm2-3m-0\n  dm2 resume runs/dm2-3m-0 --env-steps 2000000\n",
    )  # fmt: skip
    parser.add_argument("run_dir", metavar="RUN_DIR")
    _add_limits(parser)
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster; default: a local one")


def _add_evaluate(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "evaluate", _evaluate, "play battles with a checkpoint's team",
        "  dm2 evaluate runs/dm2-3m-0 --episodes 1000\n"
        "  dm2 evaluate runs/dm2-3m-0/checkpoints/iteration_000010 --json\n",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run directory (its newest one)")
    parser.add_argument("--episodes", type=_positive, default=128, metavar="N", help="battles (%(default)s)")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="of the battles (%(default)s)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_demos(commands) -> None:  # type: ignore[no-untyped-def]
    demos = commands.add_parser("demos", help="record and inspect demonstration sets")
    actions = demos.add_subparsers(title="commands", required=True, metavar="COMMAND")
    parser = _command(
        actions, "record", _demos_record, "record joint trajectories of a checkpoint or a scripted team",
        "  dm2 demos record runs/ippo-3m-0 --map 3m --episodes 1000 --stochastic --out demos/3m\n"
        "  dm2 demos record scripted:focus_fire --map 3m --episodes 1000 --out demos/3m-script\n",
    )  # fmt: skip
    parser.add_argument("team", metavar="CHECKPOINT | scripted:NAME")
    parser.add_argument("--map", help="SMAC map; a checkpoint knows its own")
    parser.add_argument("--episodes", type=_positive, required=True, metavar="N", help="joint episodes, exactly")
    parser.add_argument("--out", required=True, metavar="SET", help="directory of the new set")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="of battles and actions (%(default)s)")
    parser = _command(
        actions, "inspect", _demos_inspect, "check a set's hashes and say what is in it",
        "  dm2 demos inspect demos/3m\n  dm2 demos inspect demos/3m --json\n",
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument("--json", action="store_true", help="the manifest as one JSON object on stdout")


def _add_bench(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "bench", _bench, "measure rollouts and iterations against stock RLlib in one run",
        "  dm2 bench\n  dm2 bench --map 3m --json\n",
    )  # fmt: skip
    parser.add_argument("--map", default="5m_vs_6m", help="SMAC map (%(default)s)")
    parser.add_argument("--repetitions", type=_positive, default=3, metavar="N", help="rounds (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iterations", type=_positive, metavar="K", help="stop after K iterations in all")
    parser.add_argument("--env-steps", type=_positive, metavar="T", help="stop after T env steps in all")


def _positive(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _natural(text: str) -> int:
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _version() -> str:
    try:
        return version("dm2-ray")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
