"""Plays the chunks of a recording in other processes, or in this one.

A chunk that is lost with its process is played again, with the same result.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import ray

from dm2_ray.distributed.errors import RolloutWorkersLost
from dm2_ray.recording.chunk_player import ChunkPlayer, RecordingOrder

MAX_RESTARTS = 5
"""Restarts of one process; if it ends more often, chance is not the reason."""
_CHUNKS_PER_PROCESS = 2  # one is played, and the next one is ready


class RecordingPool:
    """Players of chunks.

    Args:
        order: What is recorded.
        workers: Number of processes that play; with 0 this process does.

    Attributes:
        processes: Handles of the processes.
    """

    def __init__(self, order: RecordingOrder, workers: int) -> None:
        self._order = order
        self._local: ChunkPlayer | None = None
        self._waiting: deque[tuple[int, int]] = deque()
        # Playing a chunk does not depend on earlier calls, so Ray may restart a process and repeat its call.
        remote = ray.remote(_PlayerProcess).options(max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS)
        self.processes: list[Any] = [remote.remote(order) for _ in range(workers)]
        self._busy: dict[Any, tuple[int, Any]] = {}

    @property
    def capacity(self) -> int:
        """Number of submitted chunks that keeps all players busy."""
        return max(1, _CHUNKS_PER_PROCESS * len(self.processes))

    @property
    def num_submitted(self) -> int:
        """Number of chunks submitted and not taken yet."""
        return len(self._waiting) + len(self._busy)

    def submit(self, chunk: int, num_battles: int) -> None:
        """Submits the first `num_battles` battles of a chunk to the least busy process."""
        if not self.processes:
            self._waiting.append((chunk, num_battles))
            return
        load = {process: 0 for process in self.processes}
        for _, process in self._busy.values():
            load[process] += 1
        idlest = min(self.processes, key=lambda process: load[process])
        self._busy[idlest.play.remote(chunk, num_battles)] = chunk, idlest

    def take(self) -> tuple[int, bytes]:
        """Waits for any submitted chunk; returns its number and its bytes.

        Raises:
            RolloutWorkersLost: A process ended more than MAX_RESTARTS times.
            CheckpointError, StarCraftError: The team or StarCraft II cannot be used where it is needed.
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
            # The cause says in one line what Ray's error says in thirty.
            raise failed.cause from failed

    def close(self) -> None:
        """Closes the player of this process and ends the other processes."""
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
        # Built in the first call, so that its errors are raised by that call.
        self._player = self._player or ChunkPlayer(self._order)
        return self._player.play(chunk, num_battles)
