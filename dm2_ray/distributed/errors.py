"""What can be lost in a distributed run, and cannot be done again where it was noticed."""

from __future__ import annotations


class RolloutDataLost(RuntimeError):
    """A rollout's data died with its node before a learner had read them; play the same tasks again."""
