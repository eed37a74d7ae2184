"""A whole experiment in its own processes: stopped, killed, failing, and continued to the same result."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dm2_ray.cli import main

FILE = """
title: tiny
paper: not an experiment of the paper.
map: 2m_vs_1z
seeds: [0, 1]
env_steps: 3000
thresholds: [0.1]
settings:
  rollout: {env_runners: 0, battles_per_env_runner: 8, env_steps: 128}
  policy: {hidden_size: 16}
  ppo: {epochs: 2}
  discriminator: {updates: 3}
  demonstrations: {expert_actors: 0, episodes_per_draw: 8}
  learners: {processes: driver}
  evaluation: {every_env_steps: 400, episodes: 6}
  checkpoint: {every_iterations: 2, keep: 2}
  tracking: {tensorboard: false}
experts:
  ippo: {env_steps: 600}
sets:
  some: {expert: ippo, episodes: 20}
rows:
  dm2: {variant: dm2, set: some}
  ippo: {variant: ippo}
"""


def dm2(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def result(directory: Path) -> dict[str, Any]:
    """result.json without what depends on clock and place."""
    content = json.loads((directory / "result.json").read_text())
    return {key: value for key, value in content.items() if key not in ("timing", "commands")}


@pytest.fixture
def start() -> Iterator[Callable[[Path, Path], subprocess.Popen[str]]]:
    """Starts experiments in processes of their own; none outlives the test."""
    started: list[tuple[subprocess.Popen[str], Path]] = []

    def begin(file: Path, directory: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dm2_ray.cli", "experiment", file, "--run-dir", directory, "--jobs", "2"]
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        started.append((process, directory))
        return process

    yield begin
    for process, directory in started:
        process.kill()
        process.wait()
        for file in directory.rglob("*.pid"):
            command_line = Path(f"/proc/{file.read_text()}/cmdline")
            if command_line.exists() and str(directory).encode() in command_line.read_bytes():
                os.kill(int(file.read_text()), signal.SIGKILL)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def row_processes(directory: Path) -> dict[str, int]:
    """The latest process of every row and seed that has had one."""
    files = (directory / "logs/rows").rglob("*.pid")
    return {f"{file.parent.name}/{file.stem}": int(text) for file in files if (text := file.read_text())}


def num_records(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def run_by_hand(file: Path, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The commands that a dry run prints, undisturbed and in the tests' own process, and a report of their runs."""
    capsys.readouterr()
    assert dm2("experiment", file, "--run-dir", directory, "--dry-run") == 0
    for line in capsys.readouterr().out.splitlines():
        assert dm2(*shlex.split(line)[1:]) == 0
    shutil.copy(file, directory / "experiment.yaml")
    assert dm2("report", directory) == 0
    assert "written to" in capsys.readouterr().out
    return directory


