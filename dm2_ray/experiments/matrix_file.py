"""Reads the files of configs/experiments.

    configs/experiments/NAME.yaml  <  its own maps.MAP  <  KEY=VALUE of the command line

A map or the command line removes an entry of experts, sets or rows by setting it to null. On the command line the keys
of `Matrix` are written as in the file (`env_steps=1e6`, `sets.mediocre.episodes=200`); a key of a run's configuration
(`ppo.clip=0.1`) is short for `settings.ppo.clip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dm2_ray.config.documents import read_document
from dm2_ray.config.errors import ConfigError, closest_match, format_validation_error
from dm2_ray.config.overrides import deep_merge
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.team_names import is_path
from dm2_ray.experiments.matrix import DemonstrationSet, Matrix
from dm2_ray.experiments.matrix_checks import check_agreement, check_map, unknown_name
from dm2_ray.experiments.matrix_source import MatrixSource, parse_override
from dm2_ray.files import write_atomically


def experiment_names() -> tuple[str, ...]:
    """Names of the packaged experiments, in alphabetical order."""
    return tuple(sorted(path.stem for path in (configs_dir() / "experiments").glob("*.yaml")))


def load_matrix(
    name: str,
    *,
    map_name: str | None = None,
    num_seeds: int | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Matrix, MatrixSource]:
    """Reads and checks an experiment, for every map that its file has keys for.

    Args:
        name: Name of a file in configs/experiments, or path of a file.
        map_name: Replaces the file's map.
        num_seeds: Takes only the first `num_seeds` of the file's seeds.
        seeds: Replaces the file's seeds.
        overrides: KEY=VALUE as described at the top of this module; later ones win.

    Raises:
        ConfigError: One line with the key, where it is written, and what is expected.
    """
    path = _file(name)
    document = read_document(path, str(path))
    packaged = configs_dir() / "experiments"
    source = MatrixSource(
        f"configs/experiments/{path.name}" if path.parent == packaged else str(path), document, overrides
    )
    given = dict(document.values)
    own = given.get("maps") or {}
    # Every map's keys are checked, whichever map is chosen.
    for known in own if isinstance(own, Mapping) else ():
        check_map(known, source.place(("maps", known)))
        _checked({**given, "map": known}, known, [], source.for_map(known))
    final = [*overrides] + ([] if seeds is None else [f"seeds={list(seeds)}"])
    chosen = map_name or given.get("map")
    matrix = _checked({**given, "map": chosen}, str(chosen), final, source.for_map(str(chosen)))
    if num_seeds is not None and num_seeds > len(matrix.seeds):
        raise ConfigError(f"{source.place(('seeds',))}: seeds are {list(matrix.seeds)}, {num_seeds} are requested: "
                          "name them with --seed-list")  # fmt: skip
    matrix = matrix.model_copy(
        update={
            "seeds": matrix.seeds[:num_seeds],
            "map": _absolute(matrix.map) if matrix.map.endswith((".yaml", ".yml")) else matrix.map,
            "sets": {name: _with_absolute_paths(each) for name, each in matrix.sets.items()},
        }
    )
    return matrix, source.for_map(matrix.map)


def write_matrix(matrix: Matrix, path: Path) -> None:
    """Writes the resolved experiment, atomically; `load_matrix(path)` gives an equal one."""
    content = matrix.model_dump(mode="json", exclude_unset=True)
    content = {**content, "map": matrix.map, "maps": {}, "seeds": list(matrix.seeds)}
    head = "# This experiment as it was started; dm2_ray/experiments/matrix.py documents the keys.\n"
    write_atomically(path, (head + yaml.safe_dump(content, sort_keys=False)).encode())


def _with_absolute_paths(demonstrations: DemonstrationSet) -> DemonstrationSet:
    update: dict[str, Any] = {}
    if demonstrations.paths:
        update["paths"] = tuple(map(_absolute, demonstrations.paths))
    if demonstrations.checkpoint is not None and is_path(demonstrations.checkpoint):
        update["checkpoint"] = _absolute(demonstrations.checkpoint)
    return demonstrations.model_copy(update=update)


def _absolute(path: str) -> str:
    """The absolute path, so that the experiment can be continued and reported from any directory."""
    return str(Path(path).expanduser().absolute())


def _file(name: str) -> Path:
    if name in experiment_names():
        return configs_dir() / "experiments" / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    raise ConfigError(
        f"unknown experiment {name!r}; there are {', '.join(experiment_names())}, or a file of your own that ends in "
        f".yaml{closest_match(name, experiment_names())}"
    )


def _checked(given: Mapping[str, Any], map_name: str, overrides: Sequence[str], source: MatrixSource) -> Matrix:
    values = dict(given)
    maps = values.get("maps")
    if isinstance(maps, Mapping) and isinstance(maps.get(map_name), Mapping):
        values = deep_merge(values, maps[map_name])
    for override in overrides:
        path, value = parse_override(override)
        for name in reversed(path):
            value = {name: value}
        values = deep_merge(values, value)
    for section in ("experts", "sets", "rows"):
        values[section] = _without_removed(section, given.get(section), values.get(section), source)
    try:
        matrix = Matrix.model_validate(values)
    except ValidationError as refusal:
        error = refusal.errors(include_url=False)[0]
        # The member of a union that failed is of no use to the author of a file.
        path = tuple(str(part) for part in error["loc"] if not str(part).startswith(("literal[", "int")))
        raise ConfigError(f"{source.place(path)}: {format_validation_error({**error, 'loc': path}, Matrix)}") from None
    check_agreement(matrix, source)
    return matrix


def _without_removed(section: str, given: Any, values: Any, source: MatrixSource) -> Any:
    """The entries of a section without those that a map or the command line sets to null."""
    if not isinstance(values, Mapping):
        return {} if values is None else values
    known = given if isinstance(given, Mapping) else {}
    for name, value in values.items():
        if value is None and known.get(name) is None:
            raise ConfigError(f"{source.place((section, name))}: {section}.{name} is null, which removes an entry: "
                              + unknown_name(section, name, known))  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}
