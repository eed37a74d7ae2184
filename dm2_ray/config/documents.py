"""Experiments as files: reading YAML documents, writing resolved configurations, hashing settings."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from dm2_ray.config.errors import ConfigError, format_validation_error
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import YamlDocument, YamlError, read_yaml_mapping
from dm2_ray.files import json_sha256, write_atomically


def variant_names() -> tuple[str, ...]:
    """The possible values of `variant`, in alphabetical order."""
    return tuple(sorted(path.stem for path in (configs_dir() / "variants").glob("*.yaml")))


def read_experiment(path: Path) -> Experiment:
    """Reads an experiment that `write_yaml` wrote; missing keys take their defaults.

    Only the schema is checked, not whether the world can be played or the demonstrations fit.

    Raises:
        ConfigError: The file cannot be read, or does not contain an experiment.
    """
    document = read_document(path, str(path))
    try:
        return Experiment.model_validate(document.values)
    except ValidationError as refusal:
        problem = format_validation_error(refusal.errors(include_url=False)[0], Experiment)
        raise ConfigError(f"{path}: {problem}") from None


def experiment_hash(experiment: Experiment) -> str:
    """A hash, of sixteen hexadecimal digits, of all settings that influence the result of training.

    The sections stop, checkpoint and tracking do not influence it and are left out.
    """
    content = experiment.model_dump(mode="json", exclude={"stop", "checkpoint", "tracking"})
    return json_sha256(content)[:16]


def write_yaml(experiment: Experiment, path: Path) -> None:
    """Writes every key to `path`, atomically; `load_experiment(path)` returns an equal experiment."""
    settings = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    # Keep this line: checkpoints contain it, so its bytes are part of their digests in demonstration sets.
    head = "# Every setting of this run; what the keys mean stands in dm2-ray's configs/defaults.yaml.\n"
    write_atomically(path, (head + settings).encode())


def read_document(path: Path, source: str) -> YamlDocument:
    """Reads the YAML mapping in a file, with the lines of its keys.

    Args:
        path: The file.
        source: Its name in messages of errors.

    Raises:
        ConfigError: The file cannot be read, or is not a YAML mapping.
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
