"""Typed settings of a run (`schema`), and YAML as people write it.

The sections' names are imported when they are first used: reading a map's file does not wait for pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    # Not `from … import`: that asks this function for submodules that are not loaded yet, without end.
    schema = import_module("dm2_ray.config.schema")
    if name.startswith("_") or not hasattr(schema, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(schema, name)
