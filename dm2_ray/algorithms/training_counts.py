"""Counts of the data that a team has been trained on."""

from __future__ import annotations


class TrainingCounts:
    """Base of DM2 and MAPPO: how much they have been trained on, all iterations of a run together."""

    _env_steps = 0
    _episodes = 0

    @property
    def env_steps(self) -> int:
        """Env steps trained on so far."""
        return self._env_steps

    @property
    def episodes(self) -> int:
        """Battles trained on so far."""
        return self._episodes
