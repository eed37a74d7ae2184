"""Files that appear whole or not at all.

A file is written beside its place, synchronized to the disk and renamed over it: a reader sees the old content or the
new one, and a process that is killed, or a disk that fills up, leaves the old one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import IO


def write_atomically(path: Path, content: bytes) -> None:
    """Puts `content` at `path`; parent directories are made. Raises OSError and then leaves `path` as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes on two machines may share a directory and have the same number.
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
    """Makes a file's content, or the names in a directory, durable (a new name too is at first only in memory)."""
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


def try_lock(file: int | IO[bytes]) -> bool:
    """Locks an open file, without waiting.

    The lock (flock) belongs to the open file. Processes that inherit the file hold the lock, too; it is free as soon as
    the last of them has closed the file or died, however it died. A process that is stopped (SIGSTOP) keeps it.

    Returns:
        False where another process holds the lock; True where it is ours, or where the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
