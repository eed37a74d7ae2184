"""TensorBoard's event files, whose failure never stops training.

Events are written immediately, in the driver's main thread: tensorboardX's SummaryWriter uses a background thread,
which dies if the disk is full, and then waits for it forever.
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
    """The scalars of one run, in a new event file.

    Args:
        directory: Directory of the run's event files.
        purge_step: TensorBoard ignores the events of earlier files from this step on; None keeps all.
    """

    def __init__(self, directory: Path, purge_step: int | None) -> None:
        self._directory = directory
        self._writer: EventsWriter | None = None
        self._guarded(lambda: self._open(purge_step))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values under their names at a step."""
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._guarded(lambda: self._write(Event(step=step, summary=Summary(value=scalars))))

    def close(self) -> None:
        if self._writer is not None:
            self._guarded(self._writer.close)
            self._writer = None

    def _open(self, purge_step: int | None) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, which are unique only per second.
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
            logger.warning(f"Stopped writing TensorBoard events: {error}")
            self._writer = None
