"""Reads YAML with the line of every key.

PyYAML implements YAML 1.1, in which `1e-3` and `1e6` are strings and the last of two equal keys silently wins. Here
they are numbers (integers where possible, because `1e6` may count env steps), and a key given twice is an error.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

KeyPath = tuple[str, ...]

_EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")
_FLOAT_TAG = "tag:yaml.org,2002:float"


class YamlError(ValueError):
    """A text is not usable YAML; `line` counts from 1 and is None if unknown."""

    def __init__(self, problem: str, line: int | None):
        super().__init__(problem)
        self.problem = problem
        self.line = line


@dataclasses.dataclass(frozen=True)
class YamlDocument:
    """A mapping read from a file, and the line of each key."""

    values: dict[str, Any]
    lines: Mapping[KeyPath, int]


class _Loader(yaml.SafeLoader):
    """A SafeLoader that reads numbers with exponents."""


def _construct_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if _EXPONENT.match(text):
        number = Decimal(text)
        # No setting is a count beyond 64 bits, and expanding 1e999999 would take all memory.
        if number.adjusted() <= 18 and number == number.to_integral_value():
            return int(number)
        return float(number)
    return float(loader.construct_yaml_float(node))


_Loader.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+0123456789"))
_Loader.add_constructor(_FLOAT_TAG, _construct_number)


def read_yaml_mapping(text: str) -> YamlDocument:
    """Reads a document whose top level is a mapping; an empty document is an empty mapping.

    Raises:
        YamlError: Invalid syntax, a key that is not a plain name, a key given twice, or a top level of another kind.
    """
    try:
        loader = _Loader(text)
        try:
            return _read_mapping(loader)
        finally:
            loader.dispose()
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _as_yaml_error(error) from None


def _read_mapping(loader: _Loader) -> YamlDocument:
    node = loader.get_single_node()
    if node is None:
        return YamlDocument({}, {})
    if not isinstance(node, yaml.MappingNode):
        raise YamlError("the top level must be a mapping of keys", node.start_mark.line + 1)
    lines: dict[KeyPath, int] = {}
    _note_lines(node, (), lines)
    return YamlDocument(loader.construct_document(node), lines)


def read_yaml_value(text: str) -> Any:
    """Reads one value, as written after the `=` of an override. Raises YamlError."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(_as_yaml_error(error).problem, None) from None


def _note_lines(
    node: yaml.MappingNode, prefix: KeyPath, lines: dict[KeyPath, int], noted: dict[int, bool] | None = None
) -> None:
    """Collects the lines of all keys below a node.

    Args:
        node: The mapping.
        prefix: Key path of the mapping.
        lines: Receives the line of each key path.
        noted: The nodes visited so far, by id; True while their content is being visited.
    """
    noted = {} if noted is None else noted
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise YamlError(f"the key {getattr(key, 'value', key)!r} must be a plain name", line)
        path = (*prefix, key.value)
        if path in lines:
            raise YamlError(f"{'.'.join(path)} is given twice, first in line {lines[path]}", line)
        lines[path] = line
        _note_inner_lines(value, path, lines, noted)


def _note_inner_lines(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], noted: dict[int, bool]) -> None:
    """The same for any value; the entries of a list have the keys 0, 1, …"""
    if not isinstance(node, (yaml.MappingNode, yaml.SequenceNode)):
        return
    # An alias refers to its anchor's node. Visit it only once: a few lines of nested aliases could fill the memory.
    if id(node) in noted:
        if noted[id(node)]:
            raise YamlError(f"{'.'.join(path)} contains itself", node.start_mark.line + 1)
        return
    noted[id(node)] = True
    if isinstance(node, yaml.MappingNode):
        _note_lines(node, path, lines, noted)
    else:
        for index, entry in enumerate(node.value):
            entry_path = (*path, str(index))
            lines[entry_path] = entry.start_mark.line + 1
            _note_inner_lines(entry, entry_path, lines, noted)
    noted[id(node)] = False


def _as_yaml_error(error: Exception) -> YamlError:
    """The error with a message of one line. PyYAML raises plain ValueErrors for dates that do not exist."""
    if isinstance(error, RecursionError):
        return YamlError("not valid YAML: nested too deeply", None)
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return YamlError(f"not valid YAML: {problem}", mark.line + 1 if mark is not None else None)
