"""Turns an experiment into the commands it consists of, in the order in which to run them.

A `StepPlan` is such a list of commands, whatever it is for; `pipeline.run_pipeline` runs it.

    experts/NAME/team_0 …            dm2 train …
        └─► sets/NAME/team_0 …       dm2 demos record …
                └─► rows/NAME/seed_0 …   dm2 train … --demos SET

The outer loop is over seeds and the inner one over conditions, so that conditions can be compared early.
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
from dm2_ray.config.team_names import SCRIPTED_PREFIX, ZOO_PREFIX
from dm2_ray.demonstrations import DemonstrationError
from dm2_ray.demonstrations.source_checks import check_settings
from dm2_ray.distributed.demonstration_sources.checks import check_experts
from dm2_ray.experiments.matrix import Condition, Expert, Matrix
from dm2_ray.experiments.matrix_source import MatrixSource
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world.maps.registry import load_map
from dm2_ray.zoo import PackedTeamError, TeamManifest
from dm2_ray.zoo.references import team_directory

SCRIPTED_EPISODES = 1000
"""Number of battles of a scripted team that is compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedAs:
    """What the manifest of a finished demonstration set must contain; `source` only if it is not None."""

    episodes: int
    seed: int
    greedy: bool
    target_win_rate: float | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command, what it produces and what it waits for.

    Attributes:
        name: Path below the experiment's directory, for example rows/ippo/seed_0.
        kind: Whether the command trains, records or packs teams.
        path: The run directory or demonstration set that the command creates, or the directory of the packed teams.
        arguments: Arguments of `dm2`.
        needs: Names of the steps that must finish before.
        experiment: What is trained.
        recorded: What is recorded.
        teams: Directories of the packed teams.
        condition: The condition that the step belongs to; None for experts and sets.
        seed: Seed of a training, or of a scripted team's battles.
    """

    name: str
    kind: Literal["train", "record", "pack"]
    path: Path
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    experiment: Experiment | None = None
    recorded: RecordedAs | None = None
    teams: tuple[Path, ...] = ()
    condition: str | None = None
    seed: int | None = None

    def command(self) -> str:
        """The command line as typed in a shell."""
        return shlex.join(("dm2", *self.arguments))


@dataclass(kw_only=True)
class StepPlan:
    """Steps that `pipeline.run_pipeline` runs.

    Attributes:
        title: What they are, for the terminal.
        maps: The maps that they play, for the terminal.
        directory: Everything is written below it.
        steps: The steps by name, in the order in which to run them.
    """

    title: str
    maps: str
    directory: Path
    steps: dict[str, Step] = field(default_factory=dict)


@dataclass(kw_only=True)
class ExperimentPlan(StepPlan):
    """All steps of an experiment."""

    matrix: Matrix

    def commands(self) -> list[str]:
        """The command lines of all steps, in order."""
        return [step.command() for step in self.steps.values()]

    def steps_of(self, condition: str) -> list[Step]:
        """A condition's steps, by seed."""
        return [step for step in self.steps.values() if step.condition == condition]


def set_paths(matrix: Matrix, directory: Path, name: str) -> list[Path]:
    """Directories of a demonstration set, one per team."""
    demonstrations = matrix.sets[name]
    if demonstrations.paths:
        return [Path(path) for path in demonstrations.paths]
    teams = matrix.num_teams(name, load_map(matrix.map).num_agents)
    return [directory / "sets" / name / f"team_{team}" for team in range(teams)]


def build_plan(matrix: Matrix, source: MatrixSource, directory: Path) -> ExperimentPlan:
    """Builds the steps of an experiment; every run's configuration is built and checked.

    Args:
        matrix: The experiment.
        source: Where its keys are written, for error messages.
        directory: Everything is written below it.

    Raises:
        ConfigError: The settings of a run are not valid.
        DemonstrationError: A given set is damaged or was recorded in another world.
    """
    plan = ExperimentPlan(title=matrix.title, maps=matrix.map, directory=directory, matrix=matrix)
    builder = _PlanBuilder(plan, source)
    used = {condition.set for condition in matrix.rows.values() if condition.set is not None}
    for name in matrix.sets:
        if name in used:
            builder.add_set(name)
    for position, seed in enumerate(matrix.seeds):
        for name in matrix.rows:
            builder.add_condition(name, position, seed)
    return builder.plan


