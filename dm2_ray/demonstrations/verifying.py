"""Whether a demonstration set is what it says it is, to the last row."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.merging import manifest_parts
from dm2_ray.world.configured import ConfiguredWorld


def verify_set(path: str | Path) -> JointTrajectories:
    """Opens a set, which checks manifest, hashes, columns and that episodes are whole, and checks every value in it:
    observations and rewards are finite, actions exist and were available, and what the manifest says of returns, wins
    and filters is so. At most one shard is held.

    Raises:
        DemonstrationError: something is wrong; the first thing found.
    """
    demonstrations = JointTrajectories.open(path)
    manifest = demonstrations.manifest
    for number, episode in enumerate(demonstrations.episodes()):
        if episode.actions.min() < 0 or episode.actions.max() >= manifest.num_actions:
            raise DemonstrationError(f"{path}: episode {number} has actions that are not in the action space")
    unknown = np.full(manifest.episodes, np.nan)
    won = unknown if "battle_won" in manifest.missing else demonstrations.battle_won
    returns = unknown if "rewards" in manifest.missing else demonstrations.returns
    first = 0
    for position, part in enumerate(manifest_parts(manifest)):
        own = slice(first, first + part.episodes)
        first += part.episodes
        where = f"{path}: part {position}" if manifest.parts else str(path)
        _check_mean(where, "win_rate", part.win_rate, won[own])
        _check_mean(where, "return_mean", part.return_mean, returns[own])
        filters = part.policy.filters
        outcomes = zip(returns[own].tolist(), won[own].tolist(), strict=True)
        if not all(filters.accept(team_return, bool(victory)) for team_return, victory in outcomes):
            raise DemonstrationError(f"{where} says that its episodes passed the filter {filters}; some do not")
    _check_mean(str(path), "win_rate", manifest.win_rate, won)
    _check_mean(str(path), "return_mean", manifest.return_mean, returns)
    _check_mean(str(path), "episode_length_mean", manifest.episode_length_mean, demonstrations.episode_lengths)
    return demonstrations


def check_map_matches(demonstrations: JointTrajectories, map_settings: WorldSettings) -> None:
    """Raises DemonstrationError unless a run on this map, with the set's own SMAC switches, could use the set with the
    engine as it is today.

    Args:
        demonstrations: the set.
        map_settings: a resolved world, of which only the map counts.
    """
    manifest = demonstrations.manifest
    try:
        world = ConfiguredWorld.from_settings(
            map_settings.model_copy(update={"smac": manifest.smac, "backend": manifest.backend})
        )
    except (TypeError, ValueError) as error:
        raise DemonstrationError(f"{demonstrations.path}: its SMAC switches make no world: {error}") from None
    demonstrations.check_world(**asdict(world))


def _check_mean(where: str, name: str, said: float | None, values: npt.NDArray[np.generic]) -> None:
    if said is not None and not np.isclose(said, found := float(values.mean()), rtol=1e-9, atol=1e-12):
        raise DemonstrationError(f"{where}: its manifest says {name} {said:g}, its episodes have {found:g}")
