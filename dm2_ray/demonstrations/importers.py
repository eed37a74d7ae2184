"""The files that the authors of DM2 published with their paper (Wang et al. 2023, arXiv 2206.00233), as a set.

    DIR/agent_0.npz ... agent_{N-1}.npz     or .npy; one file per agent, entry k of each of the same battle
      arr_0: E pickled dicts  {"obs": tensor [1, T, O] float32, "actions": tensor [1, T, 1] int64}

T is the episode limit + 1. A battle of L steps fills L + 1 rows: the last one was observed after the last step, and is
no step. All others are zeros, and so are observations of dead agents: of a battle that was lost by the death of all
agents only L rows show. Rewards, available actions and outcomes are not in these files; a set that is made of them
says that they are missing.

Nothing in the files is trusted (`strange_pickle`).

Shapes: E episodes (whole battles), T rows of a battle, L steps of a battle, N agents, M enemies, O observation size, A
actions.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import is_finite
from dm2_ray.demonstrations.joint_episode import EpisodeRecord
from dm2_ray.demonstrations.manifest import (
    DemonstrationError,
    Manifest,
    Provenance,
    RecordedWorld,
)
from dm2_ray.demonstrations.restricted_pickle import ForbiddenPickle, load_restricted
from dm2_ray.demonstrations.writer import JointTrajectoryWriter
from dm2_ray.files import file_sha256
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables, build_tables

UNKNOWN_VERSION = "unknown"
"""Of the game that the authors' battles were fought in: their files do not say."""

_ENTRY = "arr_0.npy"
_SUFFIXES = (".npz", ".npy")


def import_published(
    directory: str | Path, map_spec: MapSpec, out: str | Path, *, episodes: int | None = None
) -> Manifest:
    """Makes a set of the authors' files; nothing is written before all of them are read.

    Args:
        directory: where the agents' files lie.
        map_spec: what the battles were fought on, with SMAC's default switches.
        out: directory of the new set.
        episodes: take the first so many battles; None takes all.

    Raises:
        DemonstrationError: a file is missing, damaged or refused, or does not fit the map.
    """
    source = Path(directory).expanduser()
    tables = build_tables(map_spec, SmacOptions.from_arguments({}))
    paths = _agent_files(source, tables.num_agents, map_spec.name)
    agents = [_read_agent(path, tables, map_spec.name) for path in paths]
    counts = {len(own) for own in agents}
    if len(counts) > 1:
        raise DemonstrationError(f"{source}: the agents' files hold {sorted(counts)} battles, not the same ones")
    found = counts.pop()
    if found < (episodes or 1):
        raise DemonstrationError(f"{source} holds {found} battles, {episodes or 1} are wanted")
    digest = hashlib.sha256("\n".join(file_sha256(path) for path in paths).encode()).hexdigest()
    with JointTrajectoryWriter(out) as writer:
        for number in range(episodes or found):
            rows = [own[number] for own in agents]
            if len({len(actions) for _, actions in rows}) > 1:
                raise DemonstrationError(f"{source}: battle {number} is not equally long in all agents' files")
            observations = np.stack([own for own, _ in rows], axis=1)
            length = episode_length_from_masks(observations, tables)
            if length == 0:
                raise DemonstrationError(f"{source}: nobody observes anything in battle {number}")
            writer.append(
                EpisodeRecord(
                    observations=observations[:length],
                    actions=np.stack([actions for _, actions in rows], axis=1)[:length],
                    alive=alive_from_observations(observations[:length]),
                    action_mask=None,
                    rewards=None,
                    battle_won=None,
                )
            )
        world = RecordedWorld(
            map=map_spec.name,
            scenario_hash=map_spec.scenario_hash,
            backend="starcraft",
            engine_version=UNKNOWN_VERSION,
            engine={},
            smac={},
            num_agents=tables.num_agents,
            obs_size=tables.obs_size,
            num_actions=tables.num_actions,
        )
        return writer.finish(world, Provenance(kind="imported", source=str(source), source_sha256=digest))


def episode_length_from_masks(observations: npt.NDArray[np.float32], tables: RulesTables) -> int:
    """Steps of a battle: rows in which anybody observes anything, less the one after the last step, if it shows.

    That row shows unless all agents are dead then. By SMAC's rules a battle that ends with a living agent was won or
    ran out of time: either nobody sees an enemy any more (whoever kills the last agent is in its sight), or the row's
    number is the episode limit. (A medivac that is left alone counts on neither side.)

    Args:
        observations: [T, N, O].
        tables: of the map.
    """
    seen = alive_from_observations(observations)
    rows = np.flatnonzero(seen.any(1))
    if len(rows) == 0:
        return 0
    last = int(rows[-1])
    living = seen[last]
    enemies = slice(tables.enemies_at, tables.enemies_at + tables.num_enemies * tables.enemy_width)
    sees = alive_from_observations(
        observations[last, living, enemies].reshape(int(living.sum()), tables.num_enemies, -1)
    )
    fights = ~tables.is_medivac
    goes_on = living[fights[: tables.num_agents]].any() and sees[:, fights[tables.num_agents :]].any()
    return last + 1 if goes_on and last < tables.episode_limit else last


