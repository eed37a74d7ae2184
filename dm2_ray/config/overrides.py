"""Settings as KEY=VALUE of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import YamlError, read_yaml_value


def dotted_settings(settings: Experiment) -> dict[str, str]:
    """The keys that were set, as KEY and VALUE of the command line."""
    return _dotted(settings, settings.model_dump(mode="json", exclude_unset=True), "")


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged key by key; where both have a value, that of `above` wins."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def _dotted(model: BaseModel, values: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        inner = getattr(model, name)
        if isinstance(inner, BaseModel):
            flat.update(_dotted(inner, value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = _as_text(value)
    return flat


def _as_text(value: Any) -> str:
    """A value as YAML reads it back; plain where a plain text does."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        try:
            if read_yaml_value(value) == value:
                return value
        except YamlError:
            pass
    return json.dumps(value)
