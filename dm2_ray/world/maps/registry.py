"""Maps by name: SMAC's 23, the packaged scenarios, and scenarios from YAML files (`dm2_ray.world.maps.scenario`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.errors import suggest_name
from dm2_ray.world.maps.map_spec import MapSpec, UnknownMapError
from dm2_ray.world.maps.smac_maps import map_names, smac_map


def scenario_names() -> tuple[str, ...]:
    """Names of the packaged scenarios (configs/scenarios), in alphabetical order."""
    return tuple(sorted(path.stem for path in (configs_dir() / "scenarios").glob("*.yaml")))


def scenario_file(name: str | os.PathLike[str]) -> Path | None:
    """The file of a packaged scenario, or the file at a path; None for SMAC's maps and unknown names."""
    text = os.fspath(name)
    if text in map_names():
        return None
    if text in scenario_names():
        return configs_dir() / "scenarios" / f"{text}.yaml"
    return Path(text) if text.endswith((".yaml", ".yml")) or os.path.exists(text) else None


def load_map(name: str | os.PathLike[str]) -> MapSpec:
    """The map called `name`: one of SMAC's, a packaged scenario, or the scenario in the YAML file at that path.

    Raises:
        UnknownMapError: No map has this name.
        ScenarioError: The file is not a usable scenario.
    """
    text = os.fspath(name)
    if text in map_names():
        return smac_map(text)
    path = scenario_file(text)
    if path is None:
        known = (*map_names(), *scenario_names())
        raise UnknownMapError(f"unknown map {text!r}; {suggest_name(text, known, 'maps', most=3)}")
    # YAML and pydantic take 0.1 s to import; `import dm2_ray` lists maps, and SMAC's maps need neither.
    from dm2_ray.world.maps.scenario import load_scenario

    return load_scenario(path)


def world_map(name: str, scenario: Mapping[str, Any] | None = None) -> MapSpec:
    """The map of a configured world: `scenario` (the key world.scenario) if it is filled in, else the map called `name`
    (world.map). Everything that makes battles from a configuration uses this function.

    Raises:
        UnknownMapError, ScenarioError: As `load_map`.
    """
    if scenario is None:
        return load_map(name)
    from dm2_ray.world.maps.scenario import scenario_from_mapping  # as in load_map

    return scenario_from_mapping(scenario, origin="world.scenario")