def alive_from_observations(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """[..., O] to [...]: where anything is observed at all, which is who lives."""
    seen: npt.NDArray[np.bool_] = np.logical_or.reduce(observations, axis=-1)
    return seen


def _agent_files(directory: Path, num_agents: int, map_name: str) -> list[Path]:
    if not directory.is_dir():
        raise DemonstrationError(f"{directory} is no directory; expected one with agent_0.npz, agent_1.npz, …")
    found = []
    for agent in range(num_agents):
        there = [path for suffix in _SUFFIXES if (path := directory / f"agent_{agent}{suffix}").is_file()]
        if not there:
            raise DemonstrationError(f"{directory} has no agent_{agent}.npz: {map_name} has {num_agents} agents")
        found.append(there[0])
    if any((directory / f"agent_{num_agents}{suffix}").exists() for suffix in _SUFFIXES):
        raise DemonstrationError(f"{directory} has files of more than the {num_agents} agents of {map_name}")
    return found


def _read_agent(
    path: Path, tables: RulesTables, map_name: str
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Per battle, observations [T, O] and actions [T]."""
    try:
        with _opened(path) as (stream, num_bytes):
            entries = _read_objects(stream, num_bytes, tables)
    except ForbiddenPickle as refusal:
        raise DemonstrationError(f"{path} is refused: {refusal}") from None
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # every kind of damage raises a class of its own; whatever it is, nothing came of it
        reason = " ".join(str(error).split())[:120] or "it ends too early"
        raise DemonstrationError(f"{path} is damaged or none of the authors' files ({reason})") from None
    return [_battle(entry, f"{path}: battle {k}", tables, map_name) for k, entry in enumerate(entries)]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of the one array in a file, and how many they are."""
    if path.suffix == ".npy":
        with open(path, "rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        if archive.namelist() != [_ENTRY]:
            raise ValueError(f"it holds {', '.join(archive.namelist()[:5]) or 'nothing'}, expected {_ENTRY}")
        with archive.open(_ENTRY) as entry:
            yield entry, archive.getinfo(_ENTRY).file_size


def _read_objects(stream: IO[bytes], num_bytes: int, tables: RulesTables) -> list[Any]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"numpy's format {version}")
    shape, _, dtype = readers[version](stream)
    if not dtype.hasobject or dtype.names is not None or len(shape) != 1:
        raise ValueError(f"it holds {dtype} {list(shape)}, expected one dict per battle")
    # Every agent's tensors drag the whole team's along, and old pickles write a byte as up to two.
    rows = tables.episode_limit + 1
    battle_bytes = rows * tables.num_agents * (4 * tables.obs_size + 8 * tables.num_actions) + 2**14
    if num_bytes > (most := 2**20 + 4 * shape[0] * battle_bytes):
        raise ValueError(f"{num_bytes:,} bytes for {shape[0]} battles, which take {most:,} at most")
    entries = load_restricted(stream)
    if not isinstance(entries, list) or len(entries) != shape[0]:
        raise ValueError("its content is not what its header says")
    if stream.read(1):  # at the end a zip file's own checksum is compared too
        raise ValueError("something follows its content")
    return entries


def _battle(
    entry: Any, where: str, tables: RulesTables, map_name: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if not isinstance(entry, dict) or not {"obs", "actions"} <= entry.keys():
        found = sorted(map(str, entry))[:5] if isinstance(entry, dict) else type(entry).__name__
        raise DemonstrationError(f"{where} is {found}, expected a dict with obs and actions")
    observations, actions = (_without_batch(entry[name]) for name in ("obs", "actions"))
    if observations is None or observations.dtype.kind != "f" or observations.ndim != 2:
        raise DemonstrationError(f"{where}: obs must be numbers [1, T, O], found {_described(entry['obs'])}")
    if observations.shape[1] != tables.obs_size:
        raise DemonstrationError(
            f"{where}: observations have size {observations.shape[1]}, on {map_name} with SMAC's defaults "
            f"{tables.obs_size}"
        )
    if len(observations) > tables.episode_limit + 1:
        raise DemonstrationError(
            f"{where} has {len(observations)} rows, on {map_name} there are {tables.episode_limit + 1} at most"
        )
    if not is_finite(observations):
        raise DemonstrationError(f"{where}: observations are not all finite")
    chosen = None if actions is None else _chosen(actions, tables.num_actions)
    if chosen is None or len(chosen) != len(observations):
        raise DemonstrationError(
            f"{where}: actions must be whole numbers [1, T, 1] or one-hot [1, T, {tables.num_actions}] and as many as "
            f"observations, found {_described(entry['actions'])}"
        )
    if chosen.min(initial=0) < 0 or chosen.max(initial=0) >= tables.num_actions:
        raise DemonstrationError(
            f"{where}: actions lie in {chosen.min()} to {chosen.max()}, {map_name} has {tables.num_actions}"
        )
    return observations.astype(np.float32, copy=False), chosen


def _without_batch(array: Any) -> npt.NDArray[Any] | None:
    """[T, ...] of [1, T, ...] or of [T, ...] itself; None of what is no array of numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return None
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _chosen(actions: npt.NDArray[Any], num_actions: int) -> npt.NDArray[np.int64] | None:
    """[T] of whole numbers [T] or [T, 1], or of one-hot rows [T, A] (all zeros where nothing was done: action 0)."""
    if actions.ndim == 2 and actions.shape[1] == num_actions:
        is_one_hot = np.isin(actions, (0, 1)).all() and (actions.sum(1) <= 1).all()
        return actions.argmax(1).astype(np.int64) if is_one_hot else None
    flat = actions[:, 0] if actions.ndim == 2 and actions.shape[1] == 1 else actions
    if flat.ndim != 1 or not (flat == np.floor(flat)).all():
        return None
    return flat.astype(np.int64)


def _described(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
