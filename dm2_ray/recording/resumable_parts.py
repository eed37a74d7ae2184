"""Finished chunks of a recording that is under way, beside the place of its set.

    demos/.3m.parts/
      identity.json       what is recorded: team, seed, world, filters
      chunk-000000.part   RecordedChunk.to_bytes
      set/                the set while it is put together

A chunk appears whole or not at all, so that whoever was killed goes on from the chunks that are there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.files import try_lock, write_atomically
from dm2_ray.recording.chunk import RecordedChunk

_IDENTITY = "identity.json"


class ResumableParts:
    """The chunks of the recording into the set `out`, for one process at a time."""

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        """
        Args:
            out: where the set is to be.
            identity: everything that a chunk depends on but for its number, as JSON has it.

        Raises:
            DemonstrationError: chunks of something else lie there, another process is recording them, or nothing can be
                written.
        """
        self.directory = parts_directory(out)
        self._identity = dict(identity)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise DemonstrationError(f"{self.directory} cannot be written: {error.strerror or error}") from None
        try:
            self._claim(out)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets others record."""
        os.close(self._lock)

    def chunks(self) -> list[int]:
        """Numbers of the chunks that lie there, whole or not, rising."""
        return sorted(int(path.stem.removeprefix("chunk-")) for path in self.directory.glob("chunk-*.part"))

    @property
    def assembly(self) -> Path:
        """Where the set may be put together; nothing lies there."""
        directory = self.directory / "set"
        shutil.rmtree(directory, ignore_errors=True)
        return directory

    def read(self, chunk: int) -> RecordedChunk | None:
        """A finished chunk, or None if it has to be played."""
        try:
            return RecordedChunk.from_bytes((self.directory / _chunk_file(chunk)).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return None  # a disk that lost it: playing it again gives the same

    def keep(self, chunk: int, content: bytes) -> None:
        """Puts a finished chunk on the disk.

        Raises:
            DemonstrationError: it cannot be written; the chunks before it stay.
        """
        self._write(_chunk_file(chunk), content)

    def remove(self) -> None:
        """Forgets the recording."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Leaves no trace of a recording that has not come anywhere."""
        if not self.chunks():
            self.remove()

    def _claim(self, out: Path) -> None:
        # On a file system without locks two processes may record at once: both write the same chunks.
        if not try_lock(self._lock):
            raise DemonstrationError(f"{out} is being recorded by another process")
        found = self._read_identity()
        if found is None:
            self._write(_IDENTITY, json.dumps(self._identity, indent=2).encode() + b"\n")
        elif found != self._identity:
            keys = [*found, *self._identity]
            key = next(key for key in keys if found.get(key) != self._identity.get(key))
            raise DemonstrationError(
                f"{self.directory} holds the beginning of another recording ({key} {found.get(key)!r}, now "
                f"{self._identity.get(key)!r}): finish that one, remove the directory, or choose another --out"
            )

    def _read_identity(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.directory / _IDENTITY).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {_IDENTITY: "unreadable"}

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_atomically(self.directory / name, content)
        except OSError as error:
            raise DemonstrationError(f"{self.directory / name} cannot be written: {error.strerror or error}") from None


def parts_directory(out: Path) -> Path:
    """Where the chunks of a recording into the set `out` lie."""
    out = out.expanduser().absolute()
    return out.parent / f".{out.name}.parts"


def _chunk_file(chunk: int) -> str:
    return f"chunk-{chunk:06d}.part"
