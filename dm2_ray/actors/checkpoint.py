"""A run's complete state in a directory: written whole or not at all, read without trusting it.

    checkpoints/iteration_000120/
      manifest.json      format, world, sizes, policy settings, counters, sha256 of every other file
      experiment.yaml    the resolved configuration
      agent_0.pt …       one file per agent: policy, critic, normaliser, discriminator, optimisers
      experts_0.pt …     with self-imitation, one file per agent: its slices of the best battles so far

These files hold tensors, numbers and strings only and are read with `weights_only=True`: a checkpoint from a stranger
can be wrong but cannot run code. Only the driver writes checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dm2_ray.atomic_file import synchronise
from dm2_ray.config import Experiment
from dm2_ray.config_files import load_experiment, write_yaml
from dm2_ray.demonstrations.manifest import file_sha256

FORMAT = "dm2-ray-checkpoint-1"
MANIFEST = "manifest.json"
EXPERIMENT_FILE = "experiment.yaml"
PREFIX = "iteration_"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or belongs to something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a checkpoint's manifest says."""

    path: Path
    iteration: int
    env_steps: int
    episodes: int
    map: str
    variant: str
    num_agents: int
    obs_size: int
    num_actions: int
    win_rate: float | None
    """Of the last evaluation, if there was one."""
    sha256: Mapping[str, str]
    """Of every file beside the manifest."""

    @property
    def digest(self) -> str:
        """One hash that stands for all files; goes into the provenance of demonstrations."""
        return hashlib.sha256(json.dumps(dict(self.sha256), sort_keys=True).encode()).hexdigest()

    def experiment(self) -> Experiment:
        """The configuration that the checkpoint was trained with."""
        return load_experiment(self.path / EXPERIMENT_FILE)

    def agent_state(self, index: int) -> dict[str, Any]:
        """An agent's complete state: tensors, numbers and strings in dicts and lists.

        Raises:
            CheckpointError: The file is not what was saved.
        """
        return _loaded(self.path / agent_file(index))

    def expert_state(self) -> dict[str, dict[str, Any]] | None:
        """Per agent, the state of where its demonstrations come from, as tensors and numbers; None if there is none.

        Raises:
            CheckpointError: A file is not what was saved.
        """
        if expert_file(0) not in self.sha256:
            return None
        return {f"agent_{index}": _loaded(self.path / expert_file(index)) for index in range(self.num_agents)}


def agent_file(index: int) -> str:
    return f"agent_{index}.pt"


def expert_file(index: int) -> str:
    return f"experts_{index}.pt"


def save_checkpoint(
    root: Path,
    experiment: Experiment,
    learning_state: Mapping[str, Any],
    *,
    sizes: tuple[int, int, int],
    win_rate: float | None,
    keep: int = 0,
) -> Checkpoint:
    """Writes a checkpoint beside its final place, flushes it to the disk, and renames it.

    Args:
        root: Directory of all checkpoints of the run.
        experiment: The run's configuration.
        learning_state: `DM2.learning_state()`.
        sizes: Agents, observation size, actions.
        win_rate: Of the last evaluation, if there was one.
        keep: Older checkpoints beyond the newest `keep` are removed afterwards; 0 keeps all.

    Raises:
        OSError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    agents = learning_state["agents"]
    iteration = min(int(state["version"]) for state in agents.values())
    root.mkdir(parents=True, exist_ok=True)
    for left_over in root.glob(".tmp-*"):  # of a process that was killed while it saved
        shutil.rmtree(left_over)
    final = root / f"{PREFIX}{iteration:06d}"
    temporary = root / f".tmp-{iteration:06d}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        write_yaml(experiment, temporary / EXPERIMENT_FILE)
        for index, state in enumerate(agents.values()):
            torch.save(_as_tensors(state), temporary / agent_file(index))
        for index, state in enumerate(learning_state.get("experts", {}).values()):
            torch.save(_as_tensors(state), temporary / expert_file(index))
        hashes = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
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
            sha256=hashes,
        )
        record = {"format": FORMAT, **{k: v for k, v in asdict(checkpoint).items() if k != "path"}}
        (temporary / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
        for path in [*temporary.iterdir(), temporary]:
            synchronise(path)
        # One of the same iteration is there when a resumed run has come this far again; it stays until it is replaced.
        replaced = root / f".old-{final.name}"
        if final.exists():
            os.rename(final, replaced)
        os.rename(temporary, final)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    synchronise(root)
    if keep:
        for old in _directories(root)[:-keep]:
            shutil.rmtree(old)
    return checkpoint


def open_checkpoint(path: Path) -> Checkpoint:
    """Reads a manifest and verifies every file's hash.

    Args:
        path: A checkpoint, or a run directory or its `checkpoints/` (then the newest intact one is meant).

    Raises:
        CheckpointError: One line that says what is wrong.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if (path / MANIFEST).is_file():
        return _open(path)
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    problems = []
    for candidate in reversed(_directories(root)):
        try:
            return _open(candidate)
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError(problems[0] if problems else f"{path}: holds no checkpoint (no {PREFIX}* directory)")


def intact_checkpoints(root: Path) -> list[Checkpoint]:
    """All intact checkpoints below `root`, oldest first; damaged ones are left out."""
    found = []
    for path in _directories(root):
        try:
            found.append(_open(path))
        except CheckpointError:
            continue
    return found


def restored_learning_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `DM2.restore_learning_state` wants."""
    agents = {f"agent_{index}": checkpoint.agent_state(index) for index in range(checkpoint.num_agents)}
    state = {"env_steps": checkpoint.env_steps, "episodes": checkpoint.episodes, "agents": agents}
    experts = checkpoint.expert_state()
    return state if experts is None else {**state, "experts": experts}


def _open(path: Path) -> Checkpoint:
    try:
        record = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: unreadable manifest ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version (expected format {FORMAT!r})")
    record.pop("format")
    try:
        checkpoint = Checkpoint(path=path, **record)
    except TypeError as error:
        raise CheckpointError(f"{path}: incomplete manifest ({error})") from error
    for name, expected in checkpoint.sha256.items():
        file = path / name
        if file.parent != path or not file.is_file():
            raise CheckpointError(f"{path}: {name} is missing")
        if file_sha256(file) != expected:
            raise CheckpointError(f"{path}: {name} was altered or cut short (its hash differs from the manifest)")
    return checkpoint


def _loaded(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different class for each kind of damage
        raise CheckpointError(f"{path}: not a readable agent file ({type(error).__name__})") from error
    return state


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir())


def _as_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_tensors(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(np.array(value))
    return value