@pytest.mark.timeout(600)
def test_killed_and_gone_on_with_it_ends_like_the_commands_by_hand(
    tmp_path: Path, start: Callable[[Path, Path], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    file, directory = tmp_path / "tiny.yaml", tmp_path / "killed"
    # A scripted expert: the test marked long trains its own.
    content = FILE.replace("seeds: [0, 1]", "seeds: [0]").replace("  ippo: {variant: ippo}\n", "")
    file.write_text(
        content.replace("experts:\n  ippo: {env_steps: 600}\n", "").replace("expert: ippo", "scripted: kite")
    )
    process = start(file, directory)
    run = directory / "rows/dm2/seed_0"
    wait_until(lambda: num_records(run) >= 3, process)
    process.kill()
    os.kill(row_processes(directory)["dm2/seed_0"], signal.SIGKILL)
    process.communicate()
    assert not (run / "summary.json").exists()
    assert dm2("experiment", file, "--run-dir", directory) == 0
    out = capsys.readouterr().out
    assert "1 already finished" in out
    assert "rows/dm2/seed_0: continued" in out
    assert "| dm2 | 1/1 |" in out
    assert result(run_by_hand(file, tmp_path / "by-hand", capsys)) == result(directory)
    (row,) = result(directory)["rows"]
    assert row["runs"] == {"planned": 1, "evaluated": 1, "finished": 1}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_stopped_killed_and_gone_on_with_it_ends_like_the_commands_by_hand(
    tmp_path: Path, start: Callable[[Path, Path], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    file, directory = tmp_path / "tiny.yaml", tmp_path / "killed"
    file.write_text(FILE)

    # A stop signal: everybody saves, exit code 130, and a report of what there is.
    process = start(file, directory)
    wait_until(lambda: num_records(directory / "experts/ippo/team_0") >= 2, process)
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 130
    assert "stopped by SIGTERM; give the same command again to continue" in out
    assert (directory / "result.md").is_file()

    # A sudden death in the middle of two runs, one of which dies too; the other is left behind at work.
    process = start(file, directory)
    # Each is held in its middle, behind a checkpoint, lest it comes to its end before the other has begun.
    stopped: dict[str, int] = {}

    def two_runs_are_stopped() -> bool:
        for name, pid in row_processes(directory).items():
            run = directory / "rows" / name
            if name not in stopped and num_records(run) >= 3 and not (run / "summary.json").exists():
                os.kill(pid, signal.SIGSTOP)
                stopped[name] = pid
        return len(stopped) == 2

    wait_until(two_runs_are_stopped, process)
    process.kill()
    process.communicate()
    (dead, its_pid), (alive, left_behind) = stopped.items()
    os.kill(its_pid, signal.SIGKILL)

    # The second start ends what was left behind, goes on with both, and finishes.
    process = start(file, directory)
    wait_until(lambda: row_processes(directory)[dead] != its_pid, process)
    time.sleep(1.0)
    os.kill(left_behind, signal.SIGCONT)
    out = process.communicate(timeout=900)[0]
    assert process.returncode == 0, out
    assert f"rows/{alive}: process {left_behind} of an earlier start is still working on it: stopping that" in out
    assert f"rows/{dead}: continued" in out and f"rows/{alive}: continued" in out
    assert "| dm2 | 2/2 |" in out and "| ippo | 2/2 |" in out
    assert (directory / "result.png").stat().st_size > 10_000

    # A third one repeats nothing.
    before = (directory / "rows/dm2/seed_0/metrics.jsonl").stat().st_mtime_ns
    capsys.readouterr()
    assert dm2("experiment", file, "--run-dir", directory) == 0
    assert "6 already finished" in capsys.readouterr().out
    assert (directory / "rows/dm2/seed_0/metrics.jsonl").stat().st_mtime_ns == before
    assert result(run_by_hand(file, tmp_path / "by-hand", capsys)) == result(directory)
    first = result(directory)["rows"][0]
    assert (first["name"], first["runs"]) == ("dm2", {"planned": 2, "evaluated": 2, "finished": 2})
    assert set(first["final_win_rate"]["by_seed"]) == {"0", "1"}
    assert first["uses"]["padding"] and first["uses"]["form"] == "airl" and first["uses"]["c"] > 0
    assert len(first["demonstrations"]["win_rates"]) == 1


def test_a_failing_run_is_shown_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, directory = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(FILE)
    # In the way of one run's directory, which training cannot know before it starts.
    obstacle = directory / "rows/ippo/seed_0"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("")
    options = ("--run-dir", directory, "--seeds", 1, "env_steps=300")
    code = dm2("experiment", file, *options, "experts=null", "sets=null", "rows.dm2=null",
               "rows.script.scripted=kite")  # fmt: skip
    assert code == 1
    out, err = capsys.readouterr()
    assert "rows/ippo/seed_0 FAILED (exit code 1)" in out
    assert "FileExistsError" in out
    assert "| script | 1/1 |" in out
    assert "failed: rows/ippo/seed_0; give the same command again to retry" in err
    record = json.loads((directory / "result.json").read_text())
    assert [(row["name"], row["runs"]["finished"]) for row in record["rows"]] == [("ippo", 0), ("script", 1)]
    assert 0 < record["rows"][1]["final_win_rate"]["median"] < 1


def test_what_is_there_with_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, directory = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(FILE)
    options = ("experts=null", "sets=null", "rows.dm2=null")
    assert dm2("experiment", file, "--run-dir", directory, "--dry-run", *options) == 0
    (command, _) = capsys.readouterr().out.splitlines()
    assert dm2(*shlex.split(command)[1:]) == 0
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert dm2("experiment", file, "--run-dir", directory, "ppo.clip=0.11", *options) == 2
    error = capsys.readouterr().err
    assert "rows/ippo/seed_0 was started with ppo.clip 0.2, now it is 0.11: choose another --run-dir" in error
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()
            and path.name != ".lock"} == before  # fmt: skip
