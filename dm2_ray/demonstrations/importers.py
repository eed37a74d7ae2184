"""Imports the files that the authors of DM2 published with their paper (Wang et al. 2023, arXiv 2206.00233).

    DIR/agent_0.npz ... agent_{N-1}.npz     or .npy; one file per agent, entry k of every file is of the same battle
      arr_0: E pickled dicts  {"obs": tensor [1, T, O] float32, "actions": tensor [1, T, 1] int64}

T is the episode limit + 1. A battle of L steps fills L + 1 rows: the last row was observed after the last step and is
not a step. The rows after it are zeros, and so are the observations of dead agents: if all agents died, only L rows are
not zero. The files do not contain rewards, available actions and outcomes; the manifest of the imported set lists them
as missing.

Nothing in the files is trusted (see `restricted_pickle`).

Shapes: E episodes (whole battles), T rows of a battle, L steps of a battle, N agents, M enemies, O observation size, A
actions.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import is_finite
from dm2_ray.demonstrations.joint_episode import EpisodeRecord
from dm2_ray.demonstrations.manifest import DemonstrationError, Manifest, Provenance, RecordedWorld
from dm2_ray.demonstrations.restricted_pickle import ForbiddenPickle, load_restricted
from dm2_ray.demonstrations.writer import JointTrajectoryWriter
from dm2_ray.files import file_sha256
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables, build_tables

UNKNOWN_VERSION = "unknown"
"""Version of the game that the authors' battles were played in: the files do not say."""

_ENTRY = "arr_0.npy"
_SUFFIXES = (".npz", ".npy")

_AgentRows: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Observations [T, O] and actions [T] of one agent in one battle."""


def import_published(
    directory: str | Path, map_spec: MapSpec, out: str | Path, *, episodes: int | None = None
) -> Manifest:
    """Makes a set from the authors' files. All files are read before anything is written.

    Args:
        directory: Directory of the agents' files.
        map_spec: Map that the battles were played on, with SMAC's default options.
        out: Directory of the new set.
        episodes: How many battles to import, from the first on; None imports all.

    Raises:
        DemonstrationError: A file is missing, damaged or refused, or does not match the map.
    """
    source = Path(directory).expanduser()
    tables = build_tables(map_spec, SmacOptions.from_arguments({}))
    paths = _agent_files(source, tables.num_agents, map_spec.name)
    agents = [_read_agent(path, tables, map_spec.name) for path in paths]
    counts = {len(own) for own in agents}
    if len(counts) > 1:
        raise DemonstrationError(
            f"{source}: the agents' files hold {sorted(counts)} battles; all must hold the same ones"
        )
    found = counts.pop()
    if found < (episodes or 1):
        raise DemonstrationError(f"{source} holds {found} battles, but {episodes or 1} were asked for")
    digest = hashlib.sha256("\n".join(file_sha256(path) for path in paths).encode()).hexdigest()
    with JointTrajectoryWriter(out) as writer:
        for number in range(episodes or found):
            writer.append(_joint_episode([own[number] for own in agents], f"{source}: battle {number}", tables))
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


def _joint_episode(rows: list[_AgentRows], where: str, tables: RulesTables) -> EpisodeRecord:
    if len({len(actions) for _, actions in rows}) > 1:
        raise DemonstrationError(f"{where} does not have the same length in all agents' files")
    observations = np.stack([own for own, _ in rows], axis=1)
    length = episode_length_from_masks(observations, tables)
    if length == 0:
        raise DemonstrationError(f"{where}: no agent observes anything")
    return EpisodeRecord(
        observations=observations[:length],
        actions=np.stack([actions for _, actions in rows], axis=1)[:length],
        alive=alive_from_observations(observations[:length]),
        action_mask=None,
        rewards=None,
        battle_won=None,
    )


def episode_length_from_masks(observations: npt.NDArray[np.float32], tables: RulesTables) -> int:
    """Returns the number of steps of a battle.

    The last row in which an agent observes anything either was observed after the last step, or it belongs to the last
    step, in which all agents died. Under SMAC's rules a battle goes on as long as both sides have units other than
    medivacs, up to the episode limit, and an enemy that kills the last agent is in its sight. So if a living agent sees
    an enemy in that row, and time has not run out, that row is a step.

    Args:
        observations: [T, N, O] padded rows of one battle.
        tables: Rules of the map.
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
    is_undecided = living[fights[: tables.num_agents]].any() and sees[:, fights[tables.num_agents :]].any()
    return last + 1 if is_undecided and last < tables.episode_limit else last


