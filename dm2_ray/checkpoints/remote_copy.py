"""A run's copy on a file system elsewhere, through pyarrow: file://, s3://, gs:// and what else it knows.

    URI/RUN/
      generation.json  config.yaml  metrics.jsonl  wandb_run_id  summary.json     replaced whole
      checkpoints/iteration_000120/…                                              manifest.json last

A checkpoint has its manifest only once all its files have been read back and compared, so that one whose copy was cut
short has none and is never used. Credentials come from where the file system's own tools look for them, never from
the URI, which is written into configurations.
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

from dm2_ray.checkpoints.checkpoint import MANIFEST, PREFIX, Checkpoint, CheckpointError, verified
from dm2_ray.errors import UserError
from dm2_ray.files import write_atomically
from dm2_ray.terminal import one_line
from dm2_ray.timeouts import CallTimeout, call_with_timeout

Answer = TypeVar("Answer")

# Of one look at a place that answers: connecting, a few small requests, and their repetitions.
ANSWER_TIMEOUT_S = 30.0
# Of one request of them, without a single byte on its way, and of its repetitions.
REQUEST_S = 5.0
S3_ATTEMPTS = 2
RETRIES_S = 20
CHECKPOINTS = "checkpoints"
SECRET_KEYS = {"access_key", "secret_key", "access_token", "session_token", "account_key", "sas_token"}


class RemoteCopyError(UserError, ValueError):
    """A place for copies cannot be used, or holds no run; the message is one line."""


class RemoteCopy:
    """One run's copy.

    Args:
        uri: Of the run itself; `uri_join` makes one of a place for many runs.

    Raises:
        RemoteCopyError: No file system is known for the URI, or it holds a secret.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files, self._base = _file_system(uri)

    def read(self, name: str) -> bytes | None:
        """Content of a file; None where there is none. Raises OSError."""
        path = f"{self._base}/{name}"
        if self._files.get_file_info(path).type != pafs.FileType.File:
            return None
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file whole: a copy that is cut short leaves the earlier content.

        Raises:
            OSError: The place does not take it, or does not give back what it took.
        """
        folder, _, last = f"{self._base}/{name}".rpartition("/")
        temporary = f"{folder}/.{last}.tmp"
        self._files.create_dir(folder, recursive=True)
        self._put(temporary, content)
        self._files.move(temporary, f"{folder}/{last}")

    def checkpoints(self) -> list[Checkpoint]:
        """What the manifests of the copied checkpoints say, oldest first; `path` holds no more than the name."""
        found = []
        for name in self._names():
            content = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
            if content is None:
                continue
            try:
                found.append(Checkpoint.of_manifest(Path(name), content))
            except CheckpointError:
                continue
        return found

    def copy_checkpoint(self, checkpoint: Checkpoint, fence: Callable[[], None]) -> None:
        """Copies a checkpoint, reads it back, and adds its manifest.

        Args:
            fence: Called before the manifest is written; raises where another process has taken over.

        Raises:
            OSError, CheckpointError: It cannot be copied, or not be read; then the copy has no manifest.
        """
        name = checkpoint.path.name
        folder = f"{self._base}/{CHECKPOINTS}/{name}"
        manifest = (checkpoint.path / MANIFEST).read_bytes()
        there = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
        if there is not None:
            if Checkpoint.of_manifest(checkpoint.path, there).sha256 == dict(checkpoint.sha256):
                # A win rate that became known later is all that a manifest of the same files can have gained.
                if there != manifest:
                    self.write(f"{CHECKPOINTS}/{name}/{MANIFEST}", manifest)
                return
            self._files.delete_file(f"{folder}/{MANIFEST}")
        self._files.create_dir(folder, recursive=True)
        for file, expected in checkpoint.sha256.items():
            content = (checkpoint.path / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise CheckpointError(f"{checkpoint.path}: {file} was altered or cut short; not copied")
            self._put(f"{folder}/{file}", content)
        fence()
        self.write(f"{CHECKPOINTS}/{name}/{MANIFEST}", manifest)

    def remove_checkpoint(self, name: str) -> None:
        """Removes a copied checkpoint, its manifest first. Raises OSError."""
        folder = f"{self._base}/{CHECKPOINTS}/{name}"
        self._files.delete_file(f"{folder}/{MANIFEST}")
        self._files.delete_dir(folder)

    def fetch_checkpoint(self, name: str, root: Path) -> Checkpoint:
        """Brings a copied checkpoint into a directory of checkpoints, and verifies it there.

        Raises:
            OSError: It cannot be read or written.
            CheckpointError: It is not what was saved.
        """
        place = root / name
        content = self.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
        if content is None:
            raise CheckpointError(f"{self.uri}: {name} has no manifest")
        parts = {}
        for file, expected in Checkpoint.of_manifest(place, content).sha256.items():
            # A manifest from a stranger must not write outside of the checkpoint.
            if Path(file).name != file:
                raise CheckpointError(f"{self.uri}: {name} names a file outside of it: {file!r}")
            part = self.read(f"{CHECKPOINTS}/{name}/{file}")
            if part is None:
                raise CheckpointError(f"{self.uri}: {file} of {name} is missing")
            if hashlib.sha256(part).hexdigest() != expected:
                raise CheckpointError(f"{self.uri}: {file} of {name} was altered or cut short")
            parts[file] = part
        for file, part in parts.items():
            write_atomically(place / file, part)
        write_atomically(place / MANIFEST, content)
        return verified(place)

    def probe(self) -> None:
        """Writes a small file, reads it and removes it. Raises OSError where that cannot be done."""
        name = ".dm2-ray-probe"
        self.write(name, b"x")
        self._files.delete_file(f"{self._base}/{name}")

    def _put(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)
        with self._files.open_input_stream(path) as stream:
            if hashlib.sha256(stream.read()).digest() != hashlib.sha256(content).digest():
                raise OSError(f"{path} reads otherwise than it was written")

    def _names(self) -> list[str]:
        selector = pafs.FileSelector(f"{self._base}/{CHECKPOINTS}", allow_not_found=True)
        return sorted(
            info.base_name for info in self._files.get_file_info(selector) if info.base_name.startswith(PREFIX)
        )


def uri_join(uri: str, name: str) -> str:
    """URI of something in the place that `uri` names; options after a `?` stay at the end."""
    place, mark, options = uri.partition("?")
    return f"{UPath(place) / name}{mark}{options}"


def uri_parent(uri: str) -> tuple[str, str]:
    """Inverse of `uri_join`: the place, and the name in it."""
    path, mark, options = uri.partition("?")
    return f"{UPath(path).parent}{mark}{options}", UPath(path).name


def check_place(uri: str) -> None:
    """Refuses a place for copies that cannot be written to, within ANSWER_TIMEOUT_S.

    Raises:
        RemoteCopyError: One line that says why.
    """
    call_or_refuse(uri, lambda: RemoteCopy(uri).probe())


def call_or_refuse(uri: str, ask: Callable[[], Answer]) -> Answer:
    """What `ask` finds out at a place, if that comes within ANSWER_TIMEOUT_S.

    Raises:
        RemoteCopyError: It took too long, or the file system refused.
    """
    try:
        # The file systems' own time limits and repetitions add up to minutes.
        return call_with_timeout(ask, ANSWER_TIMEOUT_S)
    except CallTimeout:
        raise RemoteCopyError(f"{uri} does not answer within {ANSWER_TIMEOUT_S:.0f} s") from None
    except (OSError, pa.ArrowException) as error:
        raise RemoteCopyError(f"{uri} cannot be used: {one_line(error)}") from error


def _file_system(uri: str) -> tuple[pafs.FileSystem, str]:
    parts = urlsplit(uri)
    if parts.username is not None or SECRET_KEYS & set(parse_qs(parts.query)):
        raise RemoteCopyError(
            f"{parts.scheme}://{parts.hostname or ''}…: credentials do not belong into a URI, which is written into "
            "configurations; give them to the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS)"
        )
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
    """The same, but that gives up within seconds: a process does not end before its last request has."""
    named = {name: options[name][-1] for name in ("scheme", "endpoint_override") if name in options}
    return pafs.S3FileSystem(
        region=files.region,
        connect_timeout=REQUEST_S,
        request_timeout=REQUEST_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
        **named,
    )
