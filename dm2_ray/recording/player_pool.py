"""Hands the chunks of a recording to processes, or plays them in this one.

A chunk that is lost with its process is played again: it comes out the same.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import ray

from dm2_ray.distributed.errors import RolloutWorkersLost
from dm2_ray.recording.chunk_player import ChunkPlayer, RecordingOrder

MAX_RESTARTS = 5
"""Of a process: what ends it more often is not bad luck."""
_CHUNKS_PER_PROCESS = 2  # one that is played, and one that it goes on with


class RecordingPool:
    """Players of chunks: `workers` processes, or this one where that is 0."""

    def __init__(self, order: RecordingOrder, workers: int) -> None:
        self._order = order
        self._local: ChunkPlayer | None = None
        self._waiting: deque[tuple[int, int]] = deque()
        # A player holds nothing that a chunk changes: Ray may restart its process and repeat the call.
        remote = ray.remote(_PlayerProcess).options(max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS)
        self.processes: list[Any] = [remote.remote(order) for _ in range(workers)]
        """Handles of the processes."""
        self._busy: dict[Any, tuple[int, Any]] = {}

    @property
    def capacity(self) -> int:
        """Chunks that are worth handing over at once."""
        return max(1, _CHUNKS_PER_PROCESS * len(self.processes))

    @property
    def num_submitted(self) -> int:
        """Chunks handed over and not taken back yet."""
        return len(self._waiting) + len(self._busy)

    def submit(self, chunk: int, num_battles: int) -> None:
        """Hands a chunk over."""
        if not self.processes:
            self._waiting.append((chunk, num_battles))
            return
        load = {process: 0 for process in self.processes}
        for _, process in self._busy.values():
            load[process] += 1
        idlest = min(self.processes, key=lambda process: load[process])
        self._busy[idlest.play.remote(chunk, num_battles)] = chunk, idlest

    def take(self) -> tuple[int, bytes]:
        """Waits for a chunk that was handed over, any; returns its number and its bytes.

        Raises:
            RolloutWorkersLost: a process ended again and again.
            CheckpointError, StarCraftError: the team or the game cannot be used where it is played.
        """
        if not self.processes:
            chunk, num_battles = self._waiting.popleft()
            self._local = self._local or ChunkPlayer(self._order)
            return chunk, self._local.play(chunk, num_battles)
        (ready, *_), _ = ray.wait(list(self._busy), num_returns=1)
        chunk, _ = self._busy.pop(ready)
        try:
            return chunk, ray.get(ready)
        except ray.exceptions.RayActorError as lost:
            raise RolloutWorkersLost(
                f"a recording process ended more than {MAX_RESTARTS} times ({type(lost).__name__}); is there enough "
                "memory? try fewer --workers"
            ) from lost
        except ray.exceptions.RayTaskError as failed:
            # What it says in one line, the process's traceback says in thirty.
            raise failed.cause from failed

    def close(self) -> None:
        """Ends players and processes."""
        if self._local is not None:
            self._local.close()
        if ray.is_initialized():
            for process in self.processes:
                ray.kill(process)
        self.processes = []


class _PlayerProcess:
    def __init__(self, order: RecordingOrder) -> None:
        self._order = order
        self._player: ChunkPlayer | None = None

    def play(self, chunk: int, num_battles: int) -> bytes:
        # Not built before it is needed: what goes wrong there is then this call's error.
        self._player = self._player or ChunkPlayer(self._order)
        return self._player.play(chunk, num_battles)
