"""Finished chunks of an unfinished recording, in a directory beside the future set.

    demos/.3m.parts/
      identity.json       what is recorded: team, seed, world, filters
      chunk-000000.part   RecordedChunk.to_bytes
      set/                the set while it is assembled

A chunk appears complete or not at all, so a recording that was killed continues with the chunks that are missing.
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
    """The chunks of a recording, which only one process may use at a time.

    Args:
        out: Directory of the future set.
        identity: Everything that a chunk depends on except its number, as JSON values.

    Raises:
        DemonstrationError: There are chunks of another recording, another process is recording, or the directory cannot
            be written.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.directory = parts_directory(out)
        self._identity = dict(identity)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise DemonstrationError(f"{self.directory} cannot be written: {error.strerror or error}") from None
        try:
            self._lock_and_check(out)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Releases the lock."""
        os.close(self._lock)

    def chunks(self) -> list[int]:
        """Returns the numbers of the chunks on disk, damaged or not, in increasing order."""
        return sorted(int(path.stem.removeprefix("chunk-")) for path in self.directory.glob("chunk-*.part"))

    def empty_assembly_directory(self) -> Path:
        """Returns the directory where the set can be assembled, after removing what an earlier attempt left there."""
        directory = self.directory / "set"
        shutil.rmtree(directory, ignore_errors=True)
        return directory

    def read(self, chunk: int) -> RecordedChunk | None:
        """Returns a finished chunk, or None if it has to be played."""
        try:
            return RecordedChunk.from_bytes((self.directory / _chunk_file(chunk)).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return None  # damaged: playing it again gives the same chunk

    def store(self, chunk: int, content: bytes) -> None:
        """Writes a finished chunk to disk.

        Raises:
            DemonstrationError: It cannot be written; the chunks before it stay.
        """
        self._write(_chunk_file(chunk), content)

    def remove(self) -> None:
        """Removes all chunks and their directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Removes the directory if it has no chunks."""
        if not self.chunks():
            self.remove()

    def _lock_and_check(self, out: Path) -> None:
        # On a file system without locks two processes may record at once; both write the same chunks.
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
    """Returns the directory of the chunks of the set `out`."""
    out = out.expanduser().absolute()
    return out.parent / f".{out.name}.parts"


def _chunk_file(chunk: int) -> str:
    return f"chunk-{chunk:06d}.part"