@dataclass(frozen=True, kw_only=True, slots=True)
class _Training:
    """A `dm2 train` of the plan.

    `key` is the path of the expert or the condition in the experiment's file, `leaf` the last part of the step's name.
    """

    key: tuple[str, str]
    leaf: str
    variant: str
    seed: int
    env_steps: int | None
    settings: Mapping[str, str]
    demonstrations: Sequence[Path] = ()
    needs: tuple[str, ...] = ()


class _PlanBuilder:
    def __init__(self, plan: ExperimentPlan, source: MatrixSource) -> None:
        self.plan = plan
        self._matrix, self._source = plan.matrix, source
        self._num_agents = load_map(plan.matrix.map).num_agents

    def add_set(self, name: str) -> None:
        demonstrations = self._matrix.sets[name]
        if demonstrations.paths:
            return
        for team, path in enumerate(set_paths(self._matrix, self.plan.directory, name)):
            needs: tuple[str, ...] = ()
            team_name, options = f"{SCRIPTED_PREFIX}{demonstrations.scripted}", []
            if demonstrations.checkpoint is not None:
                team_name = demonstrations.checkpoint
                self._check_team(name, team_name)
            if demonstrations.expert is not None:
                expert = self._add_expert(demonstrations.expert, team)
                needs, team_name = (expert.name,), str(expert.path)
            if demonstrations.scripted is None and not demonstrations.greedy:
                options.append("--stochastic")
            if demonstrations.win_rate is not None:
                options += ["--win-rate", str(demonstrations.win_rate)]
            recorded = RecordedAs(
                episodes=demonstrations.episodes,
                seed=demonstrations.seed + team,
                greedy=demonstrations.greedy or demonstrations.scripted is not None,
                target_win_rate=demonstrations.win_rate,
                source=team_name if team_name.startswith(ZOO_PREFIX) else None,
            )
            self._add(
                Step(
                    name=f"sets/{name}/team_{team}",
                    kind="record",
                    path=path,
                    arguments=(*self._record_arguments(team_name, recorded, path), *options),
                    needs=needs,
                    recorded=recorded,
                )
            )

    def add_condition(self, name: str, position: int, seed: int) -> None:
        """Adds one seed's run, the `position`-th of the condition."""
        condition = self._matrix.rows[name]
        if condition.scripted is not None:
            step_name = f"rows/{name}/seed_{seed}"
            path = self.plan.directory / step_name
            recorded = RecordedAs(episodes=SCRIPTED_EPISODES, seed=seed, greedy=True)
            arguments = self._record_arguments(f"scripted:{condition.scripted}", recorded, path)
            self._add(
                Step(name=step_name, kind="record", path=path, arguments=arguments, recorded=recorded, condition=name,
                     seed=seed)
            )  # fmt: skip
            return
        assert condition.variant is not None
        demonstrations: list[Path] = []
        needs: list[str] = []
        if condition.set is not None:
            sets = set_paths(self._matrix, self.plan.directory, condition.set)
            if condition.experts == "independent":
                chosen = list(range(len(sets)))
            else:
                chosen = [position % len(sets) if condition.team == "by_seed" else condition.team]
            demonstrations = [sets[team] for team in chosen]
            is_given = bool(self._matrix.sets[condition.set].paths)
            needs = [] if is_given else [f"sets/{condition.set}/team_{team}" for team in chosen]
        step = self._add_training(
            _Training(
                key=("rows", name),
                leaf=f"seed_{seed}",
                variant=condition.variant,
                seed=seed,
                env_steps=self._matrix.env_steps,
                settings=self._settings(condition),
                demonstrations=demonstrations,
                needs=tuple(needs),
            )
        )
        if position == 0:
            self._check_demonstrations(name, step)

    def _add_expert(self, name: str, team: int) -> Step:
        step_name = f"experts/{name}/team_{team}"
        if step_name in self.plan.steps:  # several sets are recorded from this team
            return self.plan.steps[step_name]
        expert, settings = self._matrix.experts[name], self._settings(self._matrix.experts[name])
        if any(other.expert == name and other.win_rate is not None for other in self._matrix.sets.values()):
            # Choosing a checkpoint by its win rate needs all of them.
            settings = {"checkpoint.keep": "0", **settings}
        return self._add_training(
            _Training(
                key=("experts", name),
                leaf=f"team_{team}",
                variant=expert.variant,
                seed=expert.seed + team,
                env_steps=expert.env_steps,
                settings=settings,
            )
        )

    def _add_training(self, training: _Training) -> Step:
        step_name = "/".join((*training.key, training.leaf))
        path = self.plan.directory / step_name
        settings = [f"{key}={value}" for key, value in training.settings.items()]
        arguments = ["train", "--variant", training.variant, "--map", self._matrix.map, "--seed", str(training.seed)]
        if training.env_steps is not None:
            arguments += ["--env-steps", str(training.env_steps)]
        for path_of_set in training.demonstrations:
            arguments += ["--demos", str(path_of_set)]
        return self._add(
            Step(
                name=step_name,
                kind="train",
                path=path,
                arguments=(*arguments, "--run-dir", str(path), *settings),
                needs=training.needs,
                experiment=self._load_experiment(training, settings),
                condition=training.key[1] if training.key[0] == "rows" else None,
                seed=training.seed,
            )
        )

    def _load_experiment(self, training: _Training, settings: Sequence[str]) -> Experiment:
        """The configuration that the training's command line gives. Raises ConfigError, with the place of the key."""
        own = [f"seed={training.seed}"]
        if training.env_steps is not None:
            own.append(f"stop.env_steps={training.env_steps}")
        sets = [str(path) for path in training.demonstrations]
        if len(sets) == 1:
            own.append(f"demonstrations.path={json.dumps(sets[0])}")
        elif sets:
            own.append(f"demonstrations.paths_per_agent={json.dumps(sets)}")
        where = f"{self._source.place(training.key)}: {'.'.join(training.key)}"
        try:
            experiment = load_experiment(
                variant=training.variant, map_name=self._matrix.map, overrides=[*settings, *own]
            )
        except ConfigError as error:
            raise ConfigError(f"{where}: {str(error).removeprefix('command line: ')}") from None
        if sets and experiment.demonstrations.source == "live":
            raise ConfigError(f"{where}: rows learn from recorded sets; demonstrations.source live is for `dm2 train`")
        if experiment.stop.env_steps is None and experiment.stop.iterations is None:
            raise ConfigError(f"{where}: when should its runs end? {self._matrix.map} has no default: set "
                              "env_steps (learners) or experts.NAME.env_steps")  # fmt: skip
        return experiment

    def _check_demonstrations(self, name: str, step: Step) -> None:
        """Refuses now what a learner would refuse hours later: too few episodes, or a given set of another world."""
        condition, experiment = self._matrix.rows[name], step.experiment
        assert experiment is not None
        try:
            check_settings(experiment, self._num_agents)
            if condition.set is not None and self._matrix.sets[condition.set].paths:
                check_experts(experiment)
        except DemonstrationError as error:
            place = self._source.place(("rows", name) if condition.set is None else ("sets", condition.set, "paths"))
            raise DemonstrationError(f"{place}: rows.{name}: {error}") from None
        if condition.set is None:
            return
        demonstrations = self._matrix.sets[condition.set]
        needed = self._num_agents if experiment.demonstrations.sampling == "non_concurrent" else 1
        if not demonstrations.paths and demonstrations.episodes < needed:
            place = self._source.place(("sets", condition.set, "episodes"))
            raise ConfigError(
                f"{place}: sets.{condition.set}.episodes is {demonstrations.episodes}: {self._num_agents} agents that "
                f"draw disjoint episodes need {needed} or more"
            )

    def _check_team(self, name: str, team: str) -> None:
        """Refuses a team of the zoo that does not exist, or that plays on another map."""
        if not team.startswith(ZOO_PREFIX):
            return
        place = self._source.place(("sets", name, "checkpoint"))
        try:
            manifest = TeamManifest.read(team_directory(team))
        except PackedTeamError as error:
            raise ConfigError(f"{place}: sets.{name}.checkpoint: {error}") from None
        if manifest.map != self._matrix.map:
            raise ConfigError(
                f"{place}: sets.{name}.checkpoint: {team} plays on {manifest.map}, this experiment is on "
                f"{self._matrix.map}"
            )

    def _add(self, step: Step) -> Step:
        self.plan.steps[step.name] = step
        return step

    def _record_arguments(self, team_name: str, recorded: RecordedAs, path: Path) -> tuple[str, ...]:
        return ("demos", "record", team_name, "--map", self._matrix.map, "--episodes", str(recorded.episodes),
                "--seed", str(recorded.seed), "--out", str(path))  # fmt: skip

    def _settings(self, own: Expert | Condition) -> dict[str, str]:
        """Shared settings, with those of a condition or an expert over them, as KEY and VALUE of the command line."""
        return {**dotted_settings(self._matrix.settings), **dotted_settings(own.settings)}
