"""The data of an update that diverged, saved for inspection.

DIR/
  reason.txt          agent, iteration, which value is not finite
  demonstration.npz   the agent's slice of the iteration's joint draw, where there was one
  trajectory_0.npz …  the agent's part of the iteration's rollouts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.files import write_atomically
from dm2_ray.learning.gradients import LearningDiverged


class UpdateDiverged(LearningDiverged):
    """An agent's update was stopped at a NaN or an infinity; the learner's state is the one before it.

    Args:
        reason: What is not finite, in one line.
        agent: The agent.
        iteration: Number of the update.
        data: What it learned from: the demonstration or None, then the trajectories (or references to them).
    """

    def __init__(self, reason: str, agent: str = "", iteration: int = 0, data: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.agent = agent
        self.iteration = iteration
        self._data = list(data)

    @classmethod
    def from_update(cls, error: LearningDiverged, agent: str, iteration: int, data: Sequence[Any]) -> UpdateDiverged:
        """The same error together with the data of its update."""
        return cls(str(error), agent, iteration, data)

    def write(self, root: Path) -> Path:
        """Writes the update's data below `root` while Ray still runs; returns their directory.

        Raises:
            OSError: Writing fails.
            ray.exceptions.RayError: The data were lost with their node.
        """
        directory = root / f"iteration_{self.iteration:06d}_{self.agent}"
        demonstration, *trajectories = map(get_if_ref, self._data)
        if demonstration is not None:
            write_atomically(directory / "demonstration.npz", _packed(demonstration))
        for index, trajectory in enumerate(trajectories):
            write_atomically(directory / f"trajectory_{index}.npz", _packed(trajectory))
        write_atomically(directory / "reason.txt", f"{self.agent}, iteration {self.iteration}: {self}\n".encode())
        return directory


def _packed(record: Any) -> bytes:
    """A dataclass of arrays and numbers as an .npz file."""
    content = BytesIO()
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in values.items() if value is not None}
    np.savez_compressed(content, **arrays)
    return content.getvalue()
