"""The rows that an agent visited in its last iterations, so that the discriminator does not forget them.

Shapes: K iterations kept, P stored rows of all of them, F features of a row (see visitation.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dm2_ray.learning.visitation import VisitedRows

ROWS, COUNTS = "replay_rows", "replay_counts"


class VisitationBuffer:
    """An agent's own visitations of the last `iterations` iterations; with 0 it stores nothing.

    The discriminator's minibatches of the agent's side are drawn from these and the current visitation together;
    every row counts the same, regardless of its iteration. Rewards are computed for the current visitation only.
    """

    def __init__(self, iterations: int) -> None:
        self._kept: deque[VisitedRows] = deque(maxlen=iterations)

    def with_current(self, own: VisitedRows) -> VisitedRows:
        """The stored visitations and the current one as one visitation."""
        return VisitedRows.concatenate([*self._kept, own])

    def append(self, own: VisitedRows) -> None:
        """Stores the current visitation for later iterations and drops the oldest one when the buffer is full."""
        self._kept.append(own)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of the state, for a snapshot: rows [P, F], padding rows among them, and counts [K, 4] int64 (stored
        rows, real rows, rows, episodes), oldest first. Empty when nothing is stored."""
        if not self._kept:
            return {}
        counts = [(len(v.rows), v.num_real, v.num_rows, v.num_episodes) for v in self._kept]
        return {
            ROWS: torch.cat([visited.rows for visited in self._kept]).cpu().numpy(),
            COUNTS: np.array(counts, dtype=np.int64),
        }

    def load_arrays(self, arrays: Mapping[str, Any], device: torch.device | str | None = None) -> None:
        """Restores the state from `to_arrays`, which may be mixed with other arrays; empty if it is absent."""
        self._kept.clear()
        if ROWS not in arrays:
            return
        counts = np.asarray(arrays[COUNTS]).tolist()
        parts = torch.from_numpy(np.array(arrays[ROWS])).to(device).split([stored for stored, *_ in counts])
        for rows, (_, num_real, num_rows, num_episodes) in zip(parts, counts, strict=True):
            self._kept.append(VisitedRows(rows=rows, num_real=num_real, num_rows=num_rows, num_episodes=num_episodes))
