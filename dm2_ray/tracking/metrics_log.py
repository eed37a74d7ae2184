"""metrics.jsonl: one JSON object per iteration.

Two equal runs write equal files except for the key `timing`, which holds everything that depends on the clock or the
machine. NaN and infinity become null, because JSON cannot represent them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dm2_ray.errors import UserError
from dm2_ray.files import write_atomically

Record = dict[str, Any]


class TrackingError(UserError, ValueError):
    """The records of a run cannot be read or continued; the message is one line."""


class MetricsLog:
    """Appends records to a metrics.jsonl; each is handed to the operating system before `append` returns.

    Attributes:
        records: The records that were kept when the file was opened.

    Args:
        path: The file; it is created if it does not exist.
        resumed_iteration: The iteration after which the run continues; None for a new run. Later records are removed,
            and so is an incomplete last line, so that the file ends up as if the run had never been interrupted.

    Raises:
        TrackingError: A new run would append to another run's records, or the records to continue are damaged.
    """

    def __init__(self, path: Path, resumed_iteration: int | None = None) -> None:
        self.records: list[Record] = []
        if resumed_iteration is not None and path.exists():
            self.records = [record for record in read_metrics(path) if record["iteration"] <= resumed_iteration]
            write_atomically(path, "".join(map(_line, self.records)).encode())
        elif path.exists() and path.stat().st_size > 0:
            raise TrackingError(
                f"{path} contains the records of another run: resume that one, or choose another directory"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._last_iteration = self.records[-1]["iteration"] if self.records else -1
        # Unbuffered: after a failed write, no half of a record must wait in memory to be written later.
        self._file = open(path, "ab", buffering=0)

    def append(self, record: Mapping[str, Any]) -> Record:
        """Writes one record and returns it as it was written.

        Raises:
            ValueError: Its `iteration` is not greater than that of the last record.
            TypeError: It contains something other than numbers, texts, lists and mappings.
            OSError: Writing failed (disk full); the file is left unchanged.
        """
        written = _plain(record)
        if written["iteration"] <= self._last_iteration:
            raise ValueError(f"iteration {written['iteration']} comes after iteration {self._last_iteration}")
        before = os.fstat(self._file.fileno()).st_size
        rest = memoryview(_line(written).encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            os.ftruncate(self._file.fileno(), before)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._last_iteration = written["iteration"]
        return written

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[Record]:
    """All complete records of a metrics.jsonl, oldest first; an incomplete last line is left out.

    Raises:
        TrackingError: A line is not a record.
        OSError: The file cannot be read.
    """
    # Every record ends with a newline, so anything after the last newline is an incomplete record.
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("iteration"), int):
            raise TrackingError(f"{path}, line {number} is not the record of an iteration: {line[:60]!r}")
        records.append(record)
    return records


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Names and values of a record's finite numbers, for tools that support only flat names.

    The level `agents` is omitted: agents/agent_0/policy_loss becomes agent_0/policy_loss.
    """
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flatten(value, prefix if not prefix and name == "agents" else f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and math.isfinite(value):
            yield prefix + name, float(value)


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value converted to JSON's types."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"a record must consist of numbers, texts, lists and mappings, found {type(value).__name__}")
