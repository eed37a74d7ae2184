"""A run's copy on another file system, through pyarrow: file://, s3://, gs:// and the others that it supports.

    URI/RUN/
      generation.json  config.yaml  metrics.jsonl  wandb_run_id  summary.json     each replaced as a whole
      checkpoints/iteration_000120/…                                              manifest.json is written last

A copied checkpoint gets its manifest only after all its files have been read back and compared. An interrupted copy
therefore has none and is never used. Credentials come from where the file system's own tools look for them, never from
the URI, because URIs are written into configurations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs as pafs
from upath import UPath

from dm2_ray.checkpoints.checkpoint import MANIFEST, PREFIX, Checkpoint, CheckpointError, verify_checkpoint
from dm2_ray.credentials import check_no_credentials
from dm2_ray.errors import UserError
from dm2_ray.files import write_atomically
from dm2_ray.terminal import one_line
from dm2_ray.timeouts import CallTimeout, call_with_timeout

Answer = TypeVar("Answer")

# For one operation at a location: connecting, a few small requests, and their retries.
ANSWER_TIMEOUT_S = 30.0
# For one of these requests while no byte is transferred; then come its retries.
REQUEST_S = 5.0
S3_ATTEMPTS = 2
RETRIES_S = 20
CHECKPOINTS = "checkpoints"


class RemoteCopyError(UserError, ValueError):
    """A location for copies cannot be used, or contains no run; the message is one line."""


class RemoteCopy:
    """The copy of one run.

    Args:
        uri: URI of this run's copy; `uri_join` builds it from the location of all copies.

    Raises:
        RemoteCopyError: The URI's scheme is unknown, or the URI contains a secret.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files, self._base = _file_system(uri)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist. Raises OSError."""
        path = f"{self._base}/{name}"
        if self._files.get_file_info(path).type != pafs.FileType.File:
            return None
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file as a whole; if it is interrupted, the earlier content stays.

        Raises:
            OSError: The store rejects the write, or returns different bytes.
        """
        folder, _, last = f"{self._base}/{name}".rpartition("/")
        temporary = f"{folder}/.{last}.tmp"
        self._files.create_dir(folder, recursive=True)
        self._put(temporary, content)
        self._files.move(temporary, f"{folder}/{last}")

    def checkpoints(self) -> list[Checkpoint]:
        """The copied checkpoints according to their manifests, oldest first; `path` is only the directory's name."""
        found = []
        for name in self._names():
            content = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
            if content is None:
                continue
            try:
                found.append(Checkpoint.from_manifest(Path(name), content))
            except CheckpointError:
                continue
        return found

    def copy_checkpoint(self, checkpoint: Checkpoint, fence: Callable[[], None]) -> None:
        """Copies a checkpoint, reads it back, and adds its manifest.

        Args:
            checkpoint: The checkpoint to copy.
            fence: Called before the manifest is written; raises if another process has taken over the run.

        Raises:
            OSError: A file cannot be read or copied; the copy then has no manifest.
            CheckpointError: A file of the checkpoint is damaged; the copy then has no manifest.
        """
        name = checkpoint.path.name
        folder = f"{self._base}/{CHECKPOINTS}/{name}"
        manifest = (checkpoint.path / MANIFEST).read_bytes()
        copied = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
        if copied is not None:
            if Checkpoint.from_manifest(checkpoint.path, copied).sha256 == dict(checkpoint.sha256):
                # Same files: the manifest can differ only by a win rate that was noted later.
                if copied != manifest:
                    self.write(f"{CHECKPOINTS}/{name}/{MANIFEST}", manifest)
                return
            self._files.delete_file(f"{folder}/{MANIFEST}")
        self._files.create_dir(folder, recursive=True)
        for file, expected in checkpoint.sha256.items():
            content = (checkpoint.path / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise CheckpointError(f"{checkpoint.path}: {file} was altered or truncated; not copied")
            self._put(f"{folder}/{file}", content)
        fence()
        self.write(f"{CHECKPOINTS}/{name}/{MANIFEST}", manifest)

    def remove_checkpoint(self, name: str) -> None:
        """Removes a copied checkpoint, its manifest first. Raises OSError."""
        folder = f"{self._base}/{CHECKPOINTS}/{name}"
        self._files.delete_file(f"{folder}/{MANIFEST}")
        self._files.delete_dir(folder)

    def fetch_checkpoint(self, name: str, root: Path) -> Checkpoint:
        """Downloads a copied checkpoint into `root`, a directory of checkpoints, and verifies it there.

        Raises:
            OSError: The copy cannot be read, or `root` not be written.
            CheckpointError: The copy is incomplete or damaged.
        """
        path = root / name
        content = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
        if content is None:
            raise CheckpointError(f"{self.uri}: {name} has no manifest")
        parts = {}
        for file, expected in Checkpoint.from_manifest(path, content).sha256.items():
            # A manifest that is not to be trusted must not make us write outside of the checkpoint's directory.
            if Path(file).name != file:
                raise CheckpointError(f"{self.uri}: {name} names a file outside of its directory: {file!r}")
            part = self.read(f"{CHECKPOINTS}/{name}/{file}")
            if part is None:
                raise CheckpointError(f"{self.uri}: {file} of {name} is missing")
            if hashlib.sha256(part).hexdigest() != expected:
                raise CheckpointError(f"{self.uri}: {file} of {name} was altered or truncated")
            parts[file] = part
        for file, part in parts.items():
            write_atomically(path / file, part)
        write_atomically(path / MANIFEST, content)
        return verify_checkpoint(path)

    def probe(self) -> None:
        """Writes a small file, reads it back and removes it. Raises OSError if that fails."""
        name = ".dm2-ray-probe"
        self.write(name, b"x")
        self._files.delete_file(f"{self._base}/{name}")

    def _put(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)
        with self._files.open_input_stream(path) as stream:
            if hashlib.sha256(stream.read()).digest() != hashlib.sha256(content).digest():
                raise OSError(f"{path}: the bytes read back differ from those written")

    def _names(self) -> list[str]:
        selector = pafs.FileSelector(f"{self._base}/{CHECKPOINTS}", allow_not_found=True)
        return sorted(
            info.base_name for info in self._files.get_file_info(selector) if info.base_name.startswith(PREFIX)
        )


def uri_join(uri: str, name: str) -> str:
    """The URI of `name` in the location `uri`; options after a `?` stay at the end."""
    path, mark, options = uri.partition("?")
    return f"{UPath(path) / name}{mark}{options}"


def uri_parent(uri: str) -> tuple[str, str]:
    """Inverse of `uri_join`: the location, and the name in it."""
    path, mark, options = uri.partition("?")
    return f"{UPath(path).parent}{mark}{options}", UPath(path).name


def check_location(uri: str) -> None:
    """Checks within ANSWER_TIMEOUT_S that copies can be written to a location.

    Raises:
        RemoteCopyError: It cannot be written to.
    """
    call_or_refuse(uri, lambda: RemoteCopy(uri).probe())


def call_or_refuse(uri: str, ask: Callable[[], Answer]) -> Answer:
    """Returns the result of `ask`, which accesses the location `uri`, within ANSWER_TIMEOUT_S.

    Raises:
        RemoteCopyError: It took too long, or the file system raised an error.
    """
    try:
        # The file systems' own time limits and retries add up to minutes.
        return call_with_timeout(ask, ANSWER_TIMEOUT_S)
    except CallTimeout:
        raise RemoteCopyError(f"{uri} does not answer within {ANSWER_TIMEOUT_S:.0f} s") from None
    except (OSError, pa.ArrowException) as error:
        raise RemoteCopyError(f"{uri} cannot be used: {one_line(error)}") from error


def _file_system(uri: str) -> tuple[pafs.FileSystem, str]:
    parts = urlsplit(uri)
    check_no_credentials(uri, f"{parts.scheme}://{parts.hostname or ''}…", RemoteCopyError)
    try:
        if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query:
            parts = parts._replace(query="&".join(filter(None, [parts.query, f"retry_limit_seconds={RETRIES_S}"])))
        files, path = pafs.FileSystem.from_uri(urlunsplit(parts))
        if isinstance(files, pafs.S3FileSystem):
            files = _fail_fast_options(files, parse_qs(parts.query))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise RemoteCopyError(f"{uri} cannot be used: {one_line(error)}") from error
    return files, path.rstrip("/")


def _fail_fast_options(files: pafs.S3FileSystem, options: Mapping[str, list[str]]) -> pafs.S3FileSystem:
    """The same file system with short time limits: a process cannot end before its last request has ended."""
    named = {name: options[name][-1] for name in ("scheme", "endpoint_override") if name in options}
    return pafs.S3FileSystem(
        region=files.region,
        connect_timeout=REQUEST_S,
        request_timeout=REQUEST_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
        **named,
    )
