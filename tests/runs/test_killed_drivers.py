"""Drivers may be killed at any moment: the resumed run equals the uninterrupted one, bit for bit."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.drivers import WITH_PROCESSES, address, driver, train_command
from support.tiny_runs import problems, records

from dm2_ray.checkpoints import intact_checkpoints
from dm2_ray.cli import main

ITERATIONS = 20


def undisturbed(run: Path, iterations: int, *settings: str) -> list[dict]:
    assert main(train_command(run, iterations, *settings)) == 0
    return records(run)


def killed_and_resumed(
    run: Path, kills: int, iterations: int, rng: random.Random, *settings: str, starting_s: float = 0.0
) -> list[float]:
    """Kills a run's driver `kills` times at random moments, then lets it end; returns how long each driver lived, in s.

    Args:
        starting_s: Time that a driver takes to import, connect and restore; with 0 it is only killed later than that.
    """
    command, lived = train_command(run, iterations, *settings), []
    for _ in range(kills):
        done, began = len(records(run)), time.monotonic()
        with driver(*command) as process:
            # One time in four while it starts and restores, otherwise during an iteration or the save after it.
            iteration = rng.randint(0 if starting_s else 1, 3)
            process.wait_for(run, done + iteration)
            time.sleep(rng.uniform(0.0, 0.1 if iteration else starting_s))
            process.send(signal.SIGKILL)
            assert process.end()[0] == -signal.SIGKILL, "it had ended before: increase the iterations"
        lived.append(time.monotonic() - began)
        assert not intact_checkpoints(run / "checkpoints") or records(run), "a checkpoint without records"
        if (run / "config.yaml").exists():  # otherwise it was killed before it created the run
            command = ["resume", str(run), *address()]
    with driver(*command) as process:
        code, _, err = process.end(300)
    assert (code, problems(err)) == (0, [])
    return lived


def wandb_steps(run: Path) -> list[list[int]]:
    """Steps in each driver's W&B files, as W&B's own reader returns them."""
    found = []
    for directory in sorted(run.glob("wandb/offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(directory)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        messages = [json.loads(line) for line in out.splitlines()]
        found.append([entry["history"]["step"]["num"] for entry in messages if entry["type"] == "history"])
    return found


def test_killed_drivers_change_nothing(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed", ITERATIONS)
    run = tmp_path / "killed"
    killed_and_resumed(run, 1, ITERATIONS, random.Random(4), "tracking.wandb=offline")
    assert records(run) == expected
    assert json.loads((run / "generation.json").read_text())["number"] == 2
    # W&B has every iteration; only those that its service may have lost with the driver were logged twice.
    by_driver = wandb_steps(run)
    assert {step for steps in by_driver for step in steps} == set(range(1, ITERATIONS + 1))
    assert all(steps == sorted(set(steps)) for steps in by_driver)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed", 200)
    began = time.monotonic()
    lived = killed_and_resumed(tmp_path / "killed", 20, 200, random.Random(20), starting_s=4.0)
    print(f"20 kills, each after {min(lived):.1f} to {max(lived):.1f} s; {time.monotonic() - began:.0f} s in all")
    assert records(tmp_path / "killed") == expected


@pytest.mark.long
@pytest.mark.timeout(300)
def test_kills_with_processes_change_nothing(tmp_path: Path) -> None:
    """Here the rollout worker and the learners are processes of their own, which die with their driver."""
    settings = ["rollout.env_runners=1"]
    command = train_command(tmp_path / "undisturbed", 8, *settings, tiny=WITH_PROCESSES)
    assert main(command) == 0
    run, rng = tmp_path / "killed", random.Random(3)
    command = train_command(run, 8, *settings, tiny=WITH_PROCESSES)
    for _ in range(3):
        with driver(*command) as process:
            process.wait_for(run, min(len(records(run)) + rng.randint(1, 2), 7))
            time.sleep(rng.uniform(0.0, 0.5))
            process.send(signal.SIGKILL)
            process.end()
        command = ["resume", str(run), *address()]
    assert main(command) == 0
    assert records(run) == records(tmp_path / "undisturbed")


def test_a_damaged_newest_checkpoint_is_reported_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(train_command(run, 4)) == 0
    expected = records(run)
    shutil.copytree(run, tmp_path / "damaged")
    newest = tmp_path / "damaged" / "checkpoints" / "iteration_000004"
    (newest / "agent_1.pt").write_bytes((newest / "agent_1.pt").read_bytes()[:-1])
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "damaged")]) == 0
    out, err = capsys.readouterr()
    assert "iteration_000004: agent_1.pt was altered or truncated" in err
    assert "skipped, iteration_000003 is used" in err and len(problems(err)) == 1
    assert "at iteration 3" in err
    assert records(tmp_path / "damaged") == expected
    assert [found.iteration for found in intact_checkpoints(tmp_path / "damaged" / "checkpoints")] == [2, 3, 4]
