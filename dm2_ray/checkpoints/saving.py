"""Writes a checkpoint atomically, and reads it back from the disk before anything relies on it.

    serialize ─► hash ─► temporary sibling ─► fsync ─► read back, compare ─► rename into place

Killing the process between any two steps leaves the earlier checkpoints as they were.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dm2_ray.checkpoints.checkpoint import (
    EXPERIMENT_FILE,
    MANIFEST,
    PREFIX,
    Checkpoint,
    CheckpointError,
    agent_file,
    expert_file,
    verify_checkpoint,
)
from dm2_ray.config.documents import write_yaml
from dm2_ray.config.schema import Experiment
from dm2_ray.files import fsync_path, write_atomically


def save_checkpoint(
    root: Path,
    experiment: Experiment,
    learning_state: Mapping[str, Any],
    *,
    sizes: tuple[int, int, int],
    win_rate: float | None,
    fence: Callable[[], None] = lambda: None,
) -> Checkpoint:
    """Writes a checkpoint under a temporary name, flushes it to the disk, reads it back, and renames it.

    Args:
        root: Directory of all checkpoints of the run.
        experiment: The run's configuration.
        learning_state: The algorithm's `learning_state()`.
        sizes: Number of agents, observation size, number of actions.
        win_rate: Of these agents in an evaluation, if there was one.
        fence: Called before the first write and before the rename; raises if another process has taken over the run.

    Raises:
        OSError: The disk is full or not writable; earlier checkpoints are untouched.
        CheckpointError: The bytes read back differ from those written; earlier checkpoints are untouched.
    """
    fence()
    iteration = min(int(state["version"]) for state in learning_state["agents"].values())
    root.mkdir(parents=True, exist_ok=True)
    _clean(root)
    final = root / f"{PREFIX}{iteration:06d}"
    temporary = root / f".tmp-{iteration:06d}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        write_yaml(experiment, temporary / EXPERIMENT_FILE)
        hashes = {EXPERIMENT_FILE: hashlib.sha256((temporary / EXPERIMENT_FILE).read_bytes()).hexdigest()}
        for name, content in _files(learning_state):
            # Hash the bytes in memory: damage on the way to the disk then shows when the file is read back.
            hashes[name] = hashlib.sha256(content).hexdigest()
            _write(temporary / name, content)
        checkpoint = Checkpoint(
            path=final,
            iteration=iteration,
            env_steps=int(learning_state["env_steps"]),
            episodes=int(learning_state["episodes"]),
            map=experiment.world.map,
            variant=experiment.variant,
            num_agents=sizes[0],
            obs_size=sizes[1],
            num_actions=sizes[2],
            win_rate=win_rate,
            sha256=dict(sorted(hashes.items())),
        )
        _write(temporary / MANIFEST, checkpoint.manifest())
        fsync_path(temporary)
        _read_back(temporary, checkpoint)
        fence()
        # A resumed run that repeats this iteration finds its earlier checkpoint, which stays until it is replaced.
        replaced = root / f".old-{final.name}"
        if final.exists():
            os.rename(final, replaced)
        os.rename(temporary, final)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_path(root)
    return checkpoint


def note_win_rate(checkpoint: Checkpoint, win_rate: float) -> None:
    """Adds the win rate of a later evaluation to a saved checkpoint.

    Raises:
        OSError: The disk is full or not writable; the manifest is left unchanged.
    """
    write_atomically(checkpoint.path / MANIFEST, replace(checkpoint, win_rate=win_rate).manifest())


def _clean(root: Path) -> None:
    """Removes what was left behind by a process that was killed while saving."""
    for unfinished in root.glob(".tmp-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for replaced in root.glob(".old-*"):
        final = root / replaced.name.removeprefix(".old-")
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            os.rename(replaced, final)


def _files(learning_state: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for index, state in enumerate(learning_state["agents"].values()):
        yield agent_file(index), _serialized(state)
    for index, state in enumerate(learning_state.get("experts", {}).values()):
        yield expert_file(index), _serialized(state)


def _serialized(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(as_tensors(state), buffer)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_back(temporary: Path, checkpoint: Checkpoint) -> None:
    for path in temporary.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            # Otherwise the kernel would serve the read from its cache, even if the write to the disk had failed.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    found = verify_checkpoint(temporary)
    if found.manifest() != checkpoint.manifest():
        raise CheckpointError(f"{temporary}: the manifest read back differs from the one written")


def as_tensors(value: Any) -> Any:
    """Returns a deep copy with tensors instead of arrays, and lists instead of tuples."""
    if isinstance(value, Mapping):
        return {key: as_tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_tensors(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(np.array(value))
    return value
