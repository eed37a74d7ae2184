"""Packs teams of a run: chooses checkpoints by their level, measures them as they are packed, and writes them.

    run ──► all checkpoints measured ──► the closest one for each level ──► packed, measured again ──► MAP/NAME-LEVEL

The second measurement plays with the rounded weights and with other battles than those that chose the checkpoint.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dm2_ray import __version__
from dm2_ray.checkpoints import Checkpoint, intact_checkpoints, open_checkpoint
from dm2_ray.checkpoints.checkpoint import MANIFEST
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.overrides import as_text, flattened
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import RunFailed
from dm2_ray.recording.checkpoint_choice import closest_measured, measure_checkpoints
from dm2_ray.runs.evaluation import evaluate_checkpoint
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import load_map
from dm2_ray.zoo.manifest import Measured
from dm2_ray.zoo.packed_team import PackedTeam
from dm2_ray.zoo.packing import pack

MEASURED_BATTLES = 1000
"""Battles per measurement of a packed team. The 95 % interval of a win rate of 0.3 is then plus or minus 0.03."""
LEVEL_TOLERANCE = 0.15
"""How far the win rate of a checkpoint may be from the level that the team is named after."""
_MEASURING_SEED, _CHOOSING_SEED = 1000, 1001

_WITHOUT_INFLUENCE = (
    *("checkpoint.", "diagnostics.", "evaluation.", "faults.", "learners.", "stop.", "tracking.", "world.starcraft."),
    "demonstrations.expert_actors",
)
"""Beginnings of keys that have no influence on what is learned up to a given number of env steps."""


class LevelNotReached(RunFailed, RuntimeError):
    """No checkpoint of a run is close to a level; the teams of the other levels are packed."""


def pack_team(checkpoint: Checkpoint, name: str, directory: Path, *, battles: int = MEASURED_BATTLES) -> PackedTeam:
    """Packs one checkpoint as directory/MAP/NAME; a team of the same weights that is there already is kept.

    Args:
        checkpoint: The checkpoint.
        name: Name of the team, without its map.
        directory: Directory of all teams.
        battles: Battles per measurement.

    Raises:
        PackedTeamError: The checkpoint cannot be packed, or another team has this name.
        CheckpointError: The agents' files do not fit the checkpoint.
    """
    unwritten = pack(checkpoint, name, directory, command=training_command(checkpoint), package_version=__version__)
    path = unwritten.team.path
    if path.exists() and (existing := PackedTeam.open(path)).digest == unwritten.team.digest:
        return existing
    results = {}
    for key, greedy in (("greedy", True), ("sampled", False)):
        result = evaluate_checkpoint(unwritten.team, episodes=battles, seed=_MEASURING_SEED, greedy=greedy)
        results[key] = Measured(
            seed=_MEASURING_SEED,
            battles=result.episodes,
            win_rate=result.win_rate,
            return_mean=result.return_mean,
            episode_length_mean=result.episode_length_mean,
        )
    return unwritten.with_results(**results).write()


def pack_run(
    path: Path,
    name: str,
    directory: Path,
    *,
    levels: Sequence[float] = (),
    best: bool = False,
    battles: int = MEASURED_BATTLES,
    note: Callable[[str], None] = lambda line: None,
) -> list[PackedTeam]:
    """Packs one team of a run, or one for each level.

    Args:
        path: A run directory or a checkpoint.
        name: Name of the team; with levels, each team is called NAME-LEVEL.
        directory: Directory of all teams.
        levels: Greedy win rates; the checkpoint closest to each is packed. Empty: the newest checkpoint is packed.
        best: Without levels, pack the checkpoint with the highest win rate in an evaluation instead.
        battles: Battles per measurement of a packed team.
        note: Called with a line about each checkpoint that is measured.

    Raises:
        ConfigError: Levels are asked of a single checkpoint.
        PackedTeamError: A checkpoint cannot be packed, or another team has its name.
        CheckpointError: There is no checkpoint, or it is damaged.
        LevelNotReached: No checkpoint is close to a level; the teams of the others are packed.
    """
    if not levels:
        return [pack_team(open_checkpoint(path, best=best), name, directory, battles=battles)]
    if (path / MANIFEST).is_file():
        raise ConfigError(f"--levels chooses among the checkpoints of a run directory; {path} is one checkpoint")
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    measured = measure_checkpoints(intact_checkpoints(root), greedy=True, seed=_CHOOSING_SEED, note=note)
    packed, missing = [], []
    for level in levels:
        chosen = closest_measured(measured, level)
        if abs(chosen.result.win_rate - level) > LEVEL_TOLERANCE:
            missing.append(f"{level:g} (closest: {chosen.checkpoint.path.name} with {chosen.result.win_rate:.2f})")
            continue
        packed.append(pack_team(chosen.checkpoint, level_name(name, level), directory, battles=battles))
    if missing:
        raise LevelNotReached(
            f"{path}: no checkpoint wins about {', '.join(missing)}: train longer, or keep more checkpoints "
            "(checkpoint.keep=0, checkpoint.every_iterations)"
        )
    return packed


def level_name(name: str, level: float) -> str:
    """Name of the team of a level: ippo-0.3 and ippo-1.0."""
    return f"{name}-{level:.1f}" if round(level, 1) == level else f"{name}-{level:g}"


def training_command(checkpoint: Checkpoint) -> str:
    """The command that trains the run of a checkpoint again, up to this checkpoint, with the present defaults."""
    experiment = checkpoint.experiment()
    world, demonstrations = experiment.world, flattened({"demonstrations": _dumped(experiment)["demonstrations"]})
    ordinary = flattened(_dumped(Experiment()))
    # The defaults of many a variant are refused without demonstrations.
    own = {key: value for key, value in demonstrations.items() if value != ordinary[key]}
    map_name, scenario = world.map, []
    try:
        load_map(world.map)
    except UnknownMapError:  # the user's own scenario
        map_name, scenario = f"{world.map}.yaml", [f"world.scenario={json.dumps(world.scenario)}"]
    base = load_experiment(
        variant=experiment.variant, overrides=[f"world.map={world.map}", *scenario, *_overrides(own)]
    )
    usual = flattened(_dumped(base))
    own |= {
        key: value
        for key, value in flattened(_dumped(experiment)).items()
        if value != usual.get(key) and not key.startswith(("world.scenario", *_WITHOUT_INFLUENCE))
    }
    words = ["dm2", "train", "--variant", experiment.variant, "--map", map_name, "--seed", str(experiment.seed)]
    return shlex.join([*words, "--env-steps", str(checkpoint.env_steps), *_overrides(own)])


def _dumped(experiment: Experiment) -> dict[str, Any]:
    return experiment.model_dump(mode="json", exclude={"seed"})


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={as_text(value)}" for key, value in settings.items()]
