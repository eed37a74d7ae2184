"""The experiment that the options of a command describe, and what is checked before it starts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.demonstration_sources.checks import check_experts
from dm2_ray.errors import UserError
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world.maps.registry import world_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.starcraft.install import check_starcraft


def requested_experiment(options: argparse.Namespace, more: Sequence[str] = ()) -> Experiment:
    """The experiment that the options of `dm2 train` or `dm2 submit` describe.

    Args:
        options: The parsed command line.
        more: Settings that the command adds, `KEY=VALUE`; they override all others.

    Raises:
        UserError: There is no such experiment, or nothing says when it ends.
    """
    config_file, overrides = configuration(options)
    overrides += _limits(options)
    if options.seed is not None:
        overrides.append(f"seed={options.seed}")
    overrides += _experts(options.demos or [])
    experiment = load_experiment(
        config_file,
        variant=options.variant,
        map_name=options.map,
        overrides=[*overrides, *more],
    )
    if experiment.stop.iterations is None and experiment.stop.env_steps is None:
        raise UserError("when should the run end? give --iterations K or --env-steps T")
    check_cloning_alone(experiment)
    return experiment


def any_experiment(options: argparse.Namespace) -> Experiment:
    """The experiment that the options of `dm2 doctor` describe; it may lack demonstrations and an end.

    Raises:
        ConfigError: There is no such experiment.
    """
    config_file, overrides = configuration(options)
    layers = {"variant": options.variant, "map_name": options.map}
    try:
        return load_experiment(config_file, **layers, overrides=overrides)
    except ConfigError:
        # Perhaps only the demonstrations are missing, which are recorded after this check: any name serves.
        try:
            placeholder = "demonstrations.path=scripted:random"
            return load_experiment(config_file, **layers, overrides=[*overrides, placeholder])
        except ConfigError:
            pass
        raise


def configuration(options: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """The configuration file, given by `--config` or its position, and the KEY=VALUE settings.

    Raises:
        UserError: There are two files.
    """
    file, overrides = split_settings(options.settings)
    if options.config is not None and file is not None:
        raise UserError(f"two configuration files given: {options.config} and {file}")
    return options.config or file, overrides


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
    """Refuses behavior cloning that continues with PPO, because it would be reported under a wrong name.

    Raises:
        UserError: Variant bc does not end with the cloning.
    """
    cloning, stop = experiment.cloning.iterations, experiment.stop.iterations
    if experiment.variant == "bc" and not 1 <= (stop or 0) <= cloning:
        raise UserError(
            f"variant bc ends with the cloning: stop.iterations must be 1 to {cloning} (cloning.iterations), "
            f"got {stop}; variant bc_ippo continues with PPO"
        )


def check_world_and_demonstrations(experiment: Experiment, address: str | None) -> None:
    """Refuses battles that cannot be played, and a demonstration set that is damaged or of another world.

    Args:
        experiment: The run.
        address: Of a Ray cluster, where battles are played elsewhere; None plays them on this machine.

    Raises:
        UserError: The battles cannot be played here, or the set does not fit.
    """
    check_world(experiment, address)
    check_experts(experiment)


def check_world(experiment: Experiment, address: str | None) -> None:
    """The part of `check_world_and_demonstrations` about the battles."""
    spec = world_map(experiment.world.map, experiment.world.scenario)
    if experiment.world.backend == "starcraft":
        if spec.is_scenario:
            raise UserError(f"world.backend: StarCraft II plays SMAC's maps only; scenario {spec.name} needs embedded")
        if address is None:
            # On a cluster the battles are played elsewhere; a machine that lacks the game says so then.
            smac = SmacOptions.from_arguments(experiment.world.smac)
            check_starcraft(experiment.world.map, experiment.world.starcraft, smac.game_version)
    elif spec.is_scenario:  # SMAC's maps are known to be playable
        # numba and scipy take 0.5 s to import; most runs are not on scenarios.
        from dm2_ray.world.maps.terrain import build_terrain

        build_terrain(spec.walkable)


def _experts(demos: Sequence[str]) -> list[str]:
    """Settings for one joint team or one independent team per agent; either replaces what a file says about both."""
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
