"""Experiments as files: reading YAML documents, writing resolved configurations, hashing what is computed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from dm2_ray.config.errors import ConfigError, format_validation_error
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import YamlDocument, YamlError, read_yaml_mapping
from dm2_ray.files import write_atomically


def variant_names() -> tuple[str, ...]:
    """Values that `variant` may have, in alphabetical order."""
    return tuple(sorted(path.stem for path in (configs_dir() / "variants").glob("*.yaml")))


def read_experiment(path: Path) -> Experiment:
    """The experiment in a file that `write_yaml` wrote; keys that it lacks have their defaults.

    Only the schema is checked: whether the world can be played and the demonstrations fit is for those who use them.

    Raises:
        ConfigError: The file cannot be read, or does not hold an experiment.
    """
    document = read_document(path, str(path))
    try:
        return Experiment.model_validate(document.values)
    except ValidationError as refusal:
        problem = format_validation_error(refusal.errors(include_url=False)[0], Experiment)
        raise ConfigError(f"{path}: {problem}") from None


def experiment_hash(experiment: Experiment) -> str:
    """Sixteen hexadecimal digits that stand for what is computed.

    When to stop, what to keep on disk and whom to tell change nothing of it and are left out.
    """
    content = experiment.model_dump(mode="json", exclude={"stop", "checkpoint", "tracking"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_yaml(experiment: Experiment, path: Path) -> None:
    """Writes every key to `path`, atomically; `load_experiment(path)` gives an equal experiment."""
    settings = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    head = "# Every setting of this run; what the keys mean stands in dm2-ray's configs/defaults.yaml.\n"
    write_atomically(path, (head + settings).encode())


def read_document(path: Path, source: str) -> YamlDocument:
    """The YAML mapping in a file, and the lines of its keys.

    Args:
        path: the file.
        source: what it is called in errors.

    Raises:
        ConfigError: it cannot be read, or is no YAML mapping.
    """
    try:
        return read_yaml_mapping(path.read_text(encoding="utf-8"))
    except YamlError as error:
        line = f", line {error.line}" if error.line is not None else ""
        raise ConfigError(f"{source}{line}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: is not a text file in UTF-8") from None
