"""Makes a packed team of a checkpoint: only its actors, rounded to float16."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dm2_ray.checkpoints import Checkpoint, actor_weights
from dm2_ray.files import fsync_path, write_atomically
from dm2_ray.world.engine_settings import ENGINE_VERSION
from dm2_ray.zoo.manifest import WEIGHTS_NAME, Measured, PackedTeamError, TeamManifest, Training
from dm2_ray.zoo.packed_team import MAX_BYTES, PackedTeam

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnwrittenTeam:
    """A packed team in memory.

    Attributes:
        team: The team, with the weights as they will be read back; its path is where it will be written.
        content: Bytes of its weights file.
    """

    team: PackedTeam
    content: bytes

    def with_results(self, *, greedy: Measured, sampled: Measured) -> UnwrittenTeam:
        """The same team with measured results in its manifest."""
        manifest = self.team.manifest.model_copy(update={"greedy": greedy, "sampled": sampled})
        return replace(self, team=replace(self.team, manifest=manifest))

    def write(self) -> PackedTeam:
        """Writes the team's directory, which appears whole or not at all; returns the team as read back.

        Raises:
            PackedTeamError: There is a directory of this name already.
        """
        path = self.team.path
        if path.exists():
            raise PackedTeamError(f"{path} exists already: remove it, or choose another --name")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            write_atomically(temporary / WEIGHTS_NAME, self.content)
            self.team.manifest.write(temporary)
            PackedTeam.open(temporary)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_path(path.parent)
        return PackedTeam.open(path)


def pack(checkpoint: Checkpoint, name: str, directory: Path, *, command: str, package_version: str) -> UnwrittenTeam:
    """Takes the actors of a checkpoint; nothing is written or measured.

    Args:
        checkpoint: The checkpoint.
        name: Name of the team, without its map.
        directory: The team will be written to directory/MAP/NAME.
        command: The command that trains the run again, up to this checkpoint.
        package_version: Version of this package.

    Raises:
        PackedTeamError: The name cannot be one of a directory, the weights are too large for the zoo, or the team
            plays in StarCraft II.
        CheckpointError: The agents' files do not fit the checkpoint.
    """
    if not _NAME.fullmatch(name):
        raise PackedTeamError(f"a team's name becomes a directory: use letters, digits, _ . -, got {name!r}")
    experiment = checkpoint.experiment()
    if experiment.world.backend != "embedded":
        raise PackedTeamError(f"{checkpoint.path} plays in StarCraft II; packed teams play on the embedded engine")
    parameters = _stacked_actors(checkpoint)
    content = _npz({name: stacked.astype(np.float16) for name, stacked in parameters.items()})
    if len(content) > MAX_BYTES:
        raise PackedTeamError(
            f"{checkpoint.path}: the actors take {len(content):,} bytes, a packed team at most {MAX_BYTES:,}"
        )
    rounded = {name: stacked.astype(np.float16).astype(np.float32) for name, stacked in parameters.items()}
    if not all(np.isfinite(stacked).all() for stacked in rounded.values()):
        raise PackedTeamError(f"{checkpoint.path}: its weights are too large for float16")
    manifest = TeamManifest(
        name=name,
        map=checkpoint.map,
        variant=checkpoint.variant,
        env_steps=checkpoint.env_steps,
        engine_version=ENGINE_VERSION,
        world=experiment.world,
        policy=experiment.policy,
        num_agents=checkpoint.num_agents,
        obs_size=checkpoint.obs_size,
        num_actions=checkpoint.num_actions,
        training=Training(
            command=command,
            seed=experiment.seed,
            iteration=checkpoint.iteration,
            checkpoint_hash=checkpoint.digest,
            dm2_ray_version=package_version,
        ),
        weights_bytes=len(content),
        weights_sha256=hashlib.sha256(content).hexdigest(),
    )
    path = directory / checkpoint.map / name
    return UnwrittenTeam(team=PackedTeam(path=path, manifest=manifest, parameters=rounded), content=content)


def _stacked_actors(checkpoint: Checkpoint) -> dict[str, npt.NDArray[np.float32]]:
    """The actors' parameters [K, …] by name: K is the number of agents, or 1 if all agents have the same ones."""
    actors = actor_weights(checkpoint)
    first, *others = actors
    is_shared = all(np.array_equal(first[name], other[name]) for other in others for name in first)
    return {name: np.stack([actor[name] for actor in (actors[:1] if is_shared else actors)]) for name in first}


def _npz(arrays: dict[str, npt.NDArray[np.float16]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
