"""A packed team: reading one, and opening whatever names a trained team.

    MAP/NAME/
      manifest.json   world, policy settings, origin, measured win rates, hashes (manifest.py)
      weights.npz     the actors' parameters in float16, one array [K, …] per parameter

K is the number of agents, or 1 if all agents share one actor (MAPPO). The file contains arrays of numbers only and is
read without pickle: a team from an unknown source can be wrong but cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dm2_ray.checkpoints import TrainedTeam, open_checkpoint
from dm2_ray.config.schema import Experiment
from dm2_ray.config.team_names import ZOO_PREFIX
from dm2_ray.world.engine_settings import ENGINE_VERSION
from dm2_ray.zoo.manifest import WEIGHTS_NAME, PackedTeamError, TeamManifest, is_packed_team
from dm2_ray.zoo.references import TEAMS_DIRECTORY, team_directory

logger = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
"""Size of a packed team's weights at most: the zoo is part of the package."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedTeam:
    """A trained team that can act, and nothing else: it has no critics, discriminators or optimizers.

    Attributes:
        path: Its directory.
        manifest: Its description.
        parameters: Of the actors, by name: float32 [K, …], with K = 1 if all agents share them.
    """

    path: Path
    manifest: TeamManifest
    parameters: dict[str, npt.NDArray[np.float32]] = field(repr=False)

    @staticmethod
    def open(path: Path) -> PackedTeam:
        """Reads a packed team and verifies its hashes.

        Raises:
            PackedTeamError: There is none at `path`, or it is damaged.
        """
        manifest = TeamManifest.read(path)
        file = path / WEIGHTS_NAME
        try:
            content = file.read_bytes()
        except OSError as error:
            raise PackedTeamError(f"{file} cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
            raise PackedTeamError(
                f"{file} was altered or truncated: its hash differs from the manifest's; install or pack the team again"
            )
        team = PackedTeam(path=path, manifest=manifest, parameters=_parameters(file, content))
        if manifest.engine_version != ENGINE_VERSION:
            _warn_of_engine(team.name, manifest.engine_version)
        return team

    @property
    def name(self) -> str:
        """`zoo:MAP/NAME` for a team that is installed with the package, else its path."""
        return self.manifest.reference if self.path.parent.parent == TEAMS_DIRECTORY else str(self.path)

    @property
    def map(self) -> str:
        """Map that it was trained on."""
        return self.manifest.map

    @property
    def variant(self) -> str:
        """How it was trained: ippo, mappo, dm2, …"""
        return self.manifest.variant

    @property
    def env_steps(self) -> int:
        """How long it was trained."""
        return self.manifest.env_steps

    @property
    def num_agents(self) -> int:
        """N."""
        return self.manifest.num_agents

    @property
    def obs_size(self) -> int:
        """O."""
        return self.manifest.obs_size

    @property
    def num_actions(self) -> int:
        """A."""
        return self.manifest.num_actions

    @property
    def digest(self) -> str:
        """Hash of the weights, which the provenance of demonstrations records."""
        return self.manifest.weights_sha256

    def experiment(self) -> Experiment:
        """World and policy settings that the team was trained with; all other settings have their defaults."""
        return Experiment(
            seed=self.manifest.training.seed,
            variant=self.variant,
            world=self.manifest.world,
            policy=self.manifest.policy,
        )

    def agent_state(self, index: int) -> dict[str, Any]:
        """The parameters of an agent's actor, in the form of `Checkpoint.agent_state`."""
        actor = {
            name: torch.from_numpy(stacked[index if len(stacked) > 1 else 0])
            for name, stacked in self.parameters.items()
        }
        return {"modules": {f"agent_{index}": actor}}


def open_team(team: str | PathLike[str], *, best: bool = False) -> TrainedTeam:
    """Opens a trained team by any of its names.

    Args:
        team: `zoo:MAP/NAME`; or the path of a packed team, of a checkpoint, or of a run directory, of which the newest
            intact checkpoint is opened.
        best: Of a run directory, open the intact checkpoint with the highest win rate instead.

    Raises:
        PackedTeamError: There is no such team in the zoo, or the packed team is damaged.
        CheckpointError: There is no checkpoint, or none is intact.
    """
    if str(team).startswith(ZOO_PREFIX):
        return PackedTeam.open(team_directory(str(team)))
    path = Path(team).expanduser()
    return PackedTeam.open(path) if is_packed_team(path) else open_checkpoint(path, best=best)


def _parameters(file: Path, content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name].astype(np.float32) for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise PackedTeamError(f"{file} does not contain weights of a team ({error})") from None


@cache  # A command may open a team several times.
def _warn_of_engine(name: str, version: str) -> None:
    logger.warning(
        f"{name} was packed for version {version} of the embedded engine, this is version {ENGINE_VERSION}: it plays, "
        "but its win rates may differ from those in its manifest"
    )
