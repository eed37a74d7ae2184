"""Builds an `Experiment` from layers of YAML files and the command line; later layers win.

    configs/defaults.yaml < configs/maps/MAP.yaml < configs/variants/VARIANT.yaml < the user's file < KEY=VALUE

Every layer is validated before it is merged into those below it, so an error names the file and line to correct. Every
mistake is reported as a `ConfigError` of one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dm2_ray.config.documents import read_document, variant_names
from dm2_ray.config.dotted_path import function_paths, import_function
from dm2_ray.config.errors import ConfigError, closest_match, field_at, format_validation_error, format_value
from dm2_ray.config.overrides import COMMAND_LINE, deep_merge, split_override
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.config.team_names import is_path
from dm2_ray.config.yaml_reader import KeyPath, YamlError, read_yaml_value
from dm2_ray.demonstrations.source_checks import DemonstrationSettingsError, check_settings
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import load_map, scenario_file
from dm2_ray.world.maps.scenario import ScenarioError, read_scenario, scenario_from_mapping
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.smac.options import SmacOptions

_MAP: KeyPath = ("world", "map")
_SCENARIO: KeyPath = ("world", "scenario")
_VARIANT: KeyPath = ("variant",)


def load_experiment(
    config_file: Path | None = None,
    *,
    variant: str | None = None,
    map_name: str | None = None,
    overrides: Sequence[str] = (),
) -> Experiment:
    """Merges all layers and checks the result.

    Args:
        config_file: The user's YAML file; it needs only the keys that it changes.
        variant: Name of a file in configs/variants, the same as the override `variant=NAME`.
        map_name: Name of a map or path of a scenario file, the same as the override `world.map=NAME`.
        overrides: `KEY=VALUE` with a dotted key and a YAML value, for example `ppo.clip=0.05`; later ones win.

    Returns:
        The experiment. A relative `demonstrations.path` has become absolute, so that the run can be resumed from any
        directory; `world.map` is a name, and if it names a scenario, `world.scenario` holds its content.

    Raises:
        ConfigError: A layer contains a mistake, or the merged layers contradict each other.
    """
    defaults = _packaged_layer("defaults.yaml")
    users = [] if config_file is None else [_file_layer(config_file, str(config_file))]
    if variant is not None:
        users.append(_Layer({"variant": variant}, COMMAND_LINE))
    if map_name is not None:
        users.append(_Layer({"world": {"map": map_name}}, COMMAND_LINE))
    users += [_override_layer(override) for override in overrides]

    # Map and variant select layers themselves, whichever layer they are set in; the last one set counts.
    chosen_variant, variant_origin = _resolve_precedence(_VARIANT, [defaults, *users])
    defaults, *users = _with_scenario([defaults, *users])
    chosen_map, _ = _resolve_precedence(_MAP, [defaults, *users])
    if chosen_variant not in variant_names():
        known = ", ".join(variant_names())
        raise ConfigError(
            f"{variant_origin}: variant must be one of {known}, got {format_value(chosen_variant)}"
            + closest_match(chosen_variant, variant_names())
        )
    layers = [defaults]
    if chosen_map in map_names() and (configs_dir() / "maps" / f"{chosen_map}.yaml").is_file():
        layers.append(_packaged_layer(f"maps/{chosen_map}.yaml"))
    layers += [_packaged_layer(f"variants/{chosen_variant}.yaml"), *users]

    values: dict[str, Any] = {}
    for layer in layers:
        values = deep_merge(values, layer.values)
    experts = values["demonstrations"]
    experts["path"] = _absolute(experts["path"])
    experts["paths_per_agent"] = [_absolute(path) for path in experts["paths_per_agent"]]
    experiment = Experiment.model_validate(values)
    _check_agreement(experiment, layers)
    return experiment


def _absolute(team: str | None) -> str | None:
    """Makes a path independent of the current directory; other names of teams stay as they are."""
    return team if team is None or not is_path(team) else str(Path(team).expanduser().absolute())


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Validated values from one origin, and the line of each key."""

    values: Mapping[str, Any]
    source: str
    lines: Mapping[KeyPath, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _drop_empty_sections(self.values))
        try:
            Experiment.model_validate(self.values)
        except ValidationError as refusal:
            error = refusal.errors(include_url=False)[0]
            path = tuple(str(part) for part in error["loc"])
            raise ConfigError(f"{self.origin(path)}: {format_validation_error(error, Experiment)}") from None
        for section in _WORLD_ARGUMENTS:
            for name, value in (self.get(("world", section)) or {}).items():
                _check_world_arguments(section, {name: value}, self.origin(("world", section, name)))

    def origin(self, path: KeyPath) -> str:
        """Where a key is set: the file and line, or the command line."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}, line {self.lines[path]}" if path else self.source

    def without(self, path: KeyPath) -> _Layer:
        """The layer without the value at a key path."""
        *parents, name = path
        values = copy = dict(self.values)
        for parent in parents:
            if not isinstance(copy.get(parent), Mapping):
                return self
            copy[parent] = copy = dict(copy[parent])
        copy.pop(name, None)
        return _Layer(values, self.source, self.lines)

    def get(self, path: KeyPath) -> Any:
        """The value at a key path; None if the layer does not set it."""
        value: Any = self.values
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def _packaged_layer(name: str) -> _Layer:
    return _file_layer(configs_dir() / name, f"configs/{name}")


def _file_layer(path: Path, source: str) -> _Layer:
    document = read_document(path, source)
    return _Layer(document.values, source, document.lines)


def _override_layer(override: str) -> _Layer:
    path, text = split_override(override)
    value = _override_value(path, text, field_at(path, Experiment))
    for name in reversed(path):
        value = {name: value}
    return _Layer(value, COMMAND_LINE)


def _override_value(path: KeyPath, text: str, field: FieldInfo | None) -> Any:
    is_text = field is not None and field.annotation in (str, str | None)
    try:
        value = read_yaml_value(text)
    except YamlError as error:
        if is_text:
            return text
        raise ConfigError(f"{COMMAND_LINE}: value of {'.'.join(path)}: {error}") from None
    # A name or path stays as typed, even if YAML reads it as a number or a date.
    return text.strip() if is_text and value is not None and not isinstance(value, str) else value


def _drop_empty_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    # YAML reads a section whose keys are all commented out as null.
    sections = {name for name in Experiment.model_fields if field_at((name, "_"), Experiment) is None}
    return {name: {} if value is None and name in sections else value for name, value in values.items()}


def _resolve_precedence(path: KeyPath, layers: Sequence[_Layer]) -> tuple[Any, str]:
    """The value that wins at a key path, and its origin."""
    layer = next(layer for layer in reversed(layers) if layer.get(path) is not None)
    return layer.get(path), layer.origin(path)


def _with_scenario(layers: Sequence[_Layer]) -> list[_Layer]:
    """Adds layers so that a chosen scenario's name is in `world.map` and its content in `world.scenario`."""
    chosen = max(index for index, layer in enumerate(layers) if layer.get(_MAP) is not None)
    name, origin = layers[chosen].get(_MAP), layers[chosen].origin(_MAP)
    given = layers[chosen].get(_SCENARIO)
    if given is not None and given.get("name", name) != name:
        raise ConfigError(f"{origin}: world.map is {name}, but world.scenario is called {format_value(given['name'])}")
    # A map set by a later layer replaces the scenario of earlier layers.
    kept = [
        layer.without(_SCENARIO) if index < chosen or layer.get(_SCENARIO) is None else layer
        for index, layer in enumerate(layers)
    ]
    try:
        file = None if given is not None else scenario_file(name)
        if file is not None:
            kept.insert(chosen + 1, _Layer({"world": {"scenario": read_scenario(file)}}, str(file)))
        described = [layer for layer in kept if layer.get(_SCENARIO) is not None]
        if not described:
            load_map(name)
            return kept
    except (UnknownMapError, ScenarioError) as error:
        raise ConfigError(f"{origin}: world.map: {error}") from None
    content: dict[str, Any] = {} if given is None else {"name": name}
    for layer in described:
        content = deep_merge(content, layer.get(_SCENARIO))
    try:
        spec = scenario_from_mapping(content, "world.scenario")
    except ScenarioError as error:
        raise ConfigError(f"{described[-1].origin(_SCENARIO)}: {error}") from None
    kept.append(_Layer({"world": {"map": spec.name, "scenario": {"name": spec.name}}}, origin))
    return kept


