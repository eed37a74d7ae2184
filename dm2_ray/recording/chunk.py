"""A chunk: consecutive battles of a recording that are played by one process, sent as bytes and stored as one file.

    SHA-256 of the rest | a Parquet file of the episodes kept, with everything else as JSON in its metadata

Reading a chunk that was cut short or altered raises an error, and the chunk is played again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from dm2_ray.demonstrations.episode_player import play_joint_episodes, recorded_world
from dm2_ray.demonstrations.joint_episode import JointEpisode
from dm2_ray.demonstrations.manifest import Filters, RecordedWorld
from dm2_ray.demonstrations.parquet_layout import shard_schema, to_episodes, to_table
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import TeamPolicy

CHUNK_BATTLES = 128
"""Battles per chunk; chunk c starts with battle c * CHUNK_BATTLES. Every chunk has its own stream of action noise, so
for a team that samples its actions this number is part of what a seed means."""

_METADATA = b"dm2-ray chunk"
_DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedChunk:
    """The results of a chunk's battles.

    Attributes:
        battles: Battles played, from the chunk's first one on.
        won: How many of the battles played were won.
        env_steps: Env steps of all battles played.
        best_return: Highest team return of all battles played.
        kept: Indices of the battles whose episodes were kept, 0 to battles - 1, increasing.
        world: Where the battles were played.
        episodes: The episodes kept, in the order of `kept`.
    """

    battles: int
    won: int
    env_steps: int
    best_return: float
    kept: Sequence[int]
    world: RecordedWorld
    episodes: Sequence[JointEpisode]

    @classmethod
    def play(
        cls, team: TeamPolicy, battles: BattleBackend, *, first_battle: int, num_battles: int, filters: Filters
    ) -> RecordedChunk:
        """Plays consecutive battles and keeps those that pass the filters.

        Args:
            team: Chooses the actions.
            battles: The battles to play; they are reset here.
            first_battle: Number of the first battle.
            num_battles: How many to play, at least 1.
            filters: Which battles are kept.
        """
        kept, episodes, won, env_steps, best = [], [], 0, 0, float("-inf")
        for index, episode in enumerate(play_joint_episodes(team, battles, num_battles, first_battle=first_battle)):
            won += episode.battle_won
            env_steps += episode.num_steps
            best = max(best, episode.team_return)
            if filters.accept(episode.team_return, episode.battle_won):
                kept.append(index)
                episodes.append(episode)
        return cls(
            battles=num_battles,
            won=won,
            env_steps=env_steps,
            best_return=best,
            kept=kept,
            world=recorded_world(battles),
            episodes=episodes,
        )

    def to_bytes(self) -> bytes:
        """Returns the chunk in the format described at the head of this file."""
        record = {
            "battles": self.battles,
            "won": self.won,
            "env_steps": self.env_steps,
            "best_return": self.best_return,
            "kept": list(self.kept),
            "world": self.world.model_dump(mode="json"),
        }
        schema = shard_schema(self.world.num_agents, self.world.obs_size, self.world.num_actions)
        table = to_table(self.episodes, 0, schema) if self.episodes else schema.empty_table()
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({_METADATA: json.dumps(record).encode()}), sink, compression="zstd"
        )
        content = sink.getvalue().to_pybytes()
        return hashlib.sha256(content).digest() + content

    @classmethod
    def from_bytes(cls, stored: bytes) -> RecordedChunk:
        """Returns the chunk that `to_bytes` wrote.

        Raises:
            ValueError: It was cut short or altered, or another version of this package wrote it.
        """
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("cut short or altered")
        try:
            table = pq.read_table(pa.BufferReader(content))
            record = json.loads(table.schema.metadata[_METADATA])
            world = RecordedWorld.model_validate(record.pop("world"))
            episodes = to_episodes(table, world.num_agents) if len(table) else []
            return cls(world=world, episodes=cast(Sequence[JointEpisode], episodes), **record)
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(f"written by another version: {error}") from error
