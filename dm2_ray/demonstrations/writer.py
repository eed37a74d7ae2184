"""Writes a demonstration set that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow.parquet as pq

from dm2_ray.atomic_file import synchronise
from dm2_ray.demonstrations.manifest import (
    DemonstrationError,
    Manifest,
    Provenance,
    RecordedWorld,
    Shard,
    file_sha256,
)
from dm2_ray.demonstrations.parquet_layout import JointEpisode, shard_schema, to_table


class JointTrajectoryWriter:
    """Collects joint episodes into the directory `path`.

        with JointTrajectoryWriter(path) as writer:
            writer.append(episode) ...
            manifest = writer.finish(world, provenance)

    Everything is written into a hidden sibling that `finish` renames; leaving the block without it removes what was
    written. At most `shard_bytes` of observations are held in memory.

    Raises:
        DemonstrationError: `path` exists already, or its parent cannot be written to.
    """

    def __init__(self, path: str | Path, *, shard_bytes: int = 64 * 2**20) -> None:
        self._path = Path(path).expanduser().absolute()
        if self._path.exists() or self._path.is_symlink():
            raise DemonstrationError(f"{self._path} exists already; a demonstration set is never overwritten")
        self._temporary = self._path.parent / f".{self._path.name}.{os.getpid()}.tmp"
        self._shard_bytes = shard_bytes
        self._held: list[JointEpisode] = []
        self._held_bytes = 0
        self._shards: list[Shard] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._wins = 0
        self._sizes: tuple[int, int, int] | None = None
        try:
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise DemonstrationError(f"{self._path} cannot be written: {error.strerror}") from None

    def __enter__(self) -> JointTrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def num_episodes(self) -> int:
        """Episodes appended so far; the next one gets this number as its id."""
        return len(self._lengths)

    def append(self, episode: JointEpisode) -> None:
        """Adds one episode.

        Raises:
            ValueError: it has other sizes than the episodes before it.
        """
        self._sizes = self._sizes or _sizes(episode)
        if _sizes(episode) != self._sizes:
            raise ValueError(f"sizes (N, O, A) were {self._sizes}, this episode has {_sizes(episode)}")
        self._held.append(episode)
        self._held_bytes += episode.observations.nbytes
        self._returns.append(episode.team_return)
        self._lengths.append(episode.num_steps)
        self._wins += episode.battle_won
        if self._held_bytes >= self._shard_bytes:
            self._write_shard()

    def finish(self, world: RecordedWorld, policy: Provenance) -> Manifest:
        """Writes the rest and the manifest, makes all of it durable and moves it into place.

        Raises:
            DemonstrationError: nothing was appended, the episodes do not fit `world`, or `path` has come into being.
        """
        if not self._lengths:
            raise DemonstrationError(f"{self._path}: a demonstration set needs at least one episode")
        if self._held:
            self._write_shard()
        if (sizes := (world.num_agents, world.obs_size, world.num_actions)) != self._sizes:
            raise DemonstrationError(f"{self._path}: episodes have (N, O, A) {self._sizes}, the world {sizes}")
        manifest = Manifest(
            **world.model_dump(),
            policy=policy,
            episodes=len(self._lengths),
            env_steps=sum(self._lengths),
            win_rate=self._wins / len(self._lengths),
            return_mean=float(np.mean(self._returns)),
            episode_length_mean=float(np.mean(self._lengths)),
            shards=self._shards,
        )
        manifest.write(self._temporary)
        try:
            os.rename(self._temporary, self._path)
        except OSError as error:
            raise DemonstrationError(f"{self._path} cannot be put into place: {error.strerror}") from None
        synchronise(self._path.parent)
        return manifest

    def _write_shard(self) -> None:
        episodes, self._held, self._held_bytes = self._held, [], 0
        table = to_table(episodes, self.num_episodes - len(episodes), shard_schema(*_sizes(episodes[0])))
        path = self._temporary / f"shard-{len(self._shards):05d}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=len(table))
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        self._shards.append(
            Shard(file=path.name, sha256=file_sha256(path), episodes=len(episodes), env_steps=len(table))
        )


def _sizes(episode: JointEpisode) -> tuple[int, int, int]:
    return episode.actions.shape[1], episode.observations.shape[2], episode.action_mask.shape[2]
