"""Atomic file writes, hashes and locks.

A file is written under a temporary name, flushed to the disk and renamed: readers see either the old content or the new
one, and a killed process or a full disk leaves the old content.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` and creates parent directories. If it raises OSError, `path` is left unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Random, because processes on two machines may share a directory and have the same process id.
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Flushes a file's content, or the names in a directory, to the disk (a new name, too, is first only in memory)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def json_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping, in hexadecimal digits; it does not depend on the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def try_lock(file: int | IO[bytes]) -> bool:
    """Locks an open file, without waiting.

    The lock (flock) belongs to the open file. Processes that inherit the file share the lock; it is released when the
    last of them closes the file or dies in any way. A stopped process (SIGSTOP) keeps it.

    Returns:
        False if another process holds the lock; True if this process has it, or if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
