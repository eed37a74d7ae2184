"""What a demonstration set says of itself: manifest.json.

The manifest names the world, where the demonstrations come from and how good they were, and pins every shard by its
SHA-256. It also carries its own hash, so neither data nor provenance can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator

from dm2_ray.atomic_file import write_atomically
from dm2_ray.config import Section

FORMAT: Final = "dm2-ray joint trajectories"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_OWN_HASH = "manifest_sha256"


class DemonstrationError(ValueError):
    """A demonstration set cannot be used, or cannot be written; the message is one line."""


class Provenance(Section):
    """Whose play was recorded."""

    kind: Literal["checkpoint", "scripted"]
    source: str
    """Path of the checkpoint, or name of the scripted team."""
    checkpoint_hash: str | None = None
    trained_env_steps: int | None = Field(None, ge=0)
    """How long the policy had learnt; null for a scripted team."""
    greedy: bool
    """True: most probable actions; False: sampled ones."""
    seed: int = Field(ge=0)


class RecordedWorld(Section):
    """Where it was recorded: everything that fixes what an observation means."""

    map: str
    scenario_hash: str | None = None
    """Of a user scenario's content (`MapSpec.scenario_hash`); null on SMAC's maps."""
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
        # A manifest from elsewhere must not reach out of its directory.
        if name != Path(name).name or not name.endswith(".parquet"):
            raise ValueError(f"shard file {name!r} must be a plain name that ends in .parquet")
        return name


class Manifest(RecordedWorld):
    """World, provenance, outcome and shards of a set."""

    format: Literal["dm2-ray joint trajectories"] = FORMAT
    format_version: int = FORMAT_VERSION
    policy: Provenance
    episodes: int = Field(ge=1)
    env_steps: int = Field(ge=1)
    win_rate: float = Field(ge=0, le=1)
    return_mean: float
    episode_length_mean: float = Field(ge=1)
    shards: list[Shard] = Field(min_length=1)

    def write(self, directory: Path) -> None:
        """Writes manifest.json into `directory`, atomically."""
        content = self.model_dump(mode="json")
        text = json.dumps({**content, _OWN_HASH: _hash(content)}, indent=2)
        write_atomically(directory / MANIFEST_NAME, text.encode() + b"\n")

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Reads and checks manifest.json of `directory`.

        Raises:
            DemonstrationError: there is no set, it is of another format, or its manifest was altered.
        """
        path = directory / MANIFEST_NAME
        if not directory.is_dir():
            problem = "is a file; a set is a directory" if directory.exists() else "does not exist"
            raise DemonstrationError(f"demonstration set {directory} {problem}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DemonstrationError(f"{directory} is no demonstration set: it has no {MANIFEST_NAME}") from None
        except OSError as error:
            raise DemonstrationError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise DemonstrationError(f"{path} is not JSON: the set is damaged; record it again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DemonstrationError(f"{path} does not say format {FORMAT!r}: this is no demonstration set of dm2-ray")
        if content.get("format_version") != FORMAT_VERSION:
            raise DemonstrationError(
                f"{path}: format_version is {content.get('format_version')!r}, "
                f"this version of dm2-ray reads {FORMAT_VERSION}"
            )
        if content.pop(_OWN_HASH, None) != _hash(content):
            raise DemonstrationError(f"{path} was altered after recording: its {_OWN_HASH} does not fit its content")
        try:
            manifest = cls.model_validate(content)
        except ValidationError as refusal:
            first = refusal.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DemonstrationError(f"{path}: {key}: {first['msg']}, got {first['input']!r}") from None
        for name in ("episodes", "env_steps"):
            total = sum(getattr(shard, name) for shard in manifest.shards)
            if total != getattr(manifest, name):
                raise DemonstrationError(f"{path}: {name} is {getattr(manifest, name)}, its shards have {total}")
        return manifest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
