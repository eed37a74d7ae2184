"""The description of a demonstration set: manifest.json.

The manifest names the world, the origin and the results of the demonstrations, and contains the SHA-256 of every shard.
It also contains a hash of itself, so neither data nor provenance can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer

from dm2_ray.config.schema import Section
from dm2_ray.errors import UserError
from dm2_ray.files import json_sha256, write_atomically

FORMAT: Final = "dm2-ray joint trajectories"
FORMAT_VERSION = 2
"""The version that is written. Version 1 had no `missing`, `parts` and filters; it is read as a set in which nothing is
missing."""
READABLE_VERSIONS = (1, 2)
MANIFEST_NAME = "manifest.json"
_OWN_HASH = "manifest_sha256"


class DemonstrationError(UserError, ValueError):
    """A demonstration set cannot be used or written; the message is one line."""


MissingColumn: TypeAlias = Literal["action_mask", "rewards", "battle_won"]
"""What a set may lack if it was not recorded by this package."""


class Filters(Section):
    """Which of the battles played were kept."""

    min_return: float | None = None
    """Battles of at least this undiscounted team return are kept."""
    only_wins: bool = False

    def accept(self, team_return: float, battle_won: bool) -> bool:
        """Returns whether a battle with this result is kept."""
        return (self.min_return is None or team_return >= self.min_return) and (battle_won or not self.only_wins)

    def __str__(self) -> str:
        parts = [] if self.min_return is None else [f"return >= {self.min_return:g}"]
        return " and ".join(parts + ["won"] * self.only_wins) or "none"


class Provenance(Section):
    """Whose play was recorded."""

    kind: Literal["checkpoint", "scripted", "imported", "merged"]
    source: str
    """Path of the checkpoint, name of the scripted team, or directory of the imported files; of a merged set the names
    of its parts' sets."""
    checkpoint_hash: str | None = None
    source_sha256: str | None = None
    """Hash of all imported files together."""
    trained_env_steps: int | None = Field(None, ge=0)
    """How long the policy had been trained; null, here and below: not known."""
    greedy: bool | None = None
    """True: most probable actions; False: sampled ones."""
    epsilon: float | None = Field(None, gt=0, le=1)
    """Probability with which a random available action replaced an agent's; null, which is not written: none did."""
    seed: int | None = Field(None, ge=0)
    """Seed of battles and actions."""
    filters: Filters = Filters()
    battles_played: int | None = Field(None, ge=1)
    """Battles that were played to get the set's episodes; without filters, the number of episodes."""
    target_win_rate: float | None = Field(None, ge=0, le=1)
    """Win rate that a checkpoint of the run was chosen for."""
    measured_win_rate: float | None = Field(None, ge=0, le=1)
    """Win rate that was measured for the chosen checkpoint."""

    @model_serializer(mode="wrap")
    def _without_null_epsilon(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Manifests of sets without random actions stay readable by versions that do not know the key.
        content: dict[str, Any] = serialize(self)
        return {name: value for name, value in content.items() if (name, value) != ("epsilon", None)}


class RecordedWorld(Section):
    """The world of a recording: everything that determines what an observation means."""

    map: str
    scenario_hash: str | None = None
    """Hash of a user scenario's content (`MapSpec.scenario_hash`); null on SMAC's maps."""
    backend: Literal["embedded", "starcraft"]
    engine_version: str
    engine: dict[str, Any]
    """The embedded engine's free parameters that differ from their defaults."""
    smac: dict[str, Any]
    """SMAC's constructor arguments that differ from its defaults."""
    num_agents: int = Field(ge=1)
    obs_size: int = Field(ge=1)
    num_actions: int = Field(ge=1)


class Shard(Section):
    """One Parquet file of the set."""

    file: str
    sha256: str
    episodes: int = Field(ge=1)
    env_steps: int = Field(ge=1)

    @field_validator("file")
    @classmethod
    def _is_plain_name(cls, name: str) -> str:
        # A manifest from an unknown source must not lead to files outside its directory.
        if name != Path(name).name or not name.endswith(".parquet"):
            raise ValueError(f"shard file {name!r} must be a plain name that ends in .parquet")
        return name


class Part(Section):
    """What a merged set contains of one of its sources; parts are in the order of the episodes."""

    policy: Provenance
    episodes: int = Field(ge=1)
    env_steps: int = Field(ge=1)
    win_rate: float | None = Field(ge=0, le=1)
    return_mean: float | None
    content_hash: str
    """`Manifest.content_hash` of the source."""


class Manifest(RecordedWorld):
    """World, provenance, results and shards of a set."""

    format: Literal["dm2-ray joint trajectories"] = FORMAT
    format_version: int = FORMAT_VERSION
    policy: Provenance
    episodes: int = Field(ge=1)
    env_steps: int = Field(ge=1)
    win_rate: float | None = Field(ge=0, le=1)
    """Null if `battle_won` is missing."""
    return_mean: float | None
    """Mean undiscounted team return; null if `rewards` are missing."""
    episode_length_mean: float = Field(ge=1)
    missing: list[MissingColumn] = []
    """Columns that the shards lack because they were not recorded."""
    parts: list[Part] = []
    """Sources of a merged set; empty for any other set."""
    shards: list[Shard] = Field(min_length=1)

    @property
    def content_hash(self) -> str:
        """One hash of all shards: equal if two sets contain the same episodes in the same order."""
        return hashlib.sha256("\n".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def write(self, directory: Path) -> None:
        """Writes manifest.json into `directory`, atomically."""
        content = self.model_dump(mode="json")
        text = json.dumps({**content, _OWN_HASH: json_sha256(content)}, indent=2)
        write_atomically(directory / MANIFEST_NAME, text.encode() + b"\n")

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Reads and checks manifest.json of `directory`.

        Raises:
            DemonstrationError: There is no set, it has another format, or its manifest was altered.
        """
        path = directory / MANIFEST_NAME
        if not directory.is_dir():
            problem = "is a file; a set is a directory" if directory.exists() else "does not exist"
            raise DemonstrationError(f"demonstration set {directory} {problem}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DemonstrationError(f"{directory} is not a demonstration set: it has no {MANIFEST_NAME}") from None
        except OSError as error:
            raise DemonstrationError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise DemonstrationError(f"{path} is not JSON: the set is damaged; record it again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DemonstrationError(
                f"{path} does not have format {FORMAT!r}: this is not a demonstration set of dm2-ray"
            )
        if content.get("format_version") not in READABLE_VERSIONS:
            raise DemonstrationError(
                f"{path}: format_version is {content.get('format_version')!r}, "
                f"this version of dm2-ray reads {' and '.join(map(str, READABLE_VERSIONS))}"
            )
        if content.pop(_OWN_HASH, None) != json_sha256(content):
            raise DemonstrationError(f"{path} was altered after recording: its {_OWN_HASH} does not match its content")
        try:
            manifest = cls.model_validate(content)
        except ValidationError as refusal:
            first = refusal.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DemonstrationError(f"{path}: {key}: {first['msg']}, got {first['input']!r}") from None
        manifest._check_agreement(path)
        return manifest

    def _check_agreement(self, path: Path) -> None:
        for name in ("episodes", "env_steps"):
            total, owner = sum(getattr(shard, name) for shard in self.shards), "shards"
            if self.parts and total == getattr(self, name):
                total, owner = sum(getattr(part, name) for part in self.parts), "parts"
            if total != getattr(self, name):
                raise DemonstrationError(f"{path}: {name} is {getattr(self, name)}, but its {owner} have {total}")
        for name, column in (("win_rate", "battle_won"), ("return_mean", "rewards")):
            if (getattr(self, name) is None) != (column in self.missing):
                raise DemonstrationError(f"{path}: {name} is {getattr(self, name)}, but missing is {self.missing}")
