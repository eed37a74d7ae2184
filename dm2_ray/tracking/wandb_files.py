"""What W&B has already been told of a run, read from the files that it keeps beside it.

A file is a log of protobuf messages in LevelDB's framing: blocks of 32 KiB, in them pieces with a checksum (4 bytes), a
length (2) and a kind (1: whole, 2: first, 3: middle, 4: last).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

MAGIC = b":W&B"
HEAD_BYTES = 7
BLOCK_BYTES = 32768
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def last_step(run_dir: Path, run_id: str) -> int | None:
    """Highest step in W&B's files of a run, 0 where they hold none; None where there are no files.

    A process that was killed may have been about to write: what is cut short at the end of a file does not count.
    """
    paths = list(run_dir.glob(f"wandb/*run-*/run-{run_id}.wandb"))
    steps = [0]
    for path in paths:
        for message in _messages(path.read_bytes()):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            try:
                record.ParseFromString(message)
            except DecodeError:
                break
            if record.WhichOneof("record_type") == "history":
                steps.append(record.history.step.num)
    return max(steps) if paths else None


def _messages(content: bytes) -> Iterator[bytes]:
    if content[: len(MAGIC)] != MAGIC:
        return
    at, pieces = HEAD_BYTES, b""
    while at + HEAD_BYTES <= len(content):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < HEAD_BYTES:  # too little for a head: the rest of the block is empty
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind not in (WHOLE, FIRST, MIDDLE, LAST):
            at += left
            continue
        piece = content[at + HEAD_BYTES : at + HEAD_BYTES + length]
        if len(piece) < length:
            return
        at += HEAD_BYTES + length
        pieces = piece if kind in (WHOLE, FIRST) else pieces + piece
        if kind in (WHOLE, LAST):
            yield pieces
