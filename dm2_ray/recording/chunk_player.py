"""Plays chunks of a recording; each is a pure function of (team, world, seed, filters, number of the chunk)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations.manifest import Filters
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies, load_policies
from dm2_ray.recording.chunk import CHUNK_BATTLES, RecordedChunk
from dm2_ray.recording.epsilon_greedy import EpsilonGreedy
from dm2_ray.world import ScriptedTeam
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.play_battles import TeamPolicy
from dm2_ray.zoo import open_team

BATTLES_AT_ONCE = 64
"""Battles side by side. The noise of a step is drawn for all of them together, so for a team that samples its actions
this number is part of what a seed means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingOrder:
    """What is recorded, except for how many episodes.

    Attributes:
        world: Where the team plays.
        checkpoint: Directory of the checkpoint or packed team that plays; None for a scripted team.
        script: Name of the scripted team, one of SCRIPTED_TEAMS; None for a checkpoint.
        greedy: Whether the team takes its most probable actions (checkpoints only).
        epsilon: Probability that an agent takes a random available action instead of the team's.
        seed: Seed of battles and actions.
        filters: Which battles are kept.
        max_games: Most games of StarCraft II that are started.
    """

    world: WorldSettings
    checkpoint: Path | None
    script: str | None
    greedy: bool
    seed: int
    epsilon: float = 0.0
    filters: Filters = Filters()
    max_games: int = BATTLES_AT_ONCE


class ChunkPlayer:
    """Holds a team and the battles that it plays.

    StarCraft II has its own randomness: there, a chunk that is played again contains different battles.

    Raises:
        CheckpointError, PackedTeamError: The team cannot be read.
        StarCraftError: StarCraft II is configured and not installed here.
    """

    def __init__(self, order: RecordingOrder) -> None:
        self._order = order
        columns = BATTLES_AT_ONCE
        if order.world.backend == "starcraft":
            columns = min(columns, order.max_games)
        self._battles = build_battles(order.world, columns, order.seed)
        self._policies: StackedPolicies | None = None
        self._team: TeamPolicy
        if order.checkpoint is None:
            assert order.script is not None
            self._team = ScriptedTeam(order.script, self._battles, seed=order.seed)
        else:
            self._team = self._policies = load_policies(open_team(order.checkpoint), greedy=order.greedy)
        if order.epsilon > 0.0:
            noise_seed = derive_seed(order.seed, StreamRole.RECORDING_ACTIONS)
            self._team = EpsilonGreedy(self._team, order.epsilon, noise_seed)

    def play(self, chunk: int, num_battles: int) -> bytes:
        """Plays the first `num_battles` battles of a chunk and returns `RecordedChunk.to_bytes`.

        A smaller number gives the same battles, only fewer of them.
        """
        if self._policies is not None:
            seed = derive_seed(self._order.seed, StreamRole.RECORDING_ACTIONS, chunk)
            self._policies.reset_states(self._battles, seed=seed)
        return RecordedChunk.play(
            self._team,
            self._battles,
            first_battle=chunk * CHUNK_BATTLES,
            num_battles=num_battles,
            filters=self._order.filters,
        ).to_bytes()

    def close(self) -> None:
        """Closes the battles, which ends the processes of StarCraft II."""
        self._battles.close()
