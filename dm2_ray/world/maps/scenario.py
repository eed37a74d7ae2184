"""User scenarios: a YAML file with units, positions, terrain and limits describes a map that is used like SMAC's own.

    name: bridge_4s_vs_12z          # default: the file's name without its ending
    episode_limit: 200              # env steps
    agents:                         # count units around a point, as SMAC's maps create them ...
      - {kind: stalker, count: 4, x: 6, y: 12}
    enemies:                        # ... or one at each of the positions
      - {kind: zealot, at: [[28, 11.5], [28, 12.5]]}
    enemy_order: {attack_move: [6, 12]}   # a point, or a segment [[x, y], [x, y]]; or attack_agents; or none
    terrain:                        # or size: [w, h]; or like: corridor (one of SMAC's maps); default: size: [32, 32]
      rows: |                       # north to south; '.' is walkable, '#' is not
        ....
        .##.
      heights: |                    # optional: 0 is the floor of SMAC's maps, each level is one of its cliffs higher
        0011
        0011

Positions are map cells: x grows east, y grows north, the southwest corner is (0, 0). Without an order the enemies
attack toward the first agents' position. The rules are SMAC's: a side shows shields if any of its kinds has them; unit
types are shown if a side has several, in the order of SMAC's catalog; with medivacs the rules of the MMM maps apply.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dm2_ray.config.errors import format_validation_error
from dm2_ray.config.yaml_reader import KeyPath, YamlError, read_yaml_mapping
from dm2_ray.errors import UserError
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.scenario_builder import build_map
from dm2_ray.world.maps.scenario_schema import InvalidScenario, Scenario


class ScenarioError(UserError, ValueError):
    """A scenario cannot be used; the message is one line for the person who wrote it."""


def load_scenario(path: str | os.PathLike[str]) -> MapSpec:
    """The map that a YAML file describes.

    Raises:
        ScenarioError: The file cannot be read or has an error; the message names file, line and key.
    """
    return _read(path)[1]


def read_scenario(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The checked content of a scenario's file, with its name filled in: the input of `scenario_from_mapping`.

    Raises:
        ScenarioError: As `load_scenario`.
    """
    return _read(path)[0]


def scenario_from_mapping(mapping: Mapping[str, Any], origin: str) -> MapSpec:
    """The map that a scenario's content describes; equal contents give the same object.

    Args:
        mapping: The content of the YAML file; `name` has no default here.
        origin: Where the content comes from, for messages.

    Raises:
        ScenarioError: The content has an error; the message names origin and key.
    """
    return _build(mapping, origin, {})


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], MapSpec]:
    source = os.fspath(path)
    try:
        document = read_yaml_mapping(Path(path).read_text(encoding="utf-8"))
    except YamlError as error:
        line = f", line {error.line}" if error.line is not None else ""
        raise ScenarioError(f"{source}{line}: {error}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{source}: is not a text file in UTF-8") from None
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise ScenarioError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(path).stem)
    content = {"name": stem, **document.values}
    return content, _build(content, source, document.lines)


def _build(content: Mapping[str, Any], origin: str, lines: Mapping[KeyPath, int]) -> MapSpec:
    try:
        return build_map(Scenario.model_validate(content))
    except ValidationError as refusal:
        error = refusal.errors(include_url=False)[0]
        key, problem = tuple(map(str, error["loc"])), format_validation_error(error, Scenario)
    except InvalidScenario as refusal:
        key, problem = refusal.key, str(refusal)
    while key and key not in lines:
        key = key[:-1]
    raise ScenarioError(f"{origin}{f', line {lines[key]}' if key else ''}: {problem}")