_WORLD_ARGUMENTS = {"smac": SmacOptions.from_arguments, "engine": EngineSettings.from_arguments}


def _check_world_arguments(section: str, arguments: Mapping[str, Any], origin: str) -> None:
    try:
        _WORLD_ARGUMENTS[section](arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: world.{section}: {error}") from None


def _error_at(path: KeyPath, layers: Sequence[_Layer], problem: object) -> ConfigError:
    """An error whose message begins with the origin of the key at `path`."""
    return ConfigError(f"{_resolve_precedence(path, layers)[1]}: {problem}")


def _check_agreement(experiment: Experiment, layers: Sequence[_Layer]) -> None:
    """Checks settings that must fit each other, which may come from different layers."""
    world = experiment.world
    if world.engine and world.backend != "embedded":
        problem = f"world.engine configures the embedded engine, but world.backend is {world.backend}"
        raise _error_at(("world", "engine"), layers, problem)
    _check_world_arguments("smac", world.smac, "the layers together")
    for key, path in function_paths(experiment).items():
        try:
            import_function(path)
        except ConfigError as error:
            raise _error_at(key, layers, f"{'.'.join(key)}: {error}") from None
    _check_algorithm(experiment, layers)
    try:
        check_settings(experiment)
    except DemonstrationSettingsError as error:
        raise _error_at(error.key, layers, error) from None


def _check_algorithm(experiment: Experiment, layers: Sequence[_Layer]) -> None:
    coefficient, policy = experiment.matching.coefficient, experiment.policy
    if experiment.variant == "ippo" and coefficient > 0:
        problem = f"matching.coefficient must be 0 in variant ippo, got {coefficient}; use variant dm2 for matching"
        raise _error_at(("matching", "coefficient"), layers, problem)
    if experiment.matching.reward == "matching" and coefficient == 0:
        problem = (
            "matching.reward matching pays nothing with matching.coefficient 0: raise the coefficient, or set "
            "matching.reward to both (IPPO)"
        )
        raise _error_at(("matching", "reward"), layers, problem)
    if experiment.algorithm == "mappo" and (coefficient > 0 or experiment.cloning.iterations > 0):
        problem = (
            "algorithm mappo learns from the team's reward alone: set matching.coefficient and cloning.iterations to 0"
        )
        raise _error_at(("algorithm",), layers, problem)
    if policy.open_loop and policy.network != "gru":
        problem = f"policy.open_loop needs policy.network gru, got {policy.network}"
        raise _error_at(("policy", "open_loop"), layers, problem)
