"""The quickstart: a small experiment from expert to report, with the functions behind the commands.

IPPO from scratch ──► one of its checkpoints of mediocre win rate ──► joint demonstrations ──► DM2 from scratch
      └───────────────────────── the baseline ────────────────────────────┐                        │
                                                           table and picture ◄─────────────────────┘
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dm2_ray.checkpoints import intact_checkpoints
from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations import JointTrajectories, Manifest
from dm2_ray.distributed.ray_session import ray_session
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.experiments.learning_curve import LearningCurve
from dm2_ray.experiments.quickstart_report import draw_quickstart, quickstart_table
from dm2_ray.recording.checkpoint_choice import closest_to_win_rate
from dm2_ray.recording.recorder import record
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.runs.training import train

logger = logging.getLogger(__name__)

EXPERT_WIN_RATE = 0.4
"""Target for the expert's win rate: better than random, far from solved (the paper took 0.3 to 0.56)."""
KEEP_EXPERTS = ("checkpoint.keep=0", "checkpoint.every_iterations=4")
"""Keeps enough of the baseline's checkpoints to choose an expert from."""
DEMONSTRATIONS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedOutcome:
    """What one seed produced."""

    curves: tuple[LearningCurve, LearningCurve]
    demonstrations: Manifest
    commands: list[str]


def run_quickstart(
    directory: Path, *, seeds: int, map_name: str, scale: float = 1.0, overrides: Sequence[str] = ()
) -> int:
    """Runs the quickstart for `seeds` seeds and prints the comparison.

    Args:
        directory: Everything is written below it. What is finished there is not repeated, and an interrupted run is
            continued.
        seeds: How many times, with seeds 0, 1, …
        map_name: SMAC map or scenario.
        scale: Factor on the runs' env steps.
        overrides: KEY=VALUE settings for both runs.

    Raises:
        ConfigError: An override is not valid.
        KeyboardInterrupt: A stop signal was received; the current run has been saved.

    Returns:
        Exit code.
    """
    started = time.monotonic()
    experiment = _experiment("ippo", map_name, 0, scale, overrides)
    needed = RunSpec.from_experiment(experiment).resources.total.get("CPU", 0.0)
    with ray_session(needed_cpus=needed + 1.0):
        outcomes = [_one_seed(directory / f"seed-{seed}", map_name, seed, scale, overrides) for seed in range(seeds)]
    curves = [curve for outcome in outcomes for curve in outcome.curves]
    demonstrated = [outcome.demonstrations.win_rate or 0.0 for outcome in outcomes]
    picture = directory / "result.png"
    draw_quickstart(curves, demonstrated, experiment.world.map, picture)
    text = quickstart_table(curves, demonstrated)
    (directory / "result.md").write_text(text + "\n")
    print(f"\n{text}\n\npicture: {picture}\ntotal time: {(time.monotonic() - started) / 60:.1f} minutes\n")
    print("the commands that do the same step by step:")
    for command in outcomes[0].commands:
        print(f"  {command}")
    return 0


def _one_seed(directory: Path, map_name: str, seed: int, scale: float, overrides: Sequence[str]) -> SeedOutcome:
    settings = [*overrides, *KEEP_EXPERTS]
    baseline = _experiment("ippo", map_name, seed, scale, settings)
    ippo, ippo_command = _trained(directory / "ippo", baseline, map_name, settings)
    nearest = closest_to_win_rate(intact_checkpoints(ippo.checkpoints), EXPERT_WIN_RATE, greedy=False, seed=seed)
    expert, win_rate = nearest.checkpoint, nearest.result.win_rate
    logger.info(
        "expert: %s of the IPPO run, win rate %.2f at %s env steps", expert.path.name, win_rate, f"{expert.env_steps:,}"
    )
    demonstrations = directory / "demonstrations"
    if demonstrations.exists():
        manifest = JointTrajectories.open(demonstrations).manifest
    else:
        manifest = record(
            str(expert.path), map_name=None, episodes=DEMONSTRATIONS, out=demonstrations, greedy=False, seed=seed
        )
    logger.info("demonstrations: %d joint episodes, win rate %.2f", manifest.episodes, manifest.win_rate)
    path = demonstrations.absolute()
    matched = _experiment("dm2", map_name, seed, scale, [*overrides, f"demonstrations.path={path}"])
    dm2, dm2_command = _trained(directory / "dm2", matched, map_name, overrides)
    return SeedOutcome(
        curves=(LearningCurve.of(dm2), LearningCurve.of(ippo)),
        demonstrations=manifest,
        commands=[
            ippo_command,
            f"dm2 demos record {expert.path} --episodes {DEMONSTRATIONS} --stochastic --seed {seed} "
            f"--out {shlex.quote(str(demonstrations))}",
            dm2_command,
        ],
    )


def _experiment(variant: str, map_name: str, seed: int, scale: float, extra: Sequence[str]) -> Experiment:
    experiment = load_experiment(variant=variant, map_name=map_name, overrides=[f"seed={seed}", *extra])
    if experiment.stop.env_steps is None:
        experiment = load_experiment(
            variant=variant, map_name=map_name, overrides=[f"seed={seed}", "stop.env_steps=1000000", *extra]
        )
    assert experiment.stop.env_steps is not None
    steps = max(1, round(experiment.stop.env_steps * scale))
    return experiment.model_copy(update={"stop": experiment.stop.model_copy(update={"env_steps": steps})})


def _trained(path: Path, experiment: Experiment, map_name: str, settings: Sequence[str]) -> tuple[RunDirectory, str]:
    """The finished run at `path`, which is trained if it does not exist, and the command that does the same."""
    command = (
        f"dm2 train --variant {experiment.variant} --map {shlex.quote(map_name)} --seed {experiment.seed} "
        f"--env-steps {experiment.stop.env_steps} --run-dir {shlex.quote(str(path))}"
    )
    if experiment.demonstrations.path is not None:
        command += f" --demos {shlex.quote(experiment.demonstrations.path)}"
    command = " ".join([command, *map(shlex.quote, settings)])
    run = RunDirectory(path)
    if run.summary.exists() and json.loads(run.summary.read_text())["status"] == "completed":
        logger.info("%s is already finished", path)
        return run, command
    checkpoints = intact_checkpoints(run.checkpoints)
    if checkpoints:
        logger.info("%s: continuing at iteration %d", path, checkpoints[-1].iteration)
        result = train(run, experiment, resume_from=checkpoints[-1])
    else:
        logger.info("$ %s", command)
        if path.exists():  # killed before its first checkpoint: nothing is lost
            shutil.rmtree(path)
        result = train(RunDirectory.create(path, experiment), experiment)
    if result.stopped_by.startswith("SIG"):
        raise KeyboardInterrupt
    return run, command
