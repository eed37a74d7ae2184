"""A run's complete state in a directory: read without trusting it.

    checkpoints/iteration_000120/
      manifest.json      format, world, sizes, policy settings, counters, sha256 of every other file
      experiment.yaml    the resolved configuration
      agent_0.pt …       one file per agent: policy, critic, normalizer, discriminator, optimizers
      experts_0.pt …     with self-imitation, one file per agent: its slices of the best battles so far

These files hold tensors, numbers and strings only and are read with `weights_only=True`: a checkpoint from a stranger
can be wrong but cannot run code. Only the driver writes checkpoints (`saving.py`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dm2_ray.config.documents import read_experiment
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import UserError
from dm2_ray.files import file_sha256

logger = logging.getLogger(__name__)

FORMAT = "dm2-ray-checkpoint-1"
MANIFEST = "manifest.json"
EXPERIMENT_FILE = "experiment.yaml"
PREFIX = "iteration_"


class CheckpointError(UserError, ValueError):
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
    """Of these agents in an evaluation; None where they have not been evaluated."""
    sha256: Mapping[str, str]
    """Of every file beside the manifest."""

    @property
    def digest(self) -> str:
        """One hash that stands for all files; goes into the provenance of demonstrations."""
        return hashlib.sha256(json.dumps(dict(self.sha256), sort_keys=True).encode()).hexdigest()

    def experiment(self) -> Experiment:
        """The configuration that the checkpoint was trained with."""
        return read_experiment(self.path / EXPERIMENT_FILE)

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

    def manifest(self) -> bytes:
        """Content of the manifest."""
        record = {"format": FORMAT, **{k: v for k, v in asdict(self).items() if k != "path"}}
        return (json.dumps(record, indent=2) + "\n").encode()

    @staticmethod
    def of_manifest(path: Path, content: str | bytes) -> Checkpoint:
        """What a manifest says of the checkpoint at `path`; no other file is looked at.

        Raises:
            CheckpointError: It is no manifest of this format.
        """
        try:
            record = json.loads(content)
        except ValueError as error:
            raise CheckpointError(f"{path}: unreadable manifest ({error})") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise CheckpointError(f"{path}: not a checkpoint of this version (expected format {FORMAT!r})")
        record.pop("format")
        try:
            return Checkpoint(path=path, **record)
        except TypeError as error:
            raise CheckpointError(f"{path}: incomplete manifest ({error})") from error


def agent_file(index: int) -> str:
    return f"agent_{index}.pt"


def expert_file(index: int) -> str:
    return f"experts_{index}.pt"


def open_checkpoint(path: Path, *, best: bool = False) -> Checkpoint:
    """Reads a manifest and verifies every file's hash.

    Args:
        path: A checkpoint, or a run directory or its `checkpoints/` (then the newest intact one is meant).
        best: Of a run, take the intact one of the highest win rate, the earliest of equally good ones.

    Raises:
        CheckpointError: One line that says what is wrong.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if (path / MANIFEST).is_file():
        return verified(path)
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    candidates = sort_by_win_rate(root) if best else list(reversed(directories(root)))
    problems = []
    for candidate in candidates:
        try:
            found = verified(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning(f"{problem}; passed over, {found.path.name} is used")
        return found
    if best and not problems and directories(root):
        raise CheckpointError(f"{path}: none of its checkpoints has been evaluated; leave out --best for the newest")
    raise CheckpointError(problems[0] if problems else f"{path}: holds no checkpoint (no {PREFIX}* directory)")


def intact_checkpoints(root: Path) -> list[Checkpoint]:
    """All intact checkpoints below `root`, oldest first; damaged ones are left out."""
    found = []
    for path in directories(root):
        try:
            found.append(verified(path))
        except CheckpointError:
            continue
    return found


def restored_learning_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `DM2.restore_learning_state` wants."""
    agents = {f"agent_{index}": checkpoint.agent_state(index) for index in range(checkpoint.num_agents)}
    state = {"env_steps": checkpoint.env_steps, "episodes": checkpoint.episodes, "agents": agents}
    experts = checkpoint.expert_state()
    return state if experts is None else {**state, "experts": experts}


def has_checkpoints(root: Path) -> bool:
    """Whether there is any, intact or not."""
    return bool(directories(root))


def directories(root: Path) -> list[Path]:
    """Directories of checkpoints, intact or not, by iteration."""
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir())


def sort_by_win_rate(root: Path) -> list[Path]:
    """Directories of evaluated checkpoints, best first; of equally good ones, the earliest first."""
    found = [entry for entry in map(read_manifest, directories(root)) if entry is not None]
    return [entry.path for entry in sorted(found, key=rank) if entry.win_rate is not None]


def rank(checkpoint: Checkpoint) -> tuple[float, int]:
    """Sorts evaluated checkpoints, best and earliest first."""
    return -(checkpoint.win_rate or 0.0), checkpoint.iteration


def read_manifest(path: Path) -> Checkpoint | None:
    """What the manifest of a checkpoint says, without a look at the other files; None where it cannot be read."""
    try:
        return Checkpoint.of_manifest(path, (path / MANIFEST).read_bytes())
    except (OSError, CheckpointError):
        return None


def verified(path: Path) -> Checkpoint:
    """The checkpoint at `path`, all its files compared with their hashes.

    Raises:
        CheckpointError: One line that says what is wrong.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: unreadable manifest ({error})") from error
    checkpoint = Checkpoint.of_manifest(path, content)
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
