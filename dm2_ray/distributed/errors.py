"""What can be lost in a distributed run and cannot be brought back by the code that notices the loss."""

from __future__ import annotations

from dm2_ray.errors import RunFailed


class RolloutDataLost(RuntimeError):
    """A rollout's data were lost with their node before a learner had read them; play the same tasks again."""


class RolloutWorkersLost(RunFailed, RuntimeError):
    """All rollout workers are lost and none came back in time."""


class LearnerLost(RunFailed, RuntimeError):
    """An agent's learner died and could not be brought back."""


class LearnerNotReady(RuntimeError):
    """A learner was asked to train before it was given a state, or with a state of another iteration."""


class UpdateResultLost(RuntimeError):
    """An update was completed, but its result was lost with its node."""


class ExpertsLost(RunFailed, RuntimeError):
    """A demonstration server, or data that only it held, is lost for good."""
