"""Checks whether the keys of an experiment are consistent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from dm2_ray.config.documents import variant_names
from dm2_ray.config.errors import ConfigError, closest_match, format_value
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import KeyPath
from dm2_ray.experiments.matrix import Condition, DemonstrationSet, Expert, Matrix
from dm2_ray.experiments.matrix_source import MatrixSource
from dm2_ray.world import SCRIPTED_TEAMS
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.maps.scenario import ScenarioError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Settings of a run that follow from other keys of the experiment, and these keys.
_OWN_KEYS = {
    ("seed",): "seeds, or the expert's seed",
    ("variant",): "the row's or the expert's variant",
    ("world", "map"): "map",
    ("world", "scenario"): "map",
    ("demonstrations", "path"): "the row's set",
    ("demonstrations", "paths_per_agent"): "the row's set and experts",
}


def check_agreement(matrix: Matrix, source: MatrixSource) -> None:
    """Checks what involves several keys: names that refer to nothing, seeds used twice.

    Raises:
        ConfigError: The keys are not consistent; the message names the place of the key to correct.
    """
    _Checks(matrix, source).run()


def check_map(name: str, place: str) -> int:
    """Number of agents of a map.

    Raises:
        ConfigError: There is no such map.
    """
    try:
        return load_map(name).num_agents
    except (UnknownMapError, ScenarioError) as error:
        raise ConfigError(f"{place}: map: {error}") from None


def unknown_name(section: str, name: str, names: Mapping[str, Any]) -> str:
    """Error message about a reference to an entry that does not exist."""
    return f"there is no {name!r} among the {section} ({', '.join(names) or 'none'}){closest_match(name, names)}"


class _Checks:
    def __init__(self, matrix: Matrix, source: MatrixSource) -> None:
        self._matrix, self._source = matrix, source
        self._num_agents = check_map(matrix.map, source.place(("map",)))

    def run(self) -> None:
        matrix = self._matrix
        if len(set(matrix.seeds)) < len(matrix.seeds):
            self._refuse(("seeds",), f"seeds must differ from each other, got {list(matrix.seeds)}")
        self._check_settings(("settings",), matrix.settings)
        if "stop" in matrix.settings.model_fields_set:
            self._refuse(("settings", "stop"), "the shared settings cannot contain stop: use env_steps for "
                                               "learners, experts.NAME.env_steps for an expert")  # fmt: skip
        for section in ("experts", "sets", "rows"):
            for name in getattr(matrix, section):
                if not _NAME.fullmatch(name):
                    self._refuse((section, name), f"{section}.{name}: a name becomes a directory: use letters, "
                                                  "digits, _ . -")  # fmt: skip
        for name, expert in matrix.experts.items():
            self._check_expert(("experts", name), expert)
        for name, demonstrations in matrix.sets.items():
            self._check_set(("sets", name), demonstrations)
        for name, condition in matrix.rows.items():
            if condition.scripted is None:
                self._check_learner(("rows", name), condition)
            else:
                self._check_scripted_team(("rows", name), condition)

    def _check_expert(self, path: KeyPath, expert: Expert) -> None:
        self._check_variant(path, expert.variant)
        self._check_settings((*path, "settings"), expert.settings)
        seeds = range(expert.seed, expert.seed + (self._num_agents if expert.teams == "per_agent" else 1))
        if both := sorted(set(seeds) & set(self._matrix.seeds)):
            self._refuse((*path, "seed"), f"{_key(path)} trains with the learners' seeds {both}: choose others")

    def _check_set(self, path: KeyPath, demonstrations: DemonstrationSet) -> None:
        origins = [key for key in ("expert", "checkpoint", "scripted", "paths") if getattr(demonstrations, key)]
        if len(origins) != 1:
            self._refuse(path, f"{_key(path)} needs one of expert, checkpoint, scripted and paths, got "
                               f"{' and '.join(origins) or 'none'}")  # fmt: skip
        if demonstrations.expert is not None and demonstrations.expert not in self._matrix.experts:
            self._refuse((*path, "expert"), unknown_name("experts", demonstrations.expert, self._matrix.experts))
        if demonstrations.win_rate is not None and demonstrations.expert is None:
            self._refuse((*path, "win_rate"), f"{_key(path)}.win_rate chooses a checkpoint: it needs an expert")
        if len(demonstrations.paths) not in (0, 1, self._num_agents):
            self._refuse((*path, "paths"), f"{_key(path)}.paths must be one set or {self._num_agents} (agents on "
                                           f"{self._matrix.map}), got {len(demonstrations.paths)}")  # fmt: skip
        self._check_scripted(path, demonstrations.scripted)

    def _check_scripted_team(self, path: KeyPath, condition: Condition) -> None:
        self._check_scripted(path, condition.scripted)
        if given := condition.model_fields_set - {"scripted", "label"}:
            self._refuse(path, f"{_key(path)}: a scripted team takes a label and nothing else, got {sorted(given)[0]}")

    def _check_learner(self, path: KeyPath, condition: Condition) -> None:
        if condition.variant is None:
            self._refuse(path, f"{_key(path)} needs either a variant that learns or a scripted team")
        self._check_variant(path, condition.variant)
        self._check_settings((*path, "settings"), condition.settings)
        if condition.set is None:
            return
        if condition.set not in self._matrix.sets:
            self._refuse((*path, "set"), unknown_name("sets", condition.set, self._matrix.sets))
        teams = self._matrix.num_teams(condition.set, self._num_agents)
        if condition.experts == "independent" and teams != self._num_agents:
            self._refuse((*path, "experts"), f"{_key(path)}: independent experts need a set of {self._num_agents} "
                                             f"teams (experts.NAME.teams: per_agent), {condition.set} has "
                                             f"{teams}")  # fmt: skip
        if isinstance(condition.team, int) and not 0 <= condition.team < teams:
            self._refuse((*path, "team"), f"{_key(path)}.team must be by_seed or below {teams}, got {condition.team}")

    def _check_variant(self, path: KeyPath, variant: str | None) -> None:
        self._check_known((*path, "variant"), variant, variant_names())

    def _check_scripted(self, path: KeyPath, team: str | None) -> None:
        if team is not None:
            self._check_known((*path, "scripted"), team, SCRIPTED_TEAMS)

    def _check_known(self, path: KeyPath, name: str | None, names: Sequence[str]) -> None:
        if name not in names:
            self._refuse(path, f"{_key(path)} must be one of {', '.join(names)}, got {format_value(name)}"
                               + closest_match(name, names))  # fmt: skip

    def _check_settings(self, path: KeyPath, settings: Experiment) -> None:
        given = settings.model_dump(exclude_unset=True)
        for (first, *rest), instead in _OWN_KEYS.items():
            if first in given and (not rest or rest[0] in given[first]):
                key = (*path, first, *rest)
                self._refuse(key, f"{_key(key)} is not set here: the experiment's own key for it is {instead}")

    def _refuse(self, path: KeyPath, problem: str) -> NoReturn:
        raise ConfigError(f"{self._source.place(path)}: {problem}")


def _key(path: KeyPath) -> str:
    return ".".join(path)
