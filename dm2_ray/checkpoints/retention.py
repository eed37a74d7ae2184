"""Which checkpoints of a run are kept: the newest ones, and those of the best evaluations besides."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from dm2_ray.checkpoints.checkpoint import MANIFEST, PREFIX, Checkpoint, directories, rank, read_manifest


def prunable_checkpoints(checkpoints: Sequence[Checkpoint], *, keep: int, keep_best: int) -> list[Checkpoint]:
    """Those neither among the newest `keep` (0: all are) nor among the `keep_best` of the highest win rates.

    Of equally good ones the earlier counts as better.
    """
    if keep == 0:
        return []
    by_age = sorted(checkpoints, key=lambda entry: entry.iteration)
    evaluated = sorted((entry for entry in by_age if entry.win_rate is not None), key=rank)
    kept = {entry.iteration for entry in [*by_age[-keep:], *evaluated[:keep_best]]}
    return [entry for entry in by_age if entry.iteration not in kept]


def prune_checkpoints(
    root: Path, newest: Checkpoint, *, keep: int, keep_best: int, spared: Collection[str] = ()
) -> None:
    """Removes what need not be kept beside `newest`, which must have been verified.

    Later ones than `newest` are left alone: they are damaged ones that a resumed run passed over, and is about to
    replace. Earlier ones whose manifest cannot be read go with the superfluous ones.

    Args:
        spared: Names of directories that stay for now.

    Raises:
        OSError: One cannot be removed.
    """
    if keep == 0:
        return
    earlier = [path for path in directories(root) if path.name <= newest.path.name]
    manifests = {path: read_manifest(path) for path in earlier}
    readable = [entry for entry in manifests.values() if entry is not None]
    goes = {entry.path for entry in prunable_checkpoints(readable, keep=keep, keep_best=keep_best)}
    oldest_kept = min(entry.iteration for entry in readable if entry.path not in goes)
    for path, entry in manifests.items():
        unreadable_and_old = entry is None and path.name < f"{PREFIX}{oldest_kept:06d}"
        if (path in goes or unreadable_and_old) and path.name not in spared:
            # First, so that one that is half removed is never taken for a checkpoint.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
