"""The description of a packed team: manifest.json beside its weights.

The manifest holds what acting needs besides the weights (world, policy settings, sizes), where the team comes from, how
well it plays, the hash of the weights, and a hash of itself. Reading it loads neither torch nor the engine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from dm2_ray.config.errors import format_validation_error
from dm2_ray.config.schema import PolicySettings, Section, WorldSettings
from dm2_ray.config.team_names import ZOO_PREFIX
from dm2_ray.errors import UserError
from dm2_ray.files import json_sha256, write_atomically
from dm2_ray.statistics import wilson_interval

FORMAT: Final = "dm2-ray packed team"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.npz"
_OWN_HASH = "manifest_sha256"


class PackedTeamError(UserError, ValueError):
    """A packed team is missing or damaged, or cannot be written; the message is one line."""


class Measured(Section):
    """How well a team plays, measured with the weights as they are packed."""

    seed: int = Field(ge=0)
    """Seed of the battles, as in `dm2 evaluate --seed`."""
    battles: int = Field(ge=1)
    win_rate: float = Field(ge=0, le=1)
    return_mean: float
    """Mean undiscounted team return."""
    episode_length_mean: float = Field(ge=1)
    """In env steps."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the win rate."""
        return wilson_interval(self.win_rate, self.battles)


class Training(Section):
    """Where a team comes from."""

    command: str
    """The command that trains the run again, up to the packed checkpoint."""
    seed: int = Field(ge=0)
    iteration: int = Field(ge=0)
    checkpoint_hash: str
    """`Checkpoint.digest` of the checkpoint that was packed."""
    dm2_ray_version: str
    """Version of this package that packed the team."""


class TeamManifest(Section):
    """World, policy, origin and results of a packed team."""

    format: Literal["dm2-ray packed team"] = FORMAT
    format_version: int = FORMAT_VERSION
    name: str
    map: str
    variant: str
    """How it was trained: ippo, mappo, dm2, …"""
    env_steps: int = Field(ge=0)
    """How long it was trained."""
    engine_version: str
    """Version of the embedded engine that the win rates were measured on."""
    world: WorldSettings
    policy: PolicySettings
    num_agents: int = Field(ge=1)
    obs_size: int = Field(ge=1)
    num_actions: int = Field(ge=1)
    greedy: Measured | None = None
    """Results with the most probable actions; null, here and below: not measured."""
    sampled: Measured | None = None
    """Results with sampled actions."""
    training: Training
    weights_bytes: int = Field(ge=1)
    weights_sha256: str

    @property
    def reference(self) -> str:
        """How commands name the team if it is in the package's zoo."""
        return f"{ZOO_PREFIX}{self.map}/{self.name}"

    def write(self, directory: Path) -> None:
        """Writes manifest.json into `directory`, atomically."""
        content = self.model_dump(mode="json")
        text = json.dumps({**content, _OWN_HASH: json_sha256(content)}, indent=2)
        write_atomically(directory / MANIFEST_NAME, text.encode() + b"\n")

    @classmethod
    def read(cls, directory: Path) -> TeamManifest:
        """Reads and checks manifest.json of `directory`; the weights are not read.

        Raises:
            PackedTeamError: There is no packed team, it has another format, or its manifest was altered.
        """
        path = directory / MANIFEST_NAME
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise PackedTeamError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise PackedTeamError(f"{path} is not JSON: the team is damaged; install or pack it again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise PackedTeamError(f"{path} does not have format {FORMAT!r}: this is not a packed team of dm2-ray")
        if content.get("format_version") != FORMAT_VERSION:
            raise PackedTeamError(
                f"{path}: format_version is {content.get('format_version')!r}, this version of dm2-ray reads "
                f"{FORMAT_VERSION}"
            )
        if content.pop(_OWN_HASH, None) != json_sha256(content):
            raise PackedTeamError(
                f"{path} was altered: its {_OWN_HASH} does not match its content; install or pack the team again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as refusal:
            problem = format_validation_error(refusal.errors(include_url=False)[0], cls)
            raise PackedTeamError(f"{path}: {problem}") from None


def is_packed_team(directory: Path) -> bool:
    """Whether a directory holds a packed team, intact or not, rather than a checkpoint or a run."""
    try:
        content = json.loads((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return (directory / WEIGHTS_NAME).is_file()
    return isinstance(content, dict) and content.get("format") == FORMAT
