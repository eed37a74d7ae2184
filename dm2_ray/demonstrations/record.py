"""Plays whole battles with a team and writes down what every agent saw and did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dm2_ray.demonstrations.manifest import Manifest, Provenance, RecordedWorld
from dm2_ray.demonstrations.playing import Team, joint_episodes
from dm2_ray.demonstrations.writer import JointTrajectoryWriter
from dm2_ray.world.battle_backend import BattleBackend
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.switches import SmacSwitches


def record_episodes(
    team: Team,
    battles: BattleBackend,
    num_episodes: int,
    writer: JointTrajectoryWriter,
    provenance: Provenance,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Plays the battles numbered 0 to num_episodes - 1, each to its end, and writes the set.

    Episode k of the set is battle k, however many battles are played side by side: over the embedded engine, recording
    again with the same team and seed gives the same files, as long as the team's choice in a battle depends on nothing
    but that battle.

    Args:
        team: chooses the actions.
        battles: are begun anew here.
        num_episodes: at least 1.
        writer: a fresh writer; it is finished here.
        provenance: who plays, for the manifest.
        progress: told (episodes played, num_episodes) whenever some have ended.

    Raises:
        ValueError: num_episodes is not positive.
        DemonstrationError: the set cannot be written.
    """
    for episode in joint_episodes(team, battles, num_episodes, progress=progress):
        writer.append(episode)
    return writer.finish(recorded_world(battles), provenance)


def recorded_world(battles: BattleBackend) -> RecordedWorld:
    """What a manifest says of the world that battles are fought in."""
    return RecordedWorld(
        map=battles.map_name,
        scenario_hash=battles.map_spec.scenario_hash,
        backend=battles.backend,
        engine_version=battles.engine_version,
        engine=_changed(battles.engine_settings),
        smac=_changed(battles.switches),
        num_agents=battles.num_agents,
        obs_size=battles.obs_size,
        num_actions=battles.num_actions,
    )


def _changed(settings: EngineSettings | SmacSwitches) -> dict[str, Any]:
    """Names and values of the fields that differ from their defaults."""
    fields = dataclasses.fields(settings)
    return {f.name: value for f in fields if (value := getattr(settings, f.name)) != f.default}
