"""Demonstration sets from a team's name on the command line."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dm2_ray.actors.backends import battles_of
from dm2_ray.actors.checkpoint import Checkpoint, open_checkpoint
from dm2_ray.config import WorldSettings
from dm2_ray.config_errors import ConfigError
from dm2_ray.config_files import resolve_world
from dm2_ray.demonstrations import JointTrajectoryWriter, Manifest, Provenance
from dm2_ray.demonstrations.record import Team, record_episodes
from dm2_ray.experiments.teams import policies_of
from dm2_ray.world import SCRIPTED_TEAMS, ScriptedTeam, load_map, world_map

SCRIPTED_PREFIX = "scripted:"
BATTLES_AT_ONCE = 64


def record(team_name: str, *, map_name: str | None, episodes: int, out: Path, greedy: bool, seed: int) -> Manifest:
    """Records exactly `episodes` joint episodes.

    Args:
        team_name: `scripted:NAME`, or the path of a checkpoint or run directory.
        map_name: SMAC map or scenario; None takes the checkpoint's.
        episodes: How many.
        out: Directory of the new set; an existing one is refused.
        greedy: Most probable actions instead of sampled ones (checkpoints only).
        seed: Of battles and actions.

    Raises:
        ConfigError: An unknown scripted team, or a map that is not the checkpoint's.
        CheckpointError, DemonstrationError, UnknownMapError: As they say.
    """
    team: Team
    if team_name.startswith(SCRIPTED_PREFIX):
        name = team_name.removeprefix(SCRIPTED_PREFIX)
        if name not in SCRIPTED_TEAMS:
            raise ConfigError(f"unknown scripted team {name!r}; there are {', '.join(SCRIPTED_TEAMS)}")
        if map_name is None:
            raise ConfigError("a scripted team needs --map")
        world = resolve_world(WorldSettings(map=map_name))
        battles = battles_of(world, min(episodes, BATTLES_AT_ONCE), seed)
        team = ScriptedTeam(name, battles, seed=seed)
        provenance = Provenance(kind="scripted", source=name, greedy=True, seed=seed)
    else:
        checkpoint = open_checkpoint(Path(team_name))
        world = checkpoint.experiment().world
        check_same_map(checkpoint, world, map_name)
        battles = battles_of(world, min(episodes, BATTLES_AT_ONCE), seed)
        team = policies_of(checkpoint, greedy=greedy, seed=seed)
        provenance = Provenance(
            kind="checkpoint",
            source=str(checkpoint.path),
            checkpoint_hash=checkpoint.digest,
            trained_env_steps=checkpoint.env_steps,
            greedy=greedy,
            seed=seed,
        )
    with closing(battles), JointTrajectoryWriter(out) as writer:
        return record_episodes(team, battles, episodes, writer, provenance)


def check_same_map(checkpoint: Checkpoint, world: WorldSettings, map_name: str | None) -> None:
    """Raises ConfigError if `map_name` is neither the name of the checkpoint's map nor a file that describes it."""
    if map_name in (None, checkpoint.map):
        return
    own, other = world_map(world.map, world.scenario), load_map(map_name)
    if (own.name, own.scenario_hash) != (other.name, other.scenario_hash):
        raise ConfigError(f"{checkpoint.path} was trained on {checkpoint.map}, not on {map_name}")
