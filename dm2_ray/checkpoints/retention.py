"""Which checkpoints of a run are kept: the newest ones, and those with the best evaluations."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from dm2_ray.checkpoints.checkpoint import (
    MANIFEST,
    PREFIX,
    Checkpoint,
    best_checkpoints,
    checkpoint_directories,
    read_manifest,
)


def prunable_checkpoints(checkpoints: Sequence[Checkpoint], *, keep: int, keep_best: int) -> list[Checkpoint]:
    """Those that are neither among the newest `keep` nor among the `keep_best` with the highest win rates.

    With `keep` 0 all are kept. In a tie, the earlier checkpoint counts as the better one.
    """
    if keep == 0:
        return []
    by_age = sorted(checkpoints, key=lambda entry: entry.iteration)
    kept = {entry.iteration for entry in [*by_age[-keep:], *best_checkpoints(by_age)[:keep_best]]}
    return [entry for entry in by_age if entry.iteration not in kept]


def prune_checkpoints(
    root: Path, newest: Checkpoint, *, keep: int, keep_best: int, spared: Collection[str] = ()
) -> None:
    """Removes the checkpoints that need not be kept beside `newest`, which must have been verified.

    Checkpoints later than `newest` are left alone: they are damaged ones that a resumed run skipped and will replace.
    Earlier ones with an unreadable manifest are removed once all those kept are newer.

    Args:
        root: Directory of all checkpoints of the run.
        newest: The checkpoint just saved.
        keep: Number of newest checkpoints to keep; 0 keeps all.
        keep_best: Number of checkpoints with the best evaluations to keep as well.
        spared: Names of directories that must not be removed yet.

    Raises:
        OSError: A directory cannot be removed.
    """
    if keep == 0:
        return
    earlier = [path for path in checkpoint_directories(root) if path.name <= newest.path.name]
    manifests = {path: read_manifest(path) for path in earlier}
    readable = [entry for entry in manifests.values() if entry is not None]
    prunable = {entry.path for entry in prunable_checkpoints(readable, keep=keep, keep_best=keep_best)}
    oldest_kept = min(entry.iteration for entry in readable if entry.path not in prunable)
    for path, entry in manifests.items():
        is_unreadable_and_old = entry is None and path.name < f"{PREFIX}{oldest_kept:06d}"
        if (path in prunable or is_unreadable_and_old) and path.name not in spared:
            # The manifest goes first: a half-removed directory must not look like a checkpoint.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
