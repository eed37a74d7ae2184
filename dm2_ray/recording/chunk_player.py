"""Plays chunks of a recording: each a pure function of (team, world, seed, filters, number of the chunk)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dm2_ray.checkpoints import open_checkpoint
from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations.manifest import Filters
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies, load_policies
from dm2_ray.recording.chunk import CHUNK_BATTLES, RecordedChunk
from dm2_ray.world import ScriptedTeam
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.play_battles import TeamPolicy

BATTLES_AT_ONCE = 64
"""Part of what a seed means for a team that draws its actions: the noise of a step is drawn for all columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingOrder:
    """What is recorded, but for how much of it."""

    world: WorldSettings
    checkpoint: Path | None
    """Whose team plays; None where a script does."""
    script: str | None
    """One of SCRIPTED_TEAMS, or None."""
    greedy: bool
    seed: int
    filters: Filters = Filters()
    games_at_once: int = BATTLES_AT_ONCE
    """Most games of StarCraft II that are worth starting."""


class ChunkPlayer:
    """Holds a team and the battles that it plays.

    Over StarCraft II, which has randomness of its own, a chunk that is played again holds other battles.
    """

    def __init__(self, order: RecordingOrder) -> None:
        """
        Raises:
            CheckpointError: the team cannot be read.
            StarCraftError: the game is asked for and not installed here.
        """
        self._order = order
        columns = BATTLES_AT_ONCE
        if order.world.backend == "starcraft":
            columns = min(columns, order.games_at_once)
        self._battles = build_battles(order.world, columns, order.seed)
        self._team: TeamPolicy
        if order.checkpoint is None:
            assert order.script is not None
            self._team = ScriptedTeam(order.script, self._battles, seed=order.seed)
        else:
            self._team = load_policies(open_checkpoint(order.checkpoint), greedy=order.greedy)

    def play(self, chunk: int, num_battles: int) -> bytes:
        """The first `num_battles` battles of a chunk, as `RecordedChunk.to_bytes`; those of fewer are the same."""
        if isinstance(self._team, StackedPolicies):
            self._team.reset_states(
                self._battles, seed=derive_seed(self._order.seed, StreamRole.RECORDING_ACTIONS, chunk)
            )
        return RecordedChunk.play(
            self._team,
            self._battles,
            first_battle=chunk * CHUNK_BATTLES,
            num_battles=num_battles,
            filters=self._order.filters,
        ).to_bytes()

    def close(self) -> None:
        """Ends the battles: games are processes of their own."""
        self._battles.close()
