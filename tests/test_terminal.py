"""Status lines, tables, durations and errors as people read them."""

from __future__ import annotations

import io
import sys

import pytest
from support.terminal import Terminal

from dm2_ray.terminal import (
    StatusLine,
    first_line,
    format_duration,
    format_markdown_table,
    format_table,
    one_line,
    shorten,
    shorten_path,
    write_line,
)


def test_a_status_line_replaces_itself_and_notes_stay_above_it() -> None:
    stream = Terminal()
    line = StatusLine(stream)
    line.show("a long first state")
    line.show("second")
    assert stream.screen() == ["second"]
    line.note("a note")
    assert stream.screen() == ["a note", "second"]
    line.close()
    assert stream.screen() == ["a note", ""]


def test_a_line_written_to_stderr_does_not_garble_the_status_line_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()  # both streams are the same terminal
    monkeypatch.setattr(sys, "stdout", screen)
    error = Terminal()
    error.write = screen.write  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", error)
    line = StatusLine(sys.stdout, keep_last=True)
    line.show("iteration 1")
    write_line("dm2: a warning", sys.stderr)
    assert screen.screen() == ["dm2: a warning", "iteration 1"]
    line.close()
    assert screen.screen() == ["dm2: a warning", "iteration 1", ""]


def test_a_file_gets_plain_lines_now_and_then() -> None:
    now = 0.0
    stream = io.StringIO()
    line = StatusLine(stream, terminal_every_s=1.0, plain_every_s=20.0, clock=lambda: now)
    for now in (5.0, 20.0, 25.0, 41.0):
        if line.is_due():
            line.show(f"at {now:g}")
    line.close()
    assert stream.getvalue() == "at 20\nat 41\n"


def test_a_line_for_terminals_only_writes_nothing_elsewhere() -> None:
    stream = io.StringIO()
    line = StatusLine(stream, plain_every_s=None)
    assert not line.is_due()
    line.show("state")
    line.note("result")
    line.close()
    assert stream.getvalue() == "result\n"


def test_tables() -> None:
    rows = [("name", "rate"), ("3m", "1.5"), ("corridor", "12")]
    assert format_table(rows, indent=" ").split("\n") == [" name      rate", " 3m        1.5", " corridor  12"]
    assert format_table(rows, numbers=True).split("\n") == ["name      rate", "3m         1.5", "corridor    12"]
    assert format_markdown_table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_text_for_one_line() -> None:
    assert format_duration(3725.4) == "1:02:05" and format_duration(59.6) == "0:01:00"
    assert one_line(ValueError("two\n  lines")) == "two lines" and one_line(ValueError("x" * 400)) == "x" * 300
    assert one_line(TimeoutError()) == first_line(TimeoutError()) == "TimeoutError"
    assert first_line(ValueError("cause\ntraceback")) == "cause"
    assert shorten("abcdefgh", 6) == "abc..." and shorten("abcdef", 6) == "abcdef"
    assert shorten_path("/runs/one/two", 7) == ".../two" and shorten_path("runs", 7) == "runs"
