"""Where an experiment's keys are written: the line of its file, or the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dm2_ray.config.errors import ConfigError
from dm2_ray.config.overrides import COMMAND_LINE, split_override
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import KeyPath, YamlDocument, YamlError, read_yaml_value


class MatrixSource:
    """Finds where the keys of an experiment are written, for error messages."""

    def __init__(self, name: str, document: YamlDocument, overrides: Sequence[str]) -> None:
        self.name = name
        self._document = document
        self._overrides = {parse_override(text)[0] for text in overrides}
        self._map: str | None = None

    def place(self, path: KeyPath) -> str:
        """The file and its line, or the command line."""
        lines = self._document.lines
        while path:
            if path in self._overrides:
                return COMMAND_LINE
            for candidate in (("maps", str(self._map), *path), path):
                if candidate in lines:
                    return f"{self.name}, line {lines[candidate]}"
            if any(override[: len(path)] == path for override in self._overrides):
                return COMMAND_LINE
            path = path[:-1]
        return self.name

    def for_map(self, map_name: str) -> MatrixSource:
        """The same source, with the keys under `maps.MAP` of the file."""
        source = object.__new__(MatrixSource)
        source.__dict__.update(self.__dict__)
        source._map = map_name
        return source


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Key path and value of KEY=VALUE; a key of a run's configuration becomes one of the shared settings.

    Raises:
        ConfigError: The text is not KEY=VALUE.
    """
    key, value = split_override(text)
    try:
        parsed = read_yaml_value(value)
    except YamlError as error:
        raise ConfigError(f"{COMMAND_LINE}: value of {'.'.join(key)}: {error}") from None
    return ("settings", *key) if key[0] in Experiment.model_fields else key, parsed
