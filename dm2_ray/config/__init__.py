"""The settings of a run, and the YAML files that they are written in.

    schema.py            typed settings with their defaults; start here
    documents.py         reading YAML files, writing and hashing an experiment
    yaml_reader.py       YAML with line numbers
    overrides.py         KEY=VALUE on the command line
    errors.py            one-line messages for mistakes
    dotted_path.py       functions of the user, named as package.module:function
    packaged_files.py    where the packaged YAML files are
    reference.py         generates configs/README.md

`dm2_ray.runs.experiment_loading` merges all layers into an `Experiment`. The names of `schema` are imported when they
are first used, so that reading a map's file does not wait for pydantic.
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
