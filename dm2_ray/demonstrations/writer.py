"""Writes a demonstration set, which appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow.parquet as pq

from dm2_ray.demonstrations.joint_episode import EpisodeRecord
from dm2_ray.demonstrations.manifest import (
    DemonstrationError,
    Manifest,
    MissingColumn,
    Part,
    Provenance,
    RecordedWorld,
    Shard,
)
from dm2_ray.demonstrations.parquet_layout import shard_schema, to_table
from dm2_ray.files import file_sha256, fsync_path


class JointTrajectoryWriter:
    """Writes joint episodes into the directory `path`.

        with JointTrajectoryWriter(path) as writer:
            writer.append(episode) ...
            manifest = writer.finish(world, provenance)

    Everything is written into `temporary`, which `finish` renames to `path`. Leaving the block without `finish` removes
    what was written.

    Args:
        path: Directory of the new set.
        shard_bytes: Size of a shard in bytes of observations; about as much is held in memory.
        temporary: Directory to write into, which must not exist; by default a hidden one beside `path`.

    Raises:
        DemonstrationError: `path` exists already, or its parent cannot be written to.
    """

    def __init__(self, path: str | Path, *, shard_bytes: int = 64 * 2**20, temporary: Path | None = None) -> None:
        self._path = Path(path).expanduser().absolute()
        if self._path.exists() or self._path.is_symlink():
            raise DemonstrationError(f"{self._path} exists already; a demonstration set is never overwritten")
        self._temporary = temporary or self._path.parent / f".{self._path.name}.{os.getpid()}.tmp"
        self._shard_bytes = shard_bytes
        self._held: list[EpisodeRecord] = []
        self._held_bytes = 0
        self._shards: list[Shard] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._wins = 0
        self._missing: list[MissingColumn] = []
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

    def append(self, episode: EpisodeRecord) -> None:
        """Adds one episode.

        Raises:
            ValueError: Its sizes or its missing fields differ from those of the episodes before it.
            DemonstrationError: A shard cannot be written.
        """
        if self._sizes is None:
            self._sizes, self._missing = _sizes(episode), episode.missing
        if _sizes(episode) != self._sizes:
            raise ValueError(f"sizes (N, O, A) were {self._sizes}, but this episode has {_sizes(episode)}")
        if episode.missing != self._missing:
            raise ValueError(f"missing was {self._missing}, but of this episode {episode.missing} is missing")
        self._held.append(episode)
        self._held_bytes += episode.observations.nbytes
        self._lengths.append(episode.num_steps)
        if episode.rewards is not None:
            self._returns.append(float(episode.rewards.sum()))
        self._wins += bool(episode.battle_won)
        if self._held_bytes >= self._shard_bytes:
            self._write_shard()

    def finish(self, world: RecordedWorld, policy: Provenance, parts: Sequence[Part] = ()) -> Manifest:
        """Writes the last shard and the manifest, flushes everything to disk and moves it into place.

        Args:
            world: Where the episodes were recorded.
            policy: Who played.
            parts: The sources of a merged set.

        Raises:
            DemonstrationError: No episode was appended, episodes do not match `world`, or the set cannot be written.
        """
        if not self._lengths:
            raise DemonstrationError(f"{self._path}: a demonstration set needs at least one episode")
        if self._held:
            self._write_shard()
        sizes = world.num_agents, world.obs_size, world.num_actions
        # Without masks the number of actions is unknown, and `_sizes` says 0.
        if self._sizes != (sizes if "action_mask" not in self._missing else (*sizes[:2], 0)):
            raise DemonstrationError(f"{self._path}: episodes have (N, O, A) {self._sizes}, but the world has {sizes}")
        manifest = Manifest(
            **world.model_dump(),
            policy=policy,
            episodes=len(self._lengths),
            env_steps=sum(self._lengths),
            win_rate=None if "battle_won" in self._missing else self._wins / len(self._lengths),
            return_mean=None if "rewards" in self._missing else float(np.mean(self._returns)),
            episode_length_mean=float(np.mean(self._lengths)),
            missing=self._missing,
            parts=list(parts),
            shards=self._shards,
        )
        try:
            manifest.write(self._temporary)
            os.rename(self._temporary, self._path)
        except OSError as error:
            raise DemonstrationError(f"{self._path} cannot be written: {error.strerror or error}") from None
        fsync_path(self._path.parent)
        return manifest

    def _write_shard(self) -> None:
        episodes, self._held, self._held_bytes = self._held, [], 0
        schema = shard_schema(*_sizes(episodes[0]), self._missing)
        table = to_table(episodes, self.num_episodes - len(episodes), schema)
        path = self._temporary / f"shard-{len(self._shards):05d}.parquet"
        try:
            pq.write_table(table, path, compression="zstd", row_group_size=len(table))
            fsync_path(path)
        except OSError as error:
            raise DemonstrationError(f"{self._path} cannot be written: {error.strerror or error}") from None
        self._shards.append(
            Shard(file=path.name, sha256=file_sha256(path), episodes=len(episodes), env_steps=len(table))
        )


def _sizes(episode: EpisodeRecord) -> tuple[int, int, int]:
    num_actions = 0 if episode.action_mask is None else episode.action_mask.shape[2]
    return episode.actions.shape[1], episode.observations.shape[2], num_actions
