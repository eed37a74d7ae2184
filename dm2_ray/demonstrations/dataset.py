"""Joint demonstrations on disk: a directory of Parquet shards and a manifest.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, N agents, O observation size, A actions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dm2_ray.demonstrations.agent_demonstration import AgentDemonstration
from dm2_ray.demonstrations.manifest import DemonstrationError, Manifest, Shard, file_sha256
from dm2_ray.demonstrations.parquet_layout import agent_columns, shard_schema, to_numpy

__all__ = ["AgentDemonstration", "DemonstrationError", "JointTrajectories"]


class JointTrajectories:
    """A demonstration set, opened for reading.

    Opening checks manifest, hashes and the order of episodes; an agent's columns are read when its slice is first
    asked for, and kept.
    """

    def __init__(self, path: Path, manifest: Manifest, index: dict[str, npt.NDArray[np.generic]]) -> None:
        """For `open`; `index` holds the columns episode, step, battle_won and episode_return, [S] each."""
        first_rows = np.flatnonzero(index["step"] == 0)
        self.path = path
        self.manifest = manifest
        self.episode_lengths: npt.NDArray[np.int64] = np.diff(np.append(first_rows, len(index["step"])))
        """[E] env steps of each episode."""
        self.battle_won: npt.NDArray[np.bool_] = index["battle_won"][first_rows].astype(bool)
        """[E]."""
        self.returns: npt.NDArray[np.float64] = index["episode_return"][first_rows].astype(np.float64)
        """[E] undiscounted team return."""
        self._first_rows = first_rows
        self._agents: dict[int, tuple[npt.NDArray[np.generic], ...]] = {}

    @classmethod
    def open(cls, path: str | Path) -> JointTrajectories:
        """Opens the set in the directory `path`.

        Raises:
            DemonstrationError: there is none, it is damaged, or it was altered.
        """
        directory = Path(path).expanduser()
        manifest = Manifest.read(directory)
        for shard in manifest.shards:
            _check_shard(directory / shard.file, shard, manifest)
        names = ["episode", "step", "battle_won", "episode_return"]
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
            raise DemonstrationError(f"{directory}: its rows are not {manifest.episodes} whole episodes end to end")
        return cls(directory, manifest, index)

    @property
    def num_episodes(self) -> int:
        return self.manifest.episodes

    @property
    def num_agents(self) -> int:
        return self.manifest.num_agents

    def agent_slice(self, agent_index: int, episode_ids: npt.NDArray[np.int64]) -> AgentDemonstration:
        """What agent `agent_index` saw and did in the given episodes, in their order; an id may come up repeatedly.

        Raises:
            IndexError: there is no such agent or episode.
            DemonstrationError: the shards were damaged after opening.
        """
        ids = np.asarray(episode_ids, dtype=np.int64)
        if not 0 <= agent_index < self.num_agents:
            raise IndexError(f"agent {agent_index}: the set has agents 0 to {self.num_agents - 1}")
        if ids.size == 0 or ids.min() < 0 or ids.max() >= self.num_episodes:
            raise IndexError(f"episode ids must be 0 to {self.num_episodes - 1}, at least one: {ids}")
        if agent_index not in self._agents:
            self._agents[agent_index] = self._read_agent(agent_index)
        lengths = self.episode_lengths[ids]
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(self._first_rows[ids] - starts, lengths)
        observations, actions, action_mask, alive = (np.take(column, rows, 0) for column in self._agents[agent_index])
        return AgentDemonstration(
            agent_index=agent_index,
            observations=observations.astype(np.float32, copy=False),
            actions=actions.astype(np.int64),
            action_mask=action_mask.astype(np.bool_, copy=False),
            alive=alive.astype(np.bool_, copy=False),
            episode_lengths=lengths,
            episode_ids=ids.copy(),
        )

    def check_world(
        self, map_name: str, num_agents: int, obs_size: int, num_actions: int, scenario_hash: str | None = None
    ) -> None:
        """Raises DemonstrationError unless the set was recorded in a world of this map and these sizes, and scenarios
        are the same in content too."""
        asked = {"map": map_name, "num_agents": num_agents, "obs_size": obs_size, "num_actions": num_actions}
        for name, value in asked.items():
            if (recorded := getattr(self.manifest, name)) != value:
                raise DemonstrationError(
                    f"demonstration set {self.path} was recorded with {name} {recorded}, this run has {name} {value}"
                )

        if (recorded := self.manifest.scenario_hash) != scenario_hash:
            raise DemonstrationError(
                f"demonstration set {self.path} was recorded in another scenario called {map_name}: "
                f"the hash of its content is {recorded}, this run's is {scenario_hash}"
            )

    def _read_agent(self, agent_index: int) -> tuple[npt.NDArray[np.generic], ...]:
        columns = _read(self.path, self.manifest, list(agent_columns(agent_index)))
        observations, actions = columns[:2]
        if not np.isfinite(observations).all():
            raise DemonstrationError(f"{self.path}: observations of agent {agent_index} are not all finite")
        if actions.min() < 0 or actions.max() >= self.manifest.num_actions:
            raise DemonstrationError(f"{self.path}: actions of agent {agent_index} are not all in the action space")
        return tuple(columns)


def _check_shard(path: Path, shard: Shard, manifest: Manifest) -> None:
    try:
        if file_sha256(path) != shard.sha256:
            raise DemonstrationError(f"{path} is damaged or was altered: its SHA-256 is not the manifest's")
        with pq.ParquetFile(path) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except OSError as error:
        raise DemonstrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DemonstrationError(f"{path} is not a Parquet file: {_one_line(error)}") from None
    expected = shard_schema(manifest.num_agents, manifest.obs_size, manifest.num_actions)
    if not schema.equals(expected):
        odd = sorted(set(schema.names) ^ set(expected.names)) or ["types of columns"]
        raise DemonstrationError(f"{path} has not the columns of a demonstration set: {', '.join(odd[:3])} differ")
    if rows != shard.env_steps:
        raise DemonstrationError(f"{path} has {rows} rows, the manifest says {shard.env_steps}")


def _read(directory: Path, manifest: Manifest, columns: list[str]) -> list[npt.NDArray[np.generic]]:
    """The columns over all shards, [S, ...]; at most one shard is held beside the result."""
    whole: list[npt.NDArray[np.generic]] = []
    start = 0
    for shard in manifest.shards:
        path = directory / shard.file
        try:
            with pq.ParquetFile(path) as parquet:
                table = parquet.read(columns)
        except (OSError, pa.ArrowException) as error:
            raise DemonstrationError(f"{path} cannot be read: {_one_line(error)}") from None
        if len(table) != shard.env_steps:
            raise DemonstrationError(f"{path} has {len(table)} rows, the manifest says {shard.env_steps}")
        parts = [to_numpy(table[name]) for name in columns]
        if not whole:
            whole = [np.empty((manifest.env_steps, *part.shape[1:]), part.dtype) for part in parts]
        for array, part in zip(whole, parts, strict=True):
            array[start : start + len(part)] = part
        start += len(table)
    return whole


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