def alive_from_observations(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Maps [..., O] to [...]: an agent is alive where it observes anything at all."""
    seen: npt.NDArray[np.bool_] = np.logical_or.reduce(observations, axis=-1)
    return seen


def _agent_files(directory: Path, num_agents: int, map_name: str) -> list[Path]:
    if not directory.is_dir():
        raise DemonstrationError(f"{directory} is not a directory; expected one with agent_0.npz, agent_1.npz, …")
    found = []
    for agent in range(num_agents):
        there = [path for suffix in _SUFFIXES if (path := directory / f"agent_{agent}{suffix}").is_file()]
        if not there:
            raise DemonstrationError(f"{directory} has no agent_{agent}.npz: {map_name} has {num_agents} agents")
        found.append(there[0])
    if any((directory / f"agent_{num_agents}{suffix}").exists() for suffix in _SUFFIXES):
        raise DemonstrationError(f"{directory} has files for more than the {num_agents} agents of {map_name}")
    return found


def _read_agent(path: Path, tables: RulesTables, map_name: str) -> list[_AgentRows]:
    """Returns one agent's rows of every battle."""
    try:
        with _opened(path) as (stream, num_bytes):
            entries = _read_objects(stream, num_bytes, tables)
    except ForbiddenPickle as refusal:
        raise DemonstrationError(f"{path} is refused: {refusal}") from None
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # damage raises exceptions of many classes; none of them has had an effect
        reason = " ".join(str(error).split())[:120] or "it ends too early"
        raise DemonstrationError(f"{path} is damaged or is not one of the authors' files ({reason})") from None
    return [_battle(entry, f"{path}: battle {k}", tables, map_name) for k, entry in enumerate(entries)]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Yields a stream with the bytes of the one array in a file, and their number."""
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
        raise ValueError(f"unknown numpy format {version}")
    shape, _, dtype = readers[version](stream)
    if not dtype.hasobject or dtype.names is not None or len(shape) != 1:
        raise ValueError(f"it holds {dtype} {list(shape)}; expected one dict per battle")
    # Every agent's tensors contain the whole team's storage, and old pickles write a byte as up to two.
    rows = tables.episode_limit + 1
    battle_bytes = rows * tables.num_agents * (4 * tables.obs_size + 8 * tables.num_actions) + 2**14
    if num_bytes > (most := 2**20 + 4 * shape[0] * battle_bytes):
        raise ValueError(f"{num_bytes:,} bytes for {shape[0]} battles, which take at most {most:,}")
    entries = load_restricted(stream)
    if not isinstance(entries, list) or len(entries) != shape[0]:
        raise ValueError("its content does not match its header")
    if stream.read(1):  # reading to the end also makes zipfile compare the checksum
        raise ValueError("there is more data after its content")
    return entries


def _battle(entry: Any, where: str, tables: RulesTables, map_name: str) -> _AgentRows:
    if not isinstance(entry, dict) or not {"obs", "actions"} <= entry.keys():
        found = sorted(map(str, entry))[:5] if isinstance(entry, dict) else type(entry).__name__
        raise DemonstrationError(f"{where} is {found}; expected a dict with obs and actions")
    observations, actions = (_without_batch(entry[name]) for name in ("obs", "actions"))
    if observations is None or observations.dtype.kind != "f" or observations.ndim != 2:
        raise DemonstrationError(f"{where}: obs must be floats [1, T, O], found {_described(entry['obs'])}")
    if observations.shape[1] != tables.obs_size:
        raise DemonstrationError(
            f"{where}: observations have size {observations.shape[1]}; on {map_name} with SMAC's defaults they have "
            f"size {tables.obs_size}"
        )
    if len(observations) > tables.episode_limit + 1:
        raise DemonstrationError(
            f"{where} has {len(observations)} rows; on {map_name} there are at most {tables.episode_limit + 1}"
        )
    if not is_finite(observations):
        raise DemonstrationError(f"{where}: observations contain NaN or infinity")
    chosen = None if actions is None else _chosen(actions, tables.num_actions)
    if chosen is None or len(chosen) != len(observations):
        raise DemonstrationError(
            f"{where}: actions must be integers [1, T, 1] or one-hot [1, T, {tables.num_actions}] with as many rows as "
            f"obs, found {_described(entry['actions'])}"
        )
    if chosen.min(initial=0) < 0 or chosen.max(initial=0) >= tables.num_actions:
        raise DemonstrationError(
            f"{where}: actions are {chosen.min()} to {chosen.max()}; {map_name} has 0 to {tables.num_actions - 1}"
        )
    return observations.astype(np.float32, copy=False), chosen


def _without_batch(array: Any) -> npt.NDArray[Any] | None:
    """Returns [T, ...] from [1, T, ...] or [T, ...]; None if it is not an array of numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return None
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _chosen(actions: npt.NDArray[Any], num_actions: int) -> npt.NDArray[np.int64] | None:
    """Returns [T] from integers [T] or [T, 1] or one-hot rows [T, A] (a row of zeros is action 0), else None."""
    if actions.ndim == 2 and actions.shape[1] == num_actions:
        is_one_hot = np.isin(actions, (0, 1)).all() and (actions.sum(1) <= 1).all()
        return actions.argmax(1).astype(np.int64) if is_one_hot else None
    flat = actions[:, 0] if actions.ndim == 2 and actions.shape[1] == 1 else actions
    if flat.ndim != 1 or not (flat == np.floor(flat)).all():
        return None
    return flat.astype(np.int64)


def _described(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
