"""Records a demonstration set of a team that is named on the command line.

    team ──► chunks of battles, played here or by other processes ──► parts in a directory beside the set ──► the set

A chunk is a pure function of (team, seed, its number). So a recording that was killed continues with the chunks that
are missing, and the result does not depend on the interruption or on which process played which chunk.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dm2_ray.checkpoints import MANIFEST, TrainedTeam, intact_checkpoints
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import WorldSettings
from dm2_ray.config.team_names import SCRIPTED_PREFIX, is_path
from dm2_ray.demonstrations import DemonstrationError, Filters, JointTrajectories, Manifest, Provenance
from dm2_ray.demonstrations.episode_player import recorded_world
from dm2_ray.distributed.ray_session import ray_session
from dm2_ray.errors import Interrupted
from dm2_ray.recording.checkpoint_choice import closest_to_win_rate
from dm2_ray.recording.chunk import CHUNK_BATTLES
from dm2_ray.recording.chunk_player import BATTLES_AT_ONCE, RecordingOrder
from dm2_ray.recording.chunked import ChunkedRecording
from dm2_ray.recording.player_pool import RecordingPool
from dm2_ray.recording.progress import RecordingProgress
from dm2_ray.recording.resumable_parts import ResumableParts, parts_directory
from dm2_ray.world import load_map, world_map
from dm2_ray.world.backends import build_battles
from dm2_ray.world.configured import resolve_world
from dm2_ray.world.scripted import check_scripted_team
from dm2_ray.zoo import open_team

GIVE_UP_AFTER = 8192
"""B: a recording gives up when, after B battles or more, fewer than one in B passed the filters."""


class RecordingInterrupted(Interrupted):
    """A recording was interrupted; its finished chunks are kept. The message is one line."""


def record(
    team_name: str,
    *,
    map_name: str | None,
    episodes: int,
    out: Path,
    greedy: bool,
    seed: int,
    epsilon: float = 0.0,
    workers: int = 1,
    filters: Filters | None = None,
    win_rate: float | None = None,
    give_up_after: int = GIVE_UP_AFTER,
    progress: RecordingProgress | None = None,
) -> Manifest:
    """Records exactly `episodes` joint episodes, in the order of their battles' numbers.

    If an earlier call was killed, this one continues it. The result depends neither on that nor on `workers`.
    (StarCraft II has its own randomness: there, no two recordings are the same.)

    Args:
        team_name: `scripted:NAME`, `zoo:MAP/NAME`, or the path of a checkpoint or run directory.
        map_name: SMAC map or scenario; None takes a trained team's.
        episodes: How many episodes to record.
        out: Directory of the new set; an existing set is refused.
        greedy: Whether a trained team takes its most probable actions; otherwise it samples.
        seed: Seed of battles and actions.
        epsilon: Probability, 0 to 1, that an agent takes a random available action instead of the team's.
        workers: Number of processes that play; with 0 or 1, this process plays.
        filters: Which battles are kept; None keeps all.
        win_rate: Measures the checkpoints of a run and records the one whose win rate is closest to this; None takes
            the newest checkpoint.
        give_up_after: B: gives up when, after B battles or more, fewer than one in B passed the filters.
        progress: Shows how far the recording is.

    Raises:
        ConfigError: The scripted team is unknown, or the map is not the trained team's.
        CheckpointError, PackedTeamError: The trained team cannot be used.
        DemonstrationError: The set cannot be written, or too few battles pass the filters.
        UnknownMapError: There is no such map.
        StarCraftError: StarCraft II is configured and cannot be used.
        RolloutWorkersLost: A process ended too often.
        RecordingInterrupted: Ctrl-C was pressed.
    """
    if out.exists() and not parts_directory(out).exists():
        raise _exists_already(out)
    if team_name.startswith(SCRIPTED_PREFIX):
        team = _scripted(team_name.removeprefix(SCRIPTED_PREFIX), map_name, seed, win_rate)
    else:
        team = _trained(team_name, map_name, greedy, seed, win_rate, progress)
    order = RecordingOrder(
        world=team.world,
        checkpoint=team.checkpoint,
        script=team.script,
        greedy=greedy,
        seed=seed,
        epsilon=epsilon,
        filters=filters or Filters(),
        max_games=min(episodes, BATTLES_AT_ONCE),
    )
    identity = _identity(order, team.provenance)
    provenance = team.provenance.model_copy(update={"filters": order.filters, "epsilon": epsilon or None})
    if out.exists():
        return _finished_before(out, identity, provenance, episodes)
    with closing(ResumableParts(out, identity)) as parts:
        return _record(order, provenance, parts, out, episodes, workers, give_up_after, progress)


def _record(
    order: RecordingOrder,
    provenance: Provenance,
    parts: ResumableParts,
    out: Path,
    episodes: int,
    workers: int,
    give_up_after: int,
    progress: RecordingProgress | None,
) -> Manifest:
    try:
        recording = ChunkedRecording(parts, order.filters, episodes, give_up_after)
        processes = workers if workers > 1 and not recording.is_complete else 0
        with ExitStack() as stack:
            if processes:
                stack.enter_context(redirect_stdout(sys.stderr))  # Ray prints notices
                stack.enter_context(ray_session(needed_cpus=processes))
            recording.play(stack.enter_context(closing(RecordingPool(order, processes))), progress)
        return recording.assemble(out, provenance)
    except KeyboardInterrupt:
        kept = f"what has been recorded is kept beside {out}" if parts.chunks() else "nothing has been recorded yet"
        raise RecordingInterrupted(f"interrupted; {kept}, and the same command continues from there") from None
    finally:
        parts.remove_if_empty()


@dataclass(frozen=True, kw_only=True, slots=True)
class _TeamToRecord:
    world: WorldSettings
    checkpoint: Path | None = None
    script: str | None = None
    provenance: Provenance


def _scripted(name: str, map_name: str | None, seed: int, win_rate: float | None) -> _TeamToRecord:
    check_scripted_team(name)
    if map_name is None:
        raise ConfigError("a scripted team needs --map")
    if win_rate is not None:
        raise ConfigError("--win-rate chooses among a run's checkpoints; a scripted team has none")
    return _TeamToRecord(
        world=resolve_world(WorldSettings(map=map_name)),
        script=name,
        provenance=Provenance(kind="scripted", source=name, greedy=True, seed=seed),
    )


def _trained(
    name: str,
    map_name: str | None,
    greedy: bool,
    seed: int,
    win_rate: float | None,
    progress: RecordingProgress | None,
) -> _TeamToRecord:
    team, measured = open_team(name), None
    check_same_map(team, map_name)
    if win_rate is not None:
        path = Path(name)
        if not is_path(name) or (path / MANIFEST).is_file():
            raise ConfigError(f"--win-rate chooses among the checkpoints of a run directory; {name} is one team")
        root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        nearest = closest_to_win_rate(
            intact_checkpoints(root), win_rate, greedy=greedy, seed=seed, note=progress.note if progress else None
        )
        team, measured = nearest.checkpoint, nearest.result.win_rate
        if progress is not None:
            progress.note(f"{team.path.name} is closest to a win rate of {win_rate:g} and is recorded")
    return _TeamToRecord(
        world=team.experiment().world,
        checkpoint=team.path,
        provenance=Provenance(
            kind="checkpoint",
            source=team.name,
            checkpoint_hash=team.digest,
            trained_env_steps=team.env_steps,
            greedy=greedy,
            seed=seed,
            target_win_rate=win_rate,
            measured_win_rate=measured,
        ),
    )


def _identity(order: RecordingOrder, provenance: Provenance) -> dict[str, Any]:
    """Returns everything that a chunk depends on except its number. The path of the checkpoint is not part of it."""
    with closing(build_battles(order.world, 1, order.seed)) as battles:
        world = recorded_world(battles).model_dump(mode="json")
    if order.world.backend == "starcraft":
        del world["engine_version"]  # unknown before StarCraft II runs
    return {
        "team": provenance.checkpoint_hash or f"{SCRIPTED_PREFIX}{provenance.source}",
        "greedy": order.greedy or order.checkpoint is None,
        "seed": order.seed,
        **({"epsilon": order.epsilon} if order.epsilon else {}),  # without it, older recordings continue
        **{f"filters.{name}": value for name, value in order.filters.model_dump(mode="json").items()},
        **{f"world.{name}": value for name, value in world.items()},
        "battles_per_chunk": CHUNK_BATTLES,
        "battles_at_once": BATTLES_AT_ONCE,
    }


def _finished_before(out: Path, identity: dict[str, Any], provenance: Provenance, episodes: int) -> Manifest:
    """Returns the set of an earlier call that was killed after it had finished the set, and cleans up after it."""
    with closing(ResumableParts(out, identity)) as parts:
        manifest = JointTrajectories.open(out).manifest
        if manifest.episodes != episodes or manifest.policy.model_copy(update={"battles_played": None}) != provenance:
            raise _exists_already(out)
        parts.remove()
    return manifest


def _exists_already(out: Path) -> DemonstrationError:
    return DemonstrationError(f"{out} exists already; a demonstration set is never overwritten")


def check_same_map(team: TrainedTeam, map_name: str | None) -> None:
    """Raises ConfigError if `map_name` is neither the name of the team's map nor a file that describes it."""
    if map_name in (None, team.map):
        return
    world = team.experiment().world
    own, other = world_map(world.map, world.scenario), load_map(map_name)
    if (own.name, own.scenario_hash) != (other.name, other.scenario_hash):
        raise ConfigError(f"{team.name} was trained on {team.map}, not on {map_name}")
