"""A run's complete states: their format, how they are written, which are kept, and copies of them elsewhere."""

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

__all__ = [
    "MANIFEST",
    "Checkpoint",
    "CheckpointError",
    "has_checkpoints",
    "intact_checkpoints",
    "open_checkpoint",
    "prune_checkpoints",
    "restored_learning_state",
    "save_checkpoint",
]
