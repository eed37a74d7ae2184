"""TensorBoard's event files, which never stand in training's way.

Written at once and in the driver's own thread: tensorboardX's SummaryWriter hands events to a thread that dies of a
full disk, and then waits for it for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

logger = logging.getLogger(__name__)


class TensorBoardEvents:
    """Scalars of one run, in a new event file.

    Args:
        directory: of all event files of the run.
        purge_step: what earlier files hold from this step on is taken back; None takes nothing back.
    """

    def __init__(self, directory: Path, purge_step: int | None) -> None:
        self._directory = directory
        self._writer: EventsWriter | None = None
        self._guarded(lambda: self._open(purge_step))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values under their names at a step."""
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._guarded(lambda: self._write(Event(step=step, summary=Summary(value=scalars))))

    def close(self) -> None:
        if self._writer is not None:
            self._guarded(self._writer.close)
            self._writer = None

    def _open(self, purge_step: int | None) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Files are named by the second and read in the order of their names.
        number = sum(1 for _ in self._directory.iterdir())
        self._writer = EventsWriter(str(self._directory / "events"), filename_suffix=f".{number:04d}")
        if purge_step is not None:
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Event) -> None:
        if self._writer is not None:
            event.wall_time = time.time()
            self._writer.write_event(event)
            self._writer.flush()

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            logger.warning(f"TensorBoard is told no more: {error}")
            self._writer = None
