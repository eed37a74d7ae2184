"""Text for people: a status line that updates itself, tables, durations, and errors on one line."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm


def write_line(line: str, stream: TextIO) -> None:
    """Writes a line that stays, above a status line if one is shown."""
    # Importing tqdm takes 40 ms, which `--help` need not spend. If it is not imported yet, there is no status line.
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=stream)
    else:
        stream.write(line + "\n")
    stream.flush()


class StatusLine:
    """A line that updates itself on a terminal; in a file or pipe, plain lines at longer intervals.

    Args:
        stream: Where to write.
        terminal_every_s: Minimum time between two updates on a terminal.
        plain_every_s: Minimum time between two lines elsewhere; None writes no lines there.
        keep_last: Whether the last line stays on the terminal after `close`.
        clock: A clock in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        terminal_every_s: float = 0.0,
        plain_every_s: float | None = 0.0,
        keep_last: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._every_s = terminal_every_s if self._is_terminal else plain_every_s
        self._keep_last = keep_last
        self._clock = clock
        self._last_shown = clock()
        self._line: tqdm[object] | None = None

    def is_due(self) -> bool:
        """Whether it is time for an update."""
        return self._every_s is not None and self._clock() - self._last_shown >= self._every_s

    def show(self, line: str) -> None:
        """Updates the line; without a terminal, writes a new one."""
        self._last_shown = self._clock()
        if not self._is_terminal:
            if self._every_s is not None:
                self.note(line)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        if self._line is None:
            self._line = _open_line(line, self._stream, self._keep_last)
        else:
            self._line.set_description_str(line)

    def note(self, line: str) -> None:
        """Writes a line that stays, above the one that updates itself."""
        write_line(line, self._stream)

    def close(self) -> None:
        """Ends the line that updates itself; further output starts on a new line."""
        if self._line is not None:
            self._line.close()
            self._line = None


def _open_line(line: str, stream: TextIO, keep: bool) -> tqdm[object]:
    from tqdm import tqdm  # imported on use, see write_line

    class Line(tqdm):
        monitor_interval = 0  # no background thread: the line changes only in `show`

    return Line(desc=line, file=stream, bar_format="{desc}", leave=keep)


def format_table(rows: Sequence[Sequence[str]], *, numbers: bool = False, indent: str = "") -> str:
    """The rows as aligned columns, two spaces apart; with `numbers`, all but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = ["<", *[">" if numbers else "<"] * (len(widths) - 1)]
    lines = (
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)) for row in rows
    )
    return "\n".join((indent + line).rstrip() for line in lines)


def format_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds, as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def one_line(error: BaseException, width: int = 300) -> str:
    """An error's message without line breaks, cut to `width`; the name of its class if it has no message."""
    return " ".join(str(error).split())[:width] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for errors whose message contains a traceback."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def shorten(text: str, width: int) -> str:
    """At most `width` characters; three dots replace the end of a longer text."""
    return text if len(text) <= width else text[: width - 3] + "..."


def shorten_path(path: str, width: int = 70) -> str:
    """At most `width` characters; three dots replace the beginning of a longer path."""
    return path if len(path) <= width else "..." + path[3 - width :]
