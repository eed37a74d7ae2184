"""Consecutive battles of a recording as one unit: played somewhere, sent as bytes, kept until the set is whole.

    SHA-256 of the rest | a Parquet file of the episodes kept, with everything else as JSON in its metadata

Whoever reads one that was cut short or altered is told so, and the chunk is played again.
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
"""Battles of a chunk; chunk c begins with battle c * CHUNK_BATTLES. Part of what a seed means for a team that draws
its actions: a chunk has a stream of action noise of its own."""

_METADATA = b"dm2-ray chunk"
_DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedChunk:
    """What came of some battles."""

    battles: int
    """Played, from the chunk's first one on."""
    won: int
    """Of all that were played, as the two below."""
    env_steps: int
    best_return: float
    kept: Sequence[int]
    """Places of the battles whose episodes were kept, 0 to battles - 1, rising."""
    world: RecordedWorld
    episodes: Sequence[JointEpisode]
    """Those kept, in the same order."""

    @classmethod
    def play(
        cls, team: TeamPolicy, battles: BattleBackend, *, first_battle: int, num_battles: int, filters: Filters
    ) -> RecordedChunk:
        """Plays the battles numbered from `first_battle` and keeps those that pass the filters.

        Args:
            team: chooses the actions.
            battles: are begun anew here.
            first_battle: number of the first one.
            num_battles: how many, at least 1.
            filters: what is kept.
        """
        kept, episodes, won, env_steps, best = [], [], 0, 0, float("-inf")
        for place, episode in enumerate(play_joint_episodes(team, battles, num_battles, first_battle=first_battle)):
            won += episode.battle_won
            env_steps += episode.num_steps
            best = max(best, episode.team_return)
            if filters.accept(episode.team_return, episode.battle_won):
                kept.append(place)
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
        """The chunk in the form of the head of this file."""
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
        """What `to_bytes` made.

        Raises:
            ValueError: it was cut short or altered, or another version of this package made it.
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
            raise ValueError(f"made by another version: {error}") from error
