"""Joint demonstrations on disk: a directory of Parquet shards and a manifest.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, N agents, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dm2_ray.arrays import is_finite
from dm2_ray.demonstrations.joint_episode import EpisodeRecord
from dm2_ray.demonstrations.manifest import DemonstrationError, Manifest, Shard
from dm2_ray.demonstrations.parquet_layout import agent_columns, shard_schema, team_columns, to_episodes, to_numpy
from dm2_ray.files import file_sha256
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.terminal import one_line

__all__ = ["AgentDemonstration", "DemonstrationError", "JointTrajectories"]


class JointTrajectories:
    """A demonstration set, opened for reading.

    Opening checks the manifest, the hashes and the order of the episodes. An agent's columns are read when its slice is
    needed for the first time, and stay in memory.

    Attributes:
        path: Directory of the set.
        manifest: World, provenance, outcome and shards of the set.
        episode_lengths: [E] env steps of each episode.
    """

    def __init__(self, path: Path, manifest: Manifest, index: dict[str, npt.NDArray[np.generic]]) -> None:
        """Called by `open`; `index` has the columns [S] step and, unless missing, battle_won and episode_return."""
        first_rows = np.flatnonzero(index["step"] == 0)
        self.path = path
        self.manifest = manifest
        self.episode_lengths: npt.NDArray[np.int64] = np.diff(np.append(first_rows, len(index["step"])))
        self._outcomes = {name: column[first_rows] for name, column in index.items()}
        self._agents: dict[int, AgentDemonstration] = {}

    @classmethod
    def open(cls, path: str | Path) -> JointTrajectories:
        """Opens the set in the directory `path`.

        Raises:
            DemonstrationError: There is no set, it is damaged, or it was altered.
        """
        directory = Path(path).expanduser()
        manifest = Manifest.read(directory)
        for shard in manifest.shards:
            _check_shard(directory / shard.file, shard, manifest)
        names = ["episode", "step", *(name for name in team_columns(manifest.missing) if name != "reward")]
        index = dict(zip(names, _read(directory, manifest, names), strict=True))
        is_first = index["step"] == 0
        first_rows = np.flatnonzero(is_first)
        rows = np.arange(manifest.env_steps)
        expected_episode = np.cumsum(is_first) - 1
        if (
            len(first_rows) != manifest.episodes
            or not is_first[0]
            or (index["episode"] != expected_episode).any()
            or (index["step"] != rows - first_rows[expected_episode]).any()
        ):
            raise DemonstrationError(f"{directory}: its rows are not {manifest.episodes} whole episodes in order")
        return cls(directory, manifest, index)

    @property
    def num_episodes(self) -> int:
        return self.manifest.episodes

    @property
    def num_agents(self) -> int:
        return self.manifest.num_agents

    @property
    def battle_won(self) -> npt.NDArray[np.bool_]:
        """[E] whether each battle was won. Raises DemonstrationError if this was not recorded."""
        return self._outcome("battle_won", "which battles were won").astype(np.bool_)

    @property
    def returns(self) -> npt.NDArray[np.float64]:
        """[E] undiscounted team returns. Raises DemonstrationError if rewards were not recorded."""
        return self._outcome("episode_return", "what the rewards were").astype(np.float64)

    def episodes(self) -> Iterator[EpisodeRecord]:
        """Yields all episodes in order, as JointEpisode if nothing is missing. At most one shard is in memory.

        Raises:
            DemonstrationError: The shards were damaged after opening, or an episode contradicts itself.
        """
        for shard in self.manifest.shards:
            table = _read_shard(self.path / shard.file, shard)
            try:
                episodes = to_episodes(table, self.num_agents, self.manifest.missing)
            except ValueError as error:
                raise DemonstrationError(f"{self.path / shard.file}: {error}") from None
            if len(episodes) != shard.episodes:
                raise DemonstrationError(
                    f"{self.path / shard.file} has {len(episodes)} episodes, the manifest says {shard.episodes}"
                )
            yield from episodes

    def agent_slice(self, agent_index: int, episode_ids: npt.NDArray[np.int64]) -> AgentDemonstration:
        """Returns what agent `agent_index` saw and did in the given episodes, in this order; ids may occur repeatedly.

        Raises:
            IndexError: There is no such agent or episode.
            DemonstrationError: The shards were damaged after opening.
        """
        ids = np.asarray(episode_ids, dtype=np.int64)
        if ids.size == 0 or ids.min() < 0 or ids.max() >= self.num_episodes:
            raise IndexError(f"need at least one episode id, each from 0 to {self.num_episodes - 1}, got {ids}")
        if agent_index not in self._agents:
            self._agents[agent_index] = self.read_agent(agent_index)
        return self._agents[agent_index].select(ids)

    def read_agent(self, agent_index: int) -> AgentDemonstration:
        """Reads everything that agent `agent_index` saw and did from the shards; it is not kept in memory here.

        Raises:
            IndexError: There is no such agent.
            DemonstrationError: The shards were damaged after opening.
        """
        if not 0 <= agent_index < self.num_agents:
            raise IndexError(f"agent {agent_index}: the set has agents 0 to {self.num_agents - 1}")
        columns = _read(self.path, self.manifest, agent_columns(agent_index, self.manifest.missing))
        observations, actions, alive, *action_mask = columns
        if not action_mask:
            # Availability was not recorded. Marking every action as available is inaccurate but loses no action.
            action_mask = [np.ones((len(actions), self.manifest.num_actions), np.bool_)]
        if not is_finite(observations):
            raise DemonstrationError(f"{self.path}: observations of agent {agent_index} contain NaN or infinity")
        if actions.min() < 0 or actions.max() >= self.manifest.num_actions:
            raise DemonstrationError(f"{self.path}: some actions of agent {agent_index} are not in the action space")
        return AgentDemonstration(
            agent_index=agent_index,
            observations=observations.astype(np.float32, copy=False),
            actions=actions.astype(np.int64),
            action_mask=action_mask[0].astype(np.bool_, copy=False),
            alive=alive.astype(np.bool_, copy=False),
            episode_lengths=self.episode_lengths,
            episode_ids=np.arange(self.num_episodes),
        )

    def check_world(
        self,
        map_name: str,
        num_agents: int,
        obs_size: int,
        num_actions: int,
        scenario_hash: str | None = None,
        engine_version: str | None = None,
        *,
        backend: Literal["embedded", "starcraft"] | None = None,
        other_engine: bool = False,
    ) -> None:
        """Checks that the set was recorded on this map (for a scenario: with the same content), with these sizes and
        by the same engine.

        Args:
            map_name: Map of the world that will use the set.
            num_agents: N of that world.
            obs_size: O of that world.
            num_actions: A of that world.
            scenario_hash: Hash of the scenario's content; None on SMAC's maps.
            engine_version: Version of the world's engine; None accepts every version (StarCraft II's is not known
                before it has started).
            backend: Engine of the world; None accepts every engine.
            other_engine: Whether the user accepts a set of another engine or engine version.

        Raises:
            DemonstrationError: Something differs.
        """
        asked = {"map": map_name, "num_agents": num_agents, "obs_size": obs_size, "num_actions": num_actions}
        for name, value in asked.items():
            if (recorded := getattr(self.manifest, name)) != value:
                raise DemonstrationError(
                    f"demonstration set {self.path} was recorded with {name} {recorded}, here {name} is {value}"
                )
        if (recorded := self.manifest.scenario_hash) != scenario_hash:
            raise DemonstrationError(
                f"demonstration set {self.path} was recorded in another scenario called {map_name}: "
                f"the hash of its content is {recorded}, here it is {scenario_hash}"
            )
        own = self.manifest.backend, self.manifest.engine_version
        here = backend or own[0], engine_version or own[1]
        if own != here and not other_engine:
            raise DemonstrationError(
                f"demonstration set {self.path} was recorded on {_engine(*own)}, but battles are played on "
                f"{_engine(*here)} here: record it again, or accept it with demonstrations.other_engine=true"
            )

    def _outcome(self, column: str, words: str) -> npt.NDArray[np.generic]:
        if column not in self._outcomes:
            raise DemonstrationError(f"demonstration set {self.path} does not say {words}: this was not recorded")
        return self._outcomes[column]


def _engine(backend: str, version: str) -> str:
    return f"{'StarCraft II' if backend == 'starcraft' else 'the embedded engine'}, version {version}"


def _check_shard(path: Path, shard: Shard, manifest: Manifest) -> None:
    try:
        if file_sha256(path) != shard.sha256:
            raise DemonstrationError(f"{path} is damaged or was altered: its SHA-256 is not the manifest's")
        with pq.ParquetFile(path) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DemonstrationError(f"{path} is not a Parquet file: {one_line(error)}") from None
    expected = shard_schema(manifest.num_agents, manifest.obs_size, manifest.num_actions, manifest.missing)
    if not schema.equals(expected):
        odd = sorted(set(schema.names) ^ set(expected.names)) or ["types of columns"]
        raise DemonstrationError(
            f"{path} does not have the columns of this demonstration set: {', '.join(odd[:3])} differ"
        )
    if rows != shard.env_steps:
        raise DemonstrationError(f"{path} has {rows} rows, the manifest says {shard.env_steps}")


def _read(directory: Path, manifest: Manifest, columns: list[str]) -> list[npt.NDArray[np.generic]]:
    """Returns the columns over all shards, [S, ...]; at most one shard is in memory besides the result."""
    columns_read: list[npt.NDArray[np.generic]] = []
    start = 0
    for shard in manifest.shards:
        table = _read_shard(directory / shard.file, shard, columns)
        parts = [to_numpy(table[name]) for name in columns]
        if not columns_read:
            columns_read = [np.empty((manifest.env_steps, *part.shape[1:]), part.dtype) for part in parts]
        for array, part in zip(columns_read, parts, strict=True):
            array[start : start + len(part)] = part
        start += len(table)
    # Arrow would keep the freed memory, as much as the set takes, although this process reads nothing more.
    del table, parts
    pa.default_memory_pool().release_unused()
    return columns_read


def _read_shard(path: Path, shard: Shard, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as parquet:
            table = parquet.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise DemonstrationError(f"{path} cannot be read: {one_line(error)}") from None
    if len(table) != shard.env_steps:
        raise DemonstrationError(f"{path} has {len(table)} rows, the manifest says {shard.env_steps}")
    return table
