"""Settings written as KEY=VALUE on the command line, with dotted keys, and the merging of nested settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dm2_ray.config.errors import ConfigError, format_value
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import KeyPath, YamlError, read_yaml_value

COMMAND_LINE = "command line"
"""The origin of overrides, in messages."""


def split_override(override: str) -> tuple[KeyPath, str]:
    """The key path and the value's text of KEY=VALUE.

    Raises:
        ConfigError: `override` is not KEY=VALUE.
    """
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"{COMMAND_LINE}: {format_value(override)} is not KEY=VALUE, for example ppo.clip=0.05")
    return path, text


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both mappings; where both have a key, that of `above`, and mappings are merged in turn."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = deep_merge(merged[name], value) if both else value
    return merged


def dotted_settings(settings: Experiment) -> dict[str, str]:
    """The keys that were set explicitly and their values, as KEY and VALUE for the command line."""
    return _dotted(settings, settings.model_dump(mode="json", exclude_unset=True), "")


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as a flat one with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _dotted(model: BaseModel, values: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        inner = getattr(model, name)
        if isinstance(inner, BaseModel):
            flat.update(_dotted(inner, value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = as_text(value)
    return flat


def as_text(value: Any) -> str:
    """A text that YAML reads back as `value`; without quotes if it is a simple text."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        try:
            if read_yaml_value(value) == value:
                return value
        except YamlError:
            pass
    return json.dumps(value)
