"""Checkpoints, the complete states of a run.

checkpoint.py     the format, and reading it without trusting it (start here)
trained_team.py   what checkpoints and the packed teams of the zoo have in common
saving.py         writing a checkpoint atomically, with verification
retention.py      which checkpoints are kept
remote_copy.py    copies on another file system (S3, Google Cloud Storage, a shared directory)
"""

from __future__ import annotations

from dm2_ray.checkpoints.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    has_checkpoints,
    intact_checkpoints,
    open_checkpoint,
    restored_learning_state,
)
from dm2_ray.checkpoints.retention import prune_checkpoints
from dm2_ray.checkpoints.saving import save_checkpoint
from dm2_ray.checkpoints.trained_team import TrainedTeam, actor_weights

__all__ = [
    "MANIFEST",
    "Checkpoint",
    "CheckpointError",
    "TrainedTeam",
    "actor_weights",
    "has_checkpoints",
    "intact_checkpoints",
    "open_checkpoint",
    "prune_checkpoints",
    "restored_learning_state",
    "save_checkpoint",
]
