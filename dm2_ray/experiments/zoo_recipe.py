"""The recipe of the zoo: the runs that its teams come from, as `dm2 zoo train` repeats them.

recipe ──► runs/MAP/NAME   dm2 train …
               └─► teams/MAP/NAME-LEVEL …   dm2 zoo pack --levels …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from dm2_ray.config.documents import read_document
from dm2_ray.config.errors import ConfigError, format_validation_error
from dm2_ray.config.overrides import dotted_settings
from dm2_ray.config.schema import Experiment, Section
from dm2_ray.config.team_names import ZOO_PREFIX
from dm2_ray.config.yaml_reader import KeyPath, YamlDocument
from dm2_ray.errors import suggest_name
from dm2_ray.experiments.steps import Step, StepPlan
from dm2_ray.experiments.team_packing import level_name
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.zoo.references import TEAMS_DIRECTORY

PACKAGED_RECIPE = TEAMS_DIRECTORY.parent / "recipe.yaml"


class RecipeRun(Section):
    """One run, and the teams that are packed of it."""

    variant: str
    seed: int = Field(0, ge=0)
    env_steps: int = Field(ge=1)
    levels: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(strict=False, min_length=1)]
    """Greedy win rates; for each, the checkpoint of the run that is closest to it becomes the team NAME-LEVEL."""
    settings: Experiment = Experiment()
    """What differs from the settings of the map and the variant. All checkpoints are kept, whatever is written here."""


class Recipe(Section):
    """All runs, by MAP/NAME."""

    runs: dict[str, RecipeRun] = Field(min_length=1)


def read_recipe(path: Path = PACKAGED_RECIPE) -> tuple[Recipe, YamlDocument]:
    """Reads a recipe; also returns its document, which knows the lines.

    Raises:
        ConfigError: The file cannot be read or is not a recipe.
    """
    document = read_document(path, str(path))
    try:
        recipe = Recipe.model_validate(document.values)
    except ValidationError as refusal:
        error = refusal.errors(include_url=False)[0]
        place = _place(path, document, tuple(str(part) for part in error["loc"]))
        raise ConfigError(f"{place}: {format_validation_error(error, Recipe)}") from None
    for name in recipe.runs:
        if name.count("/") != 1 or not all(name.split("/")):
            raise ConfigError(f"{_place(path, document, ('runs', name))}: a run is called MAP/NAME, got {name!r}")
    return recipe, document


def build_zoo_plan(
    directory: Path, teams: Sequence[str] = (), *, path: Path = PACKAGED_RECIPE, battles: int
) -> StepPlan:
    """The steps that train the runs of a recipe and pack their teams.

    Args:
        directory: Everything is written below it.
        teams: Which runs: MAP, MAP/NAME, or a team (`zoo:MAP/NAME-LEVEL`, with or without `zoo:`). Empty: all.
        path: The recipe.
        battles: Battles that measure a packed team.

    Raises:
        ConfigError: The recipe is wrong, or has no such team.
    """
    recipe, document = read_recipe(path)
    runs = _chosen(recipe.runs, teams)
    maps = dict.fromkeys(name.split("/")[0] for name in runs)
    plan = StepPlan(title="zoo", maps=", ".join(maps), directory=directory)
    for name, run in runs.items():
        train = _training(name, run, directory, f"{_place(path, document, ('runs', name))}: runs.{name}")
        pack = _packing(name, run, directory, train, battles)
        plan.steps.update({train.name: train, pack.name: pack})
    return plan


def _chosen(runs: Mapping[str, RecipeRun], teams: Sequence[str]) -> Mapping[str, RecipeRun]:
    if not teams:
        return runs
    names: dict[str, list[str]] = {}
    for run in runs:
        for name in (run.split("/")[0], run, *_team_names(run, runs[run])):
            names.setdefault(name, []).append(run)
    chosen = set()
    for team in teams:
        name = team.removeprefix(ZOO_PREFIX)
        if name not in names:
            raise ConfigError(f"the recipe has no {team!r}; {suggest_name(name, names, 'teams', most=3)}")
        chosen.update(names[name])
    return {run: settings for run, settings in runs.items() if run in chosen}


def _training(name: str, run: RecipeRun, directory: Path, place: str) -> Step:
    map_name = name.split("/")[0]
    settings = {**dotted_settings(run.settings), "checkpoint.keep": "0"}
    overrides = [f"{key}={value}" for key, value in settings.items()]
    limits = [f"seed={run.seed}", f"stop.env_steps={run.env_steps}"]
    try:
        experiment = load_experiment(variant=run.variant, map_name=map_name, overrides=[*overrides, *limits])
    except ConfigError as error:
        raise ConfigError(f"{place}: {str(error).removeprefix('command line: ')}") from None
    path = directory / "runs" / name
    return Step(
        name=f"runs/{name}",
        kind="train",
        path=path,
        arguments=(
            *("train", "--variant", run.variant, "--map", map_name, "--seed", str(run.seed)),
            *("--env-steps", str(run.env_steps), "--run-dir", str(path)),
            *overrides,
        ),
        experiment=experiment,
        seed=run.seed,
    )


def _packing(name: str, run: RecipeRun, directory: Path, train: Step, battles: int) -> Step:
    teams = directory / "teams"
    levels = ",".join(f"{level:g}" for level in run.levels)
    return Step(
        name=f"teams/{name}",
        kind="pack",
        path=teams,
        arguments=(
            *("zoo", "pack", str(train.path), "--name", name.split("/")[1], "--levels", levels),
            *("--battles", str(battles), "--out", str(teams)),
        ),
        needs=(train.name,),
        teams=tuple(teams / team for team in _team_names(name, run)),
    )


def _team_names(name: str, run: RecipeRun) -> list[str]:
    return [level_name(name, level) for level in run.levels]


def _place(path: Path, document: YamlDocument, key: KeyPath) -> str:
    """The recipe's file and the line of a key, or of the closest key around it."""
    while key and key not in document.lines:
        key = key[:-1]
    return f"{path}, line {document.lines[key]}" if key else str(path)
