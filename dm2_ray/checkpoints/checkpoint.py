"""A directory that holds the complete state of a run, and how it is read without trusting it.

    checkpoints/iteration_000120/
      manifest.json      format, world, sizes, policy settings, counters, sha256 of every other file
      experiment.yaml    the resolved configuration
      agent_0.pt …       one file per agent: policy, critic, normalizer, discriminator, optimizers
      experts_0.pt …     with self-imitation, one file per agent: its slices of the best battles so far

These files hold only tensors, numbers and strings and are read with `weights_only=True`: a checkpoint from an unknown
source can be wrong but cannot run code. Only the driver writes checkpoints (`saving.py`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dm2_ray.config.documents import read_experiment
from dm2_ray.config.schema import Experiment
from dm2_ray.errors import UserError
from dm2_ray.files import file_sha256, json_sha256

logger = logging.getLogger(__name__)

FORMAT = "dm2-ray-checkpoint-1"
MANIFEST = "manifest.json"
EXPERIMENT_FILE = "experiment.yaml"
PREFIX = "iteration_"


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing or damaged, or does not fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The content of a checkpoint's manifest.

    Attributes:
        win_rate: Of these agents in an evaluation; None if they have not been evaluated.
        sha256: Hash of every other file, by name.
    """

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
    sha256: Mapping[str, str]

    @property
    def name(self) -> str:
        """The checkpoint in messages and provenance."""
        return str(self.path)

    @property
    def digest(self) -> str:
        """One hash over all files, which the provenance of demonstrations records."""
        return json_sha256(dict(self.sha256))

    def experiment(self) -> Experiment:
        """The configuration that the checkpoint was trained with."""
        return read_experiment(self.path / EXPERIMENT_FILE)

    def agent_state(self, index: int) -> dict[str, Any]:
        """An agent's complete state: tensors, numbers and strings in dicts and lists.

        Raises:
            CheckpointError: The file cannot be read.
        """
        return _load(self.path / agent_file(index))

    def expert_state(self) -> dict[str, dict[str, Any]] | None:
        """The state of each agent's source of demonstrations, by agent; None if it has none (as a recorded set).

        Raises:
            CheckpointError: A file cannot be read.
        """
        if expert_file(0) not in self.sha256:
            return None
        return {f"agent_{index}": _load(self.path / expert_file(index)) for index in range(self.num_agents)}

    def manifest(self) -> bytes:
        """The manifest as it is written."""
        record = {"format": FORMAT, **{k: v for k, v in asdict(self).items() if k != "path"}}
        return (json.dumps(record, indent=2) + "\n").encode()

    @staticmethod
    def from_manifest(path: Path, content: str | bytes) -> Checkpoint:
        """The checkpoint at `path` according to its manifest; no other file is read.

        Raises:
            CheckpointError: `content` is not a manifest of this format.
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
    """Reads a checkpoint's manifest and verifies the hash of every file.

    Args:
        path: A checkpoint; or a run directory or its `checkpoints/`, of which the newest intact checkpoint is opened.
        best: Of a run, open the intact checkpoint with the highest win rate instead; the earliest in a tie.

    Raises:
        CheckpointError: There is none, or none is intact.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if (path / MANIFEST).is_file():
        return verify_checkpoint(path)
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if best:
        candidates = [entry.path for entry in best_checkpoints(listed_checkpoints(root))]
    else:
        candidates = checkpoint_directories(root)[::-1]
    problems = []
    for candidate in candidates:
        try:
            found = verify_checkpoint(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning(f"{problem}; skipped, {found.path.name} is used")
        return found
    if best and not problems and checkpoint_directories(root):
        raise CheckpointError(f"{path}: none of its checkpoints has been evaluated; omit --best to use the newest")
    raise CheckpointError(problems[0] if problems else f"{path}: contains no checkpoint (no {PREFIX}* directory)")


def intact_checkpoints(root: Path) -> list[Checkpoint]:
    """All intact checkpoints in `root`, oldest first; damaged ones are left out."""
    found = []
    for path in checkpoint_directories(root):
        try:
            found.append(verify_checkpoint(path))
        except CheckpointError:
            continue
    return found


def restored_learning_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The argument of `DM2.restore_learning_state`."""
    agents = {f"agent_{index}": checkpoint.agent_state(index) for index in range(checkpoint.num_agents)}
    state = {"env_steps": checkpoint.env_steps, "episodes": checkpoint.episodes, "agents": agents}
    experts = checkpoint.expert_state()
    return state if experts is None else {**state, "experts": experts}


def has_checkpoints(root: Path) -> bool:
    """Whether `root` contains any checkpoint, intact or not."""
    return bool(checkpoint_directories(root))


def checkpoint_directories(root: Path) -> list[Path]:
    """The directories of all checkpoints, intact or not, by iteration."""
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir())


def listed_checkpoints(root: Path) -> list[Checkpoint]:
    """All checkpoints in `root` whose manifests can be read, oldest first; their other files are not verified."""
    return [entry for entry in map(read_manifest, checkpoint_directories(root)) if entry is not None]


def best_checkpoints(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """The evaluated ones, by falling win rate; the earliest first in a tie."""
    evaluated = [entry for entry in checkpoints if entry.win_rate is not None]
    return sorted(evaluated, key=lambda entry: (-(entry.win_rate or 0.0), entry.iteration))


def read_manifest(path: Path) -> Checkpoint | None:
    """The checkpoint at `path` according to its manifest, without verifying other files; None if it is unreadable."""
    try:
        return Checkpoint.from_manifest(path, (path / MANIFEST).read_bytes())
    except (OSError, CheckpointError):
        return None


def verify_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, after comparing all its files with their hashes.

    Raises:
        CheckpointError: The manifest cannot be read, or a file is missing or differs from its hash.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: unreadable manifest ({error})") from error
    checkpoint = Checkpoint.from_manifest(path, content)
    for name, expected in checkpoint.sha256.items():
        file = path / name
        if file.parent != path or not file.is_file():
            raise CheckpointError(f"{path}: {name} is missing")
        if file_sha256(file) != expected:
            raise CheckpointError(f"{path}: {name} was altered or truncated (its hash differs from the manifest's)")
    return checkpoint


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different class for each kind of damage
        raise CheckpointError(f"{path}: not a readable agent file ({type(error).__name__})") from error
    return state
