"""The runs of a calibration as steps of a pipeline: every algorithm, map and seed, each on one core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.calibration import TODAYS_ENGINE
from dm2_ray.experiments.published_results import PublishedResults
from dm2_ray.experiments.step_state import last_record
from dm2_ray.experiments.steps import Step, StepPlan
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.world.maps.registry import load_map

ALGORITHMS = ("ippo", "mappo")
"""The reference learners."""
SINGLE_PROCESS = ("rollout.env_runners=0", "learners.processes=driver")
"""Everything in one process, so that one run uses one core."""


def check_maps(maps: Sequence[str], published: PublishedResults) -> None:
    """Refuses maps that cannot be calibrated.

    Raises:
        UnknownMapError: There is no such map.
        ConfigError: Nothing has been published about it.
    """
    for name in maps:
        load_map(name)
        if name not in published.maps:
            raise ConfigError(f"no win rates on {name} have been published; there are {', '.join(published.maps)}")


def plan_calibration(
    published: PublishedResults,
    directory: Path,
    *,
    maps: Sequence[str],
    algorithms: Sequence[str] | None,
    seeds: int,
    env_steps: int | None,
    settings: Sequence[str] = (),
) -> StepPlan:
    """Builds the steps; every run's configuration is checked.

    Args:
        published: The bands say how long runs must be.
        directory: Runs are written to DIRECTORY/MAP/ALGORITHM/seed_S.
        maps: The maps; none stands for all with bands.
        algorithms: Some of ALGORITHMS; None takes those that have a band on the map.
        seeds: Number of seeds, from 0.
        env_steps: Length of every run; None takes what the bands of the map and the algorithm need.
        settings: KEY=VALUE for all runs.

    Raises:
        ConfigError: A setting is wrong, a map cannot be calibrated, or nothing says how long a run must be.
        RunDirectoryError: The directory contains runs of another version of the engine.
    """
    check_maps(maps, published)
    chosen = tuple(maps) or tuple(dict.fromkeys(band.map for band in published.bands))
    plan = StepPlan(title="Calibration", maps=", ".join(chosen), directory=directory)
    for seed in range(seeds):
        for map_name in chosen:
            for algorithm in algorithms or ALGORITHMS:
                bands = published.bands_of(map_name, algorithm)
                if not bands and algorithms is None:
                    continue
                if not bands and env_steps is None:
                    raise ConfigError(
                        f"{algorithm} has no band on {map_name} that says how long a run must be: give --env-steps"
                    )
                limit = env_steps or max(band.horizon for band in bands)
                step = _training(map_name, algorithm, seed, limit, settings, directory)
                plan.steps[step.name] = step
    missing = [name for name in chosen if not any(step.startswith(f"{name}/") for step in plan.steps)]
    if missing:
        raise ConfigError(f"there are no bands on {', '.join(missing)}: give --algorithms and --env-steps")
    return plan


def _training(
    map_name: str, algorithm: str, seed: int, env_steps: int, settings: Sequence[str], directory: Path
) -> Step:
    name = f"{map_name}/{algorithm}/seed_{seed}"
    path = directory / name
    overrides = [*SINGLE_PROCESS, *settings]
    run = RunDirectory(path)
    if last_record(run.metrics) and (engine := run.engine()) != TODAYS_ENGINE:
        raise RunDirectoryError(
            f"{path} was played on engine {engine or 'unknown'!r}; today's is {TODAYS_ENGINE!r}: choose another --out, "
            "or remove that run"
        )
    experiment = load_experiment(
        variant=algorithm,
        map_name=map_name,
        overrides=[*overrides, f"seed={seed}", f"stop.env_steps={env_steps}"],
    )
    if experiment.world.backend != "embedded":
        raise ConfigError(f"calibration is about the embedded engine: world.backend is {experiment.world.backend}")
    return Step(
        name=name,
        kind="train",
        path=path,
        arguments=("train", "--variant", algorithm, "--map", map_name, "--seed", str(seed), "--env-steps",
                   str(env_steps), "--run-dir", str(path), *overrides),
        experiment=experiment,
        seed=seed,
    )  # fmt: skip
