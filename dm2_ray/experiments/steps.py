"""From an experiment to the commands that make it up, in the order in which they are worth running.

    experts/NAME/team_0 …            dm2 train …
        └─► sets/NAME/team_0 …       dm2 demos record …
                └─► rows/NAME/seed_0 …   dm2 train … --demos SET

Seeds are the outer loop over the rows, so that what there is after half of the time can be compared.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dm2_ray.config.errors import ConfigError
from dm2_ray.config.overrides import dotted_settings
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import KeyPath
from dm2_ray.demonstrations import DemonstrationError
from dm2_ray.demonstrations.source_checks import check_settings
from dm2_ray.distributed.demonstration_sources.factory import check_experts
from dm2_ray.experiments.matrix import Condition, Expert, Matrix
from dm2_ray.experiments.matrix_source import MatrixSource
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world.maps.registry import load_map

SCRIPTED_ROW_EPISODES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedAs:
    """What a demonstration set that serves must say of itself."""

    episodes: int
    seed: int
    greedy: bool
    target_win_rate: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command, what it leaves behind and what it waits for."""

    name: str
    """Path below the experiment's directory, for example rows/ippo/seed_0."""
    kind: Literal["train", "record"]
    path: Path
    """The run directory or demonstration set that the command makes."""
    arguments: tuple[str, ...]
    """Of `dm2`."""
    needs: tuple[str, ...] = ()
    """Names of the steps that come before."""
    experiment: Experiment | None = None
    """What is trained."""
    recorded: RecordedAs | None = None
    """What is recorded."""
    row: str | None = None
    seed: int | None = None

    def command(self) -> str:
        """As one would type it."""
        return shlex.join(("dm2", *self.arguments))


@dataclass(kw_only=True)
class ExperimentPlan:
    """All steps of an experiment."""

    matrix: Matrix
    directory: Path
    steps: dict[str, Step] = field(default_factory=dict)

    def rows(self, row: str) -> list[Step]:
        """A row's steps, by seed."""
        return [step for step in self.steps.values() if step.row == row]

    def set_paths(self, name: str) -> list[Path]:
        """Directories of a demonstration set, one per team."""
        return set_paths(self.matrix, self.directory, name)


def set_paths(matrix: Matrix, directory: Path, name: str) -> list[Path]:
    """Directories of a demonstration set, one per team."""
    demonstrations = matrix.sets[name]
    if demonstrations.paths:
        return [Path(path) for path in demonstrations.paths]
    teams = matrix.num_teams(name, load_map(matrix.map).num_agents)
    return [directory / "sets" / name / f"team_{team}" for team in range(teams)]


def build_plan(matrix: Matrix, source: MatrixSource, directory: Path) -> ExperimentPlan:
    """Lays out an experiment; every run's configuration is built and checked.

    Args:
        matrix: What to run.
        source: Where its keys stand, for refusals.
        directory: Everything is written below it.

    Raises:
        ConfigError: A run's settings do not fit together.
        DemonstrationError: A given set is damaged or of another world.
    """
    plan = ExperimentPlan(matrix=matrix, directory=directory)
    num_agents = load_map(matrix.map).num_agents
    used = {row.set for row in matrix.rows.values() if row.set is not None}
    for name in matrix.sets:
        if name in used:
            _add_set(plan, source, name, num_agents)
    for position, seed in enumerate(matrix.seeds):
        for name, row in matrix.rows.items():
            _add_row(plan, source, name, row, position, seed, num_agents)
    return plan


def _add_set(plan: ExperimentPlan, source: MatrixSource, name: str, num_agents: int) -> None:
    matrix, demonstrations = plan.matrix, plan.matrix.sets[name]
    if demonstrations.paths:
        return
    for team, path in enumerate(plan.set_paths(name)):
        needs: tuple[str, ...] = ()
        who = f"scripted:{demonstrations.scripted}"
        if demonstrations.expert is not None:
            expert = _add_expert(plan, source, demonstrations.expert, team, num_agents)
            needs, who = (expert.name,), str(expert.path)
        arguments = ["demos", "record", who, "--map", matrix.map, "--episodes", str(demonstrations.episodes),
                     "--seed", str(demonstrations.seed + team), "--out", str(path)]  # fmt: skip
        if demonstrations.expert is not None and not demonstrations.greedy:
            arguments.append("--stochastic")
        if demonstrations.win_rate is not None:
            arguments += ["--win-rate", str(demonstrations.win_rate)]
        step = Step(
            name=f"sets/{name}/team_{team}",
            kind="record",
            path=path,
            arguments=tuple(arguments),
            needs=needs,
            recorded=RecordedAs(
                episodes=demonstrations.episodes,
                seed=demonstrations.seed + team,
                greedy=demonstrations.greedy or demonstrations.expert is None,
                target_win_rate=demonstrations.win_rate,
            ),
        )
        plan.steps[step.name] = step


def _add_expert(plan: ExperimentPlan, source: MatrixSource, name: str, team: int, num_agents: int) -> Step:
    step_name = f"experts/{name}/team_{team}"
    if step_name in plan.steps:  # several sets are recorded of it
        return plan.steps[step_name]
    matrix, expert = plan.matrix, plan.matrix.experts[name]
    settings = _settings(matrix, expert)
    if any(other.expert == name and other.win_rate is not None for other in matrix.sets.values()):
        # A choice of checkpoints needs them all.
        settings = {"checkpoint.keep": "0", **settings}
    step = _training(
        plan,
        source,
        ("experts", name),
        step_name,
        expert.variant,
        expert.seed + team,
        expert.env_steps,
        settings,
    )
    plan.steps[step_name] = step
    return step


