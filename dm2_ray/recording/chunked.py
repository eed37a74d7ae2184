"""Records chunk by chunk: decides which chunk is played next and when there are enough, and makes a set from them.

    chunk 0 1 2 3 | 4 5 6
      complete ───┘ some done, some running

Only the chunks before the first unfinished one are counted; later ones that finish early wait. So the result does not
depend on which process was faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dm2_ray.demonstrations import DemonstrationError, Filters, JointTrajectoryWriter, Manifest, Provenance
from dm2_ray.recording.chunk import CHUNK_BATTLES, RecordedChunk
from dm2_ray.recording.player_pool import RecordingPool
from dm2_ray.recording.progress import RecordingProgress, RecordingState
from dm2_ray.recording.resumable_parts import ResumableParts


@dataclass(frozen=True, slots=True)
class _Tally:
    """Numbers of one or more chunks, whose episodes are on disk only."""

    kept: int = 0
    played: int = 0
    won: int = 0
    env_steps: int = 0
    best_return: float = float("-inf")

    @classmethod
    def from_chunk(cls, chunk: RecordedChunk) -> _Tally:
        return cls(len(chunk.kept), chunk.battles, chunk.won, chunk.env_steps, chunk.best_return)

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.kept + other.kept,
            self.played + other.played,
            self.won + other.won,
            self.env_steps + other.env_steps,
            max(self.best_return, other.best_return),
        )


class ChunkedRecording:
    """Collects chunks until `episodes` episodes have passed the filters.

    Args:
        parts: The chunks on disk, including those of an earlier attempt.
        filters: Which battles are kept; the chunks in `parts` were played with the same filters.
        episodes: How many episodes the set will have.
        give_up_after: B: the recording gives up when, after B battles or more, fewer than one in B was kept.
    """

    def __init__(self, parts: ResumableParts, filters: Filters, episodes: int, give_up_after: int) -> None:
        self._parts = parts
        self._filters = filters
        self._episodes = episodes
        self._give_up_after = give_up_after
        self._tallies: dict[int, _Tally] = {}
        self._complete = 0
        self._counted = _Tally()  # of the first `_complete` chunks
        for chunk in parts.chunks():
            found = parts.read(chunk)
            if found is not None and found.battles >= self._needed(chunk):
                self._tallies[chunk] = _Tally.from_chunk(found)
        self._advance()

    @property
    def is_complete(self) -> bool:
        """Whether there are enough episodes."""
        return self._counted.kept >= self._episodes

    def play(self, pool: RecordingPool, progress: RecordingProgress | None = None) -> None:
        """Lets the pool play chunks until there are enough episodes.

        Raises:
            DemonstrationError: Too few battles pass the filters, or a chunk cannot be written.
            CheckpointError, StarCraftError, RolloutWorkersLost: See `RecordingPool.take`.
        """
        self._show(progress)
        chunk = 0
        while not self.is_complete:
            while pool.num_submitted < pool.capacity and self._needed(chunk) > 0:
                if chunk not in self._tallies:
                    pool.submit(chunk, self._needed(chunk))
                chunk += 1
            number, content = pool.take()
            self._parts.store(number, content)
            self._tallies[number] = _Tally.from_chunk(RecordedChunk.from_bytes(content))
            self._advance()
            self._show(progress)

    def assemble(self, out: Path, provenance: Provenance) -> Manifest:
        """Makes the set from the first episodes that passed the filters, and removes the chunks.

        Raises:
            DemonstrationError: A chunk has disappeared, chunks are of different worlds, or the set cannot be written.
        """
        world, battles_played = None, 0
        with JointTrajectoryWriter(out, temporary=self._parts.empty_assembly_directory()) as writer:
            for number in range(self._complete):
                chunk = self._parts.read(number)
                if chunk is None:
                    raise DemonstrationError(f"{self._parts.directory} was changed by another process: record again")
                world = world or chunk.world
                if chunk.world != world:
                    raise DemonstrationError(
                        f"{self._parts.directory} holds battles of two worlds (engine versions "
                        f"{world.engine_version} and {chunk.world.engine_version}): remove it and record again"
                    )
                for index, episode in zip(chunk.kept, chunk.episodes, strict=True):
                    if writer.num_episodes < self._episodes:
                        writer.append(episode)
                        battles_played = number * CHUNK_BATTLES + index + 1
            assert world is not None
            manifest = writer.finish(world, provenance.model_copy(update={"battles_played": battles_played}))
        self._parts.remove()
        return manifest

    def _needed(self, chunk: int) -> int:
        """Returns how many battles of a chunk may be needed; without filters, the last chunk needs fewer."""
        if self._filters != Filters():
            return CHUNK_BATTLES
        return min(CHUNK_BATTLES, self._episodes - chunk * CHUNK_BATTLES)

    def _advance(self) -> None:
        """Counts the chunks before the first unfinished one. After each of them there may be enough episodes, or it may
        be time to give up."""
        while not self.is_complete and self._complete in self._tallies:
            self._counted += self._tallies[self._complete]
            self._complete += 1
            self._check_give_up(self._counted)

    def _check_give_up(self, counted: _Tally) -> None:
        if self.is_complete or (counted.kept + 1) * self._give_up_after > counted.played:
            return
        self._parts.remove()
        raise DemonstrationError(
            f"gave up after {counted.played:,} battles, of which {counted.kept} passed ({self._filters}), a share of "
            f"{counted.kept / counted.played:.2g}: the team won {counted.won / counted.played:.3f} of them, its best "
            f"return was {counted.best_return:.2f}; use a better team, weaker filters, or a higher --give-up-after"
        )

    def _show(self, progress: RecordingProgress | None) -> None:
        if progress is None:
            return
        progress.update(
            RecordingState(
                episodes=min(self._episodes, self._counted.kept),
                wanted=self._episodes,
                played=self._counted.played,
                won=self._counted.won,
                env_steps=self._counted.env_steps,
            )
        )
