"""Several nodes on one machine: a run grows with a new node, survives the loss of one, and ends in order without room.

All nodes share this machine's address; test_hosts.py has hosts with different addresses.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import TINY_WITH_PROCESSES

from dm2_ray.checkpoints import open_checkpoint
from dm2_ray.cli import main

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

TINY = [*TINY_WITH_PROCESSES, "rollout.env_steps=600", "rollout.tasks=3", "checkpoint.every_iterations=0"]


class Nodes:
    """The cluster of several_nodes.py."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program
        self.address = self._answer().split()[1]

    def add_node(self, num_cpus: int) -> None:
        self._tell(f"add {num_cpus}")

    def remove_node(self) -> None:
        self._tell("remove")

    def _tell(self, command: str) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write(command + "\n")
        self._program.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._program.stdout is not None
        for line in self._program.stdout:  # Ray prints lines, too
            if line.startswith(("ready ", "done")):
                return line.strip()
        raise AssertionError("the cluster has ended")


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("several_nodes.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    ) as program:
        try:
            yield Nodes(program)
            assert program.stdin is not None
            program.stdin.close()
            program.wait(60)
        finally:
            program.kill()


def start(cluster: Nodes, run: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dm2_ray.cli", "train", "--variant", "ippo", "--map", "2m_vs_1z"]
    return subprocess.Popen(
        [*command, "--run-dir", str(run), "--address", cluster.address, *TINY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONUNBUFFERED": "1"},
    )


def records(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return (
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if path.exists()
        else []
    )


def until(what: str, holds: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, f"the run ended before {what}: {process.communicate()[0]}"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def workers(run: Path) -> int:
    lines = records(run)
    return int(lines[-1]["timing"]["rollout_workers"]) if lines else 0


def without_timing(run: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "timing"} for line in records(run)]


def test_workers_are_added_and_lost_with_a_node_and_no_number_changes(cluster: Nodes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(
        cluster, run, "--iterations", "1000000",
        "rollout.env_runners=1", "rollout.max_env_runners=3", "learners.cpus_per_learner=0.2",
    )  # fmt: skip
    try:
        until("the first records", lambda: len(records(run)) > 2, process)
        assert workers(run) == 1  # two CPUs less one worker less two learners: no room for a second
        cluster.add_node(num_cpus=2)
        until("three workers", lambda: workers(run) == 3, process)
        cluster.remove_node()
        until("one worker again", lambda: workers(run) == 1, process)
        until("the node's loss on record", lambda: records(run)[-1]["timing"]["lost_node"] == 1, process)
        seen = len(records(run))
        until("more records", lambda: len(records(run)) > seen + 3, process)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
    finally:
        process.kill()
    found = without_timing(run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["faults"]["node"]["count"] == 1 and summary["faults"]["rollout_worker"]["count"] >= 1
    reference = tmp_path / "reference"
    assert main(
        ["train", "--variant", "ippo", "--map", "2m_vs_1z", "--run-dir", str(reference), *TINY, "--iterations",
         str(len(found)), "rollout.env_runners=0", "learners.processes=driver"]
    ) == 0  # fmt: skip
    assert without_timing(reference) == found


def test_a_run_whose_learners_fit_on_no_node_saves_and_ends(cluster: Nodes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cluster.add_node(num_cpus=4)
    # The two learners fit on the new node; without it, neither fits on the head, where a rollout worker is.
    process = start(
        cluster, run, "--iterations", "1000000", "rollout.env_runners=1", "learners.cpus_per_learner=1.8",
        "faults.wait_for_resources_s=25",
    )  # fmt: skip
    try:
        until("the first records", lambda: len(records(run)) > 2, process)
        cluster.remove_node()
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 3, output
    last = output.strip().splitlines()[-1]
    assert "did not come up within 25 s" in last and f"dm2 resume {run}" in last
    assert open_checkpoint(run).iteration == len(records(run)) > 0
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("drawing", ["nothing", "from_a_set"])
def test_rollout_workers_make_room_for_learners_that_lost_their_node(
    cluster: Nodes, tmp_path: Path, drawing: str
) -> None:
    run = tmp_path / "run"
    needs = ["learners.cpus_per_learner=0.5"]
    if drawing == "from_a_set":
        # The expert process, which is called first, loses its node together with the learners.
        experts = tmp_path / "set"
        record = ["demos", "record", "scripted:kite", "--map", "2m_vs_1z", "--episodes", "20", "--out", str(experts)]
        assert main(record) == 0
        needs = [
            "learners.cpus_per_learner=0.25", "demonstrations.cpus_per_expert_actor=0.5",
            "--variant", "dm2", f"demonstrations.path={experts}", "demonstrations.episodes_per_draw=8",
        ]  # fmt: skip
    cluster.add_node(num_cpus=2)
    # Both nodes are full. If the learners' node is lost, they do not fit on the other one beside its two workers.
    process = start(
        cluster, run, "--iterations", "1000000", "rollout.env_runners=3", *needs,
    )  # fmt: skip
    try:
        until("the first records", lambda: len(records(run)) > 2, process)
        cluster.remove_node()
        until("the node's loss on record", lambda: records(run)[-1]["timing"]["lost_node"] == 1, process, seconds=150)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
    finally:
        process.kill()
    assert json.loads((run / "summary.json").read_text())["faults"]["node"]["count"] == 1
