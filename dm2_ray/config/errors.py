"""One-line errors in configurations: where, which key, which value was found, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dm2_ray.errors import UserError
from dm2_ray.terminal import shorten

# pydantic's error types, in words for the author of a configuration file.
_EXPECTATIONS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


class ConfigError(UserError, ValueError):
    """A configuration cannot be used; the message is one line."""


def format_validation_error(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Describes one of pydantic's errors: key, value, and what was expected.

    Args:
        error: The error.
        model: The model that was validated, whose names are suggested.
    """
    path = tuple(str(part) for part in error["loc"])
    key, value = ".".join(path), format_value(error["input"])
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key} (value {value}){closest_key(path, model)}"
    if error["type"] == "literal_error":
        names = _literal_names(path, model)
        return f"{key} must be one of {', '.join(names)}, got {value}{closest_match(error['input'], names)}"
    if error["type"] == "name_or_function":
        known = error["ctx"]["expected"]
        hint = closest_match(error["input"], known.split(", "))
        return f"{key} must be one of {known}, or a function as package.module:function, got {value}{hint}"
    expected = _EXPECTATIONS.get(error["type"], "").format(**error.get("ctx", {}))
    return f"{key} must be {expected or error['msg']}, got {value}"


def format_value(value: Any) -> str:
    """A value as it is written in YAML, shortened to fit into a line."""
    words = {"None": "null", "True": "true", "False": "false"}
    return shorten(words.get(repr(value), repr(value)), 60)


def closest_match(name: object, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean NAME?` for the most similar name, or an empty text if none is similar."""
    matches = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""


def closest_key(path: tuple[str, ...], model: type[BaseModel]) -> str:
    """A suggestion for an unknown key: a similar sibling, the same name in another section, or all siblings."""
    *parents, name = path
    prefix = "".join(f"{parent}." for parent in parents)
    siblings = list(_fields(tuple(parents), model))
    if suggestion := closest_match(name, siblings, prefix):
        return suggestion
    keys = dotted_keys(model)
    if same_name := [key for key in keys if key.rpartition(".")[2] == name]:
        return f"; did you mean {same_name[0]}?"
    if not parents and (suggestion := closest_match(name, keys)):
        return suggestion
    return f"; {'.'.join(parents) or 'the top level'} has {', '.join(siblings)}"


def dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All keys of a model and its nested models, as they are written on the command line."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def field_at(path: tuple[str, ...], model: type[BaseModel]) -> FieldInfo | None:
    """The field at a key path; None if there is none."""
    *parents, name = path
    return _fields(tuple(parents), model).get(name)


def _fields(path: tuple[str, ...], model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of the model at a key path; empty if there is no model."""
    is_mapping_key = False
    for name in path:
        if name.isdigit() or is_mapping_key:  # the index of an entry in a list of models, or its key in a mapping
            is_mapping_key = False
            continue
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        is_mapping_key = get_origin(annotation) is dict
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        models = [kind for kind in inner if issubclass(kind, BaseModel)]
        if not models:
            return {}
        model = models[0]
    return dict(model.model_fields)


def _literal_names(path: tuple[str, ...], model: type[BaseModel]) -> list[str]:
    field = field_at(path, model)
    return [str(name) for name in getattr(field.annotation, "__args__", ())] if field is not None else []
