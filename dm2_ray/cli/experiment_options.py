"""The experiment that a command line asks for: `dm2 train` and `dm2 submit` take the same words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.parsing import positive
from dm2_ray.errors import UserError

if TYPE_CHECKING:
    from dm2_ray.config.schema import Experiment


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which experiment is run, and until when."""
    parser.add_argument(
        "settings", nargs="*", metavar="CONFIG | KEY=VALUE", help="a YAML file, and single settings that override it"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the YAML file, named")
    parser.add_argument("--variant", help="ippo, dm2, … (configs/variants)")
    parser.add_argument("--map", help="SMAC map, packaged scenario, or a scenario's YAML file (`dm2 maps list`)")
    parser.add_argument(
        "--demos", action="append", metavar="SET",
        help="demonstration set (demonstrations.path); given once for every agent: independent experts, agent i's the "
        "i-th (demonstrations.paths_per_agent). With live experts a checkpoint, run directory or scripted:NAME",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="S")
    add_limits(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """When a run ends."""
    parser.add_argument("--iterations", type=positive, metavar="K", help="stop after K iterations in all")
    parser.add_argument("--env-steps", type=positive, metavar="T", help="stop after T env steps in all")


def requested_experiment(options: argparse.Namespace, more: Sequence[str] = ()) -> Experiment:
    """The experiment that the arguments of `add_experiment_arguments` say.

    Args:
        options: The parsed command line.
        more: Settings of the command's own, `KEY=VALUE`; they have the last word.

    Raises:
        UserError: There is no such experiment, or nothing says when it ends.
    """
    from dm2_ray.runs.experiment_loading import load_experiment

    config_file, overrides = split_settings(options.settings)
    if options.config is not None and config_file is not None:
        raise UserError(f"two configuration files given: {options.config} and {config_file}")
    overrides += _limits(options)
    if options.seed is not None:
        overrides.append(f"seed={options.seed}")
    overrides += _experts(options.demos or [])
    experiment = load_experiment(
        options.config or config_file,
        variant=options.variant,
        map_name=options.map,
        overrides=[*overrides, *more],
    )
    if experiment.stop.iterations is None and experiment.stop.env_steps is None:
        raise UserError("when should the run end? give --iterations K or --env-steps T")
    check_cloning_alone(experiment)
    return experiment


def split_settings(settings: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Positional arguments: at most one configuration file, any number of KEY=VALUE.

    Raises:
        UserError: There are more files.
    """
    files = [setting for setting in settings if "=" not in setting]
    if len(files) > 1:
        raise UserError(f"one configuration file expected, got {', '.join(files)} (settings are written KEY=VALUE)")
    return (Path(files[0]) if files else None), [setting for setting in settings if "=" in setting]


def check_cloning_alone(experiment: Experiment) -> None:
    """Refuses what would be reported under a wrong name: behavior cloning that goes on with PPO.

    Raises:
        UserError: Variant bc does not end with the cloning.
    """
    cloning, stop = experiment.cloning.iterations, experiment.stop.iterations
    if experiment.variant == "bc" and not 1 <= (stop or 0) <= cloning:
        raise UserError(
            f"variant bc ends with the cloning: stop.iterations must be 1 to {cloning} (cloning.iterations), "
            f"got {stop}; variant bc_ippo goes on with PPO"
        )


def check_world_and_demonstrations(experiment: Experiment, address: str | None) -> None:
    """Refuses what cannot be played, and a demonstration set that is damaged or of another world, before anything
    starts.

    Args:
        experiment: What is to run.
        address: Of a Ray cluster, where battles are played elsewhere; None plays them on this machine.

    Raises:
        UserError: It cannot be played here, or the set does not fit.
    """
    from dm2_ray.distributed.demonstration_sources.checks import check_experts

    check_world(experiment, address)
    check_experts(experiment)


def check_world(experiment: Experiment, address: str | None) -> None:
    """The first half of it: the battles alone."""
    from dm2_ray.world.maps.registry import world_map
    from dm2_ray.world.maps.terrain import build_terrain
    from dm2_ray.world.smac.options import SmacOptions

    spec = world_map(experiment.world.map, experiment.world.scenario)
    if experiment.world.backend == "starcraft":
        if spec.is_scenario:
            raise UserError(f"world.backend: StarCraft II plays SMAC's maps only; scenario {spec.name} needs embedded")
        if address is None:
            # On a cluster the battles are played elsewhere; a machine that lacks the game says so then.
            from dm2_ray.world.starcraft.install import check_starcraft

            switches = SmacOptions.from_arguments(experiment.world.smac)
            check_starcraft(experiment.world.map, experiment.world.starcraft, switches.game_version)
    elif spec.is_scenario:
        build_terrain(spec.walkable)  # SMAC's maps are known to be playable


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