def _add_row(
    plan: ExperimentPlan, source: MatrixSource, name: str, row: Condition, position: int, seed: int, num_agents: int
) -> None:
    matrix = plan.matrix
    step_name = f"rows/{name}/seed_{seed}"
    path = plan.directory / step_name
    if row.scripted is not None:
        arguments = ("demos", "record", f"scripted:{row.scripted}", "--map", matrix.map, "--episodes",
                     str(SCRIPTED_ROW_EPISODES), "--seed", str(seed), "--out", str(path))  # fmt: skip
        plan.steps[step_name] = Step(
            name=step_name,
            kind="record",
            path=path,
            arguments=arguments,
            recorded=RecordedAs(episodes=SCRIPTED_ROW_EPISODES, seed=seed, greedy=True),
            row=name,
            seed=seed,
        )
        return
    assert row.variant is not None
    settings = _settings(matrix, row)
    demonstrations: list[Path] = []
    needs: list[str] = []
    if row.set is not None:
        sets = plan.set_paths(row.set)
        if row.experts == "independent":
            chosen = list(range(len(sets)))
        else:
            chosen = [position % len(sets) if row.team == "by_seed" else row.team]
        demonstrations = [sets[team] for team in chosen]
        needs = [] if matrix.sets[row.set].paths else [f"sets/{row.set}/team_{team}" for team in chosen]
    plan.steps[step_name] = _training(
        plan,
        source,
        ("rows", name),
        step_name,
        row.variant,
        seed,
        matrix.env_steps,
        settings,
        demonstrations=demonstrations,
        needs=tuple(needs),
        row=name,
    )
    if position == 0:
        _check_demonstrations(plan, source, name, num_agents)


def _training(
    plan: ExperimentPlan,
    source: MatrixSource,
    place: KeyPath,
    step_name: str,
    variant: str,
    seed: int,
    env_steps: int | None,
    settings: Mapping[str, str],
    *,
    demonstrations: Sequence[Path] = (),
    needs: tuple[str, ...] = (),
    row: str | None = None,
) -> Step:
    matrix, path = plan.matrix, plan.directory / step_name
    typed = [f"{key}={value}" for key, value in settings.items()]
    own = [f"seed={seed}"]
    if env_steps is not None:
        own.append(f"stop.env_steps={env_steps}")
    if len(demonstrations) == 1:
        own.append(f"demonstrations.path={json.dumps(str(demonstrations[0]))}")
    elif demonstrations:
        own.append(f"demonstrations.paths_per_agent={json.dumps([str(path) for path in demonstrations])}")
    where = ".".join(place)
    try:
        experiment = load_experiment(variant=variant, map_name=matrix.map, overrides=[*typed, *own])
    except ConfigError as error:
        problem = str(error).removeprefix("command line: ")
        raise ConfigError(f"{source.place(place)}: {where}: {problem}") from None
    if demonstrations and experiment.demonstrations.source == "live":
        raise ConfigError(f"{source.place(place)}: {where}: rows learn from recorded sets; demonstrations.source live "
                          "is for `dm2 train`")  # fmt: skip
    if experiment.stop.env_steps is None and experiment.stop.iterations is None:
        raise ConfigError(f"{source.place(place)}: {where}: when should its runs end? {matrix.map} has no stop of its "
                          "own: give env_steps (learners) or experts.NAME.env_steps")  # fmt: skip
    arguments = ["train", "--variant", variant, "--map", matrix.map, "--seed", str(seed)]
    if env_steps is not None:
        arguments += ["--env-steps", str(env_steps)]
    for path_of_set in demonstrations:
        arguments += ["--demos", str(path_of_set)]
    return Step(
        name=step_name,
        kind="train",
        path=path,
        arguments=(*arguments, "--run-dir", str(path), *typed),
        needs=needs,
        experiment=experiment,
        row=row,
        seed=seed,
    )


def _settings(matrix: Matrix, own: Expert | Condition) -> dict[str, str]:
    """Shared settings, and those of a row or an expert over them, as KEY and VALUE of the command line."""
    return {**dotted_settings(matrix.settings), **dotted_settings(own.settings)}


def _check_demonstrations(plan: ExperimentPlan, source: MatrixSource, name: str, num_agents: int) -> None:
    """What the learner would refuse hours later: too few episodes for the sampling, a given set of another world."""
    row = plan.matrix.rows[name]
    experiment = plan.rows(name)[0].experiment
    assert experiment is not None
    try:
        check_settings(experiment, num_agents)
        if row.set is not None and plan.matrix.sets[row.set].paths:
            check_experts(experiment)
    except DemonstrationError as error:
        place = source.place(("rows", name) if row.set is None else ("sets", row.set, "paths"))
        raise DemonstrationError(f"{place}: rows.{name}: {error}") from None
    if row.set is None:
        return
    demonstrations = plan.matrix.sets[row.set]
    needed = num_agents if experiment.demonstrations.sampling == "non_concurrent" else 1
    if not demonstrations.paths and demonstrations.episodes < needed:
        place = source.place(("sets", row.set, "episodes"))
        raise ConfigError(f"{place}: sets.{row.set}.episodes is {demonstrations.episodes}: {num_agents} agents that "
                          f"draw disjoint episodes need {needed} or more")  # fmt: skip
