"""From files and command line to an `Experiment`.

    configs/defaults.yaml < configs/maps/MAP.yaml < configs/variants/VARIANT.yaml < the user's file < KEY=VALUE

Every layer is validated on its own before it is laid over the ones below it, so a refusal names the origin that has to
be corrected. Whatever is wrong ends in a `ConfigError` of one line.
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
from dm2_ray.config.overrides import merge
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import KeyPath, YamlError, read_yaml_value
from dm2_ray.demonstrations.source_checks import DemonstrationSettingsError, check_settings
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import (
    load_map,
    scenario_file,
)
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
    """Lays all layers over each other and checks the result.

    Args:
        config_file: the user's YAML file; it needs only the keys that it changes.
        variant: name of a file in configs/variants, the same as the override `variant=NAME`.
        map_name: name of a map or path of a scenario's file, the same as the override `world.map=NAME`.
        overrides: `KEY=VALUE` with a dotted key and a YAML value, for example `ppo.clip=0.05`; later ones win.

    Returns:
        The experiment. A relative `demonstrations.path` has become absolute, so that a run can be resumed from any
        directory; `world.map` is a name, and `world.scenario` holds the scenario of that name, if it is one.

    Raises:
        ConfigError: something in a layer is wrong, or the layers together make no experiment.
    """
    defaults = _packaged_layer("defaults.yaml")
    users = [] if config_file is None else [_file_layer(config_file, str(config_file))]
    if variant is not None:
        users.append(_Layer({"variant": variant}, "command line"))
    if map_name is not None:
        users.append(_Layer({"world": {"map": map_name}}, "command line"))
    users += [_override_layer(override) for override in overrides]

    # Map and variant choose layers of their own, wherever they were named; the last word counts.
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
        values = merge(values, layer.values)
    experts = values["demonstrations"]
    experts["path"] = _absolute(experts["path"])
    experts["paths_per_agent"] = [_absolute(path) for path in experts["paths_per_agent"]]
    experiment = Experiment.model_validate(values)
    _check_agreement(experiment, layers)
    return experiment


def _absolute(team: str | None) -> str | None:
    """A path that does not depend on the current directory; what names a scripted team stays as it is."""
    return team if team is None or team.startswith("scripted:") else str(Path(team).expanduser().absolute())


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Validated values of one origin, and the lines where its keys stand."""

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
        for name, value in (self.get(("world", "smac")) or {}).items():
            _check_smac({name: value}, self.origin(("world", "smac", name)))
        for name, value in (self.get(("world", "engine")) or {}).items():
            _check_engine({name: value}, self.origin(("world", "engine", name)))

    def origin(self, path: KeyPath) -> str:
        """Where the key stands: the file and its line, or the command line."""
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
        """The value at a key path; None where the layer does not speak of it."""
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
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"command line: {format_value(override)} is not KEY=VALUE, for example ppo.clip=0.05")
    value = _override_value(key, text, field_at(path, Experiment))
    for name in reversed(path):
        value = {name: value}
    return _Layer(value, "command line")


def _override_value(key: str, text: str, field: FieldInfo | None) -> Any:
    is_text = field is not None and field.annotation in (str, str | None)
    try:
        value = read_yaml_value(text)
    except YamlError as error:
        if is_text:
            return text
        raise ConfigError(f"command line: value of {key}: {error}") from None
    # A name or a path stays what was typed, even where YAML sees a number or a date in it.
    return text.strip() if is_text and value is not None and not isinstance(value, str) else value


def _drop_empty_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    # A section whose keys are all commented out is read as null.
    sections = {name for name in Experiment.model_fields if field_at((name, "_"), Experiment) is None}
    return {name: {} if value is None and name in sections else value for name, value in values.items()}


def _resolve_precedence(path: KeyPath, layers: Sequence[_Layer]) -> tuple[Any, str]:
    layer = next(layer for layer in reversed(layers) if layer.get(path) is not None)
    return layer.get(path), layer.origin(path)


def _with_scenario(layers: Sequence[_Layer]) -> list[_Layer]:
    """The layers with a scenario's name in `world.map` and its content in `world.scenario`, wherever one is chosen."""
    chosen = max(index for index, layer in enumerate(layers) if layer.get(_MAP) is not None)
    name, origin = layers[chosen].get(_MAP), layers[chosen].origin(_MAP)
    given = layers[chosen].get(_SCENARIO)
    if given is not None and given.get("name", name) != name:
        raise ConfigError(f"{origin}: world.map is {name}, but world.scenario is called {format_value(given['name'])}")
    # A map named later replaces the scenario named before.
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
        content = merge(content, layer.get(_SCENARIO))
    try:
        spec = scenario_from_mapping(content, "world.scenario")
    except ScenarioError as error:
        raise ConfigError(f"{described[-1].origin(_SCENARIO)}: {error}") from None
    kept.append(_Layer({"world": {"map": spec.name, "scenario": {"name": spec.name}}}, origin))
    return kept


def _check_smac(arguments: Mapping[str, Any], origin: str) -> None:
    try:
        SmacOptions.from_arguments(arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: world.smac: {error}") from None


def _check_engine(arguments: Mapping[str, Any], origin: str) -> None:
    try:
        EngineSettings.from_arguments(arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: world.engine: {error}") from None


def _check_agreement(experiment: Experiment, layers: Sequence[_Layer]) -> None:
    if experiment.world.engine and experiment.world.backend != "embedded":
        _, origin = _resolve_precedence(("world", "engine"), layers)
        raise ConfigError(
            f"{origin}: world.engine is about the embedded engine; world.backend is {experiment.world.backend}"
        )
    _check_smac(experiment.world.smac, "the layers together")
    for key, path in function_paths(experiment).items():
        try:
            import_function(path)
        except ConfigError as error:
            raise ConfigError(f"{_resolve_precedence(key, layers)[1]}: {'.'.join(key)}: {error}") from None
    _check_who_learns(experiment, layers)
    _check_demonstrations(experiment, layers)


def _check_who_learns(experiment: Experiment, layers: Sequence[_Layer]) -> None:
    coefficient = experiment.matching.coefficient
    _, origin = _resolve_precedence(("matching", "coefficient"), layers)
    if experiment.variant == "ippo" and coefficient > 0:
        raise ConfigError(
            f"{origin}: matching.coefficient must be 0 in variant ippo, got {coefficient}; variant dm2 is for matching"
        )
    if experiment.matching.reward == "matching" and coefficient == 0:
        _, origin = _resolve_precedence(("matching", "reward"), layers)
        raise ConfigError(
            f"{origin}: matching.reward matching pays nothing with matching.coefficient 0: raise the coefficient, or "
            "set matching.reward to both (IPPO)"
        )
    if experiment.algorithm == "mappo" and (coefficient > 0 or experiment.cloning.iterations > 0):
        _, origin = _resolve_precedence(("algorithm",), layers)
        raise ConfigError(
            f"{origin}: algorithm mappo learns from the team's reward alone: set matching.coefficient and "
            "cloning.iterations to 0"
        )
    if experiment.policy.open_loop and experiment.policy.network != "gru":
        _, origin = _resolve_precedence(("policy", "open_loop"), layers)
        raise ConfigError(f"{origin}: policy.open_loop needs policy.network gru, got {experiment.policy.network}")


def _check_demonstrations(experiment: Experiment, layers: Sequence[_Layer]) -> None:
    try:
        check_settings(experiment)
    except DemonstrationSettingsError as error:
        _, origin = _resolve_precedence(error.key, layers)
        raise ConfigError(f"{origin}: {error}") from None
