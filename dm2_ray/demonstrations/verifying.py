"""Checks whether every value of a demonstration set agrees with its manifest."""

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
    """Opens a set and checks every value in it.

    Opening checks manifest, hashes, columns and that the episodes are complete. Then every value is checked:
    observations and rewards are finite, actions exist and were available, and what the manifest says about returns,
    wins and filters is true. At most one shard is in memory.

    Returns:
        The opened set.

    Raises:
        DemonstrationError: A check failed; the message describes the first problem found.
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
            raise DemonstrationError(
                f"{where}: its manifest says that all episodes pass the filter {filters}; some do not"
            )
    _check_mean(str(path), "win_rate", manifest.win_rate, won)
    _check_mean(str(path), "return_mean", manifest.return_mean, returns)
    _check_mean(str(path), "episode_length_mean", manifest.episode_length_mean, demonstrations.episode_lengths)
    return demonstrations


def check_map_matches(demonstrations: JointTrajectories, map_settings: WorldSettings) -> None:
    """Checks that a run on this map, with the set's SMAC options, could use the set with the present engine.

    Args:
        demonstrations: The set.
        map_settings: A resolved world, of which only the map is used.

    Raises:
        DemonstrationError: It could not.
    """
    manifest = demonstrations.manifest
    try:
        world = ConfiguredWorld.from_settings(
            map_settings.model_copy(update={"smac": manifest.smac, "backend": manifest.backend})
        )
    except (TypeError, ValueError) as error:
        raise DemonstrationError(
            f"{demonstrations.path}: its SMAC options are not valid on this map: {error}"
        ) from None
    demonstrations.check_world(**asdict(world))


def _check_mean(where: str, name: str, stated: float | None, values: npt.NDArray[np.generic]) -> None:
    if stated is not None and not np.isclose(stated, found := float(values.mean()), rtol=1e-9, atol=1e-12):
        raise DemonstrationError(f"{where}: its manifest says {name} {stated:g}, its episodes have {found:g}")
