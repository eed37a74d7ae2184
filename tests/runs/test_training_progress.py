"""The progress of a run as shown on a terminal and in a log file."""

from __future__ import annotations

import io
import itertools
from typing import Any

from support.terminal import Terminal

from dm2_ray.config.schema import StopSettings
from dm2_ray.runs.training_progress import Progress


def record(iteration: int, **more: Any) -> dict[str, Any]:
    agents = {
        "agent_0": {"discriminator_expert_accuracy": 0.9, "discriminator_agent_accuracy": 0.7},
        "agent_1": {"discriminator_expert_accuracy": 0.5, "discriminator_agent_accuracy": 0.7},
    }
    return {"iteration": iteration, "env_steps": 1000 * iteration, "win_rate": 0.25, "agents": agents, **more}


def progress(stream: io.StringIO, **stop: int) -> Progress:
    seconds = itertools.count(0, 2)  # every iteration takes two seconds
    return Progress(StopSettings(**stop), stream=stream, clock=lambda: float(next(seconds)))  # type: ignore[arg-type]


def test_a_log_file_gets_one_plain_line_per_iteration() -> None:
    stream = io.StringIO()
    shown = progress(stream, env_steps=100_000)
    shown.update(record(1))
    shown.update(record(2, evaluation={"win_rate": 0.5}))
    shown.close()
    assert stream.getvalue().splitlines() == [
        "iteration 1  env steps 1,000/100,000  500/s  win 0.25  D acc 0.70  ETA 0:03:18",
        "iteration 2  env steps 2,000/100,000  500/s  win 0.25  D acc 0.70  greedy win 0.50  ETA 0:03:16",
    ]


def test_a_terminal_shows_one_line_that_updates_itself_and_keeps_evaluations() -> None:
    stream = Terminal()
    shown = progress(stream, iterations=10)
    for iteration in (1, 2):
        shown.update(record(iteration))
    shown.update(record(3, evaluation={"win_rate": 0.5}))
    shown.update(record(4))
    shown.note("saved checkpoint 4")
    shown.update(record(5))
    shown.close()
    lines = stream.screen()
    assert [line.split("  ")[0] for line in lines] == ["iteration 3/10", "saved checkpoint 4", "iteration 5/10", ""]
    assert "ETA 0:00:10" in lines[2]


def test_the_limit_reached_first_determines_the_time_left() -> None:
    stream = io.StringIO()
    progress(stream, env_steps=10_000, iterations=3).update(record(1))
    assert "ETA 0:00:04" in stream.getvalue()


def test_unknown_values_are_left_out() -> None:
    stream = io.StringIO()
    progress(stream).update({"iteration": 1, "env_steps": 0, "win_rate": None, "agents": {"agent_0": {"kl": 0.1}}})
    assert stream.getvalue() == "iteration 1  env steps 0  0/s\n"


def test_a_resumed_run_does_not_count_what_it_did_before() -> None:
    stream = io.StringIO()
    seconds = itertools.count(0, 2)
    resumed = Progress(
        StopSettings(iterations=12),
        first_env_steps=9000,
        first_iteration=9,
        stream=stream,
        clock=lambda: float(next(seconds)),
    )
    resumed.update(record(10))
    assert "500/s" in stream.getvalue() and "ETA 0:00:04" in stream.getvalue()


def test_the_line_fits_the_terminal(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    progress(stream, env_steps=100_000).update(record(1))
    assert max(map(len, stream.screen())) == 29
