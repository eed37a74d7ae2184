"""Checkpoints are complete, atomic and verified, and are read without being trusted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dm2_ray.checkpoints import (
    Checkpoint,
    CheckpointError,
    intact_checkpoints,
    open_checkpoint,
    prune_checkpoints,
    restored_learning_state,
    save_checkpoint,
)
from dm2_ray.checkpoints.saving import note_win_rate
from dm2_ray.config.schema import Experiment, MatchingSettings


def learning_state(version: int) -> dict[str, Any]:
    rng = np.random.default_rng(version)
    agents = {
        f"agent_{index}": {
            "agent": f"agent_{index}",
            "version": version,
            "modules": {f"agent_{index}": {"actor.head.weight": rng.standard_normal((3, 2)).astype(np.float32)}},
            "optimizers": {"actor": {"state": {0: {"step": np.float32(4.0)}}, "param_groups": [{"lr": 0.1}]}},
        }
        for index in range(2)
    }
    return {"env_steps": 100 * version, "episodes": 7 * version, "agents": agents}


def saved(root: Path, version: int, keep: int = 0, keep_best: int = 0, win_rate: float | None = 0.25) -> Checkpoint:
    experiment = Experiment(variant="ippo", matching=MatchingSettings(coefficient=0.0))
    checkpoint = save_checkpoint(root, experiment, learning_state(version), sizes=(2, 3, 4), win_rate=win_rate)
    prune_checkpoints(root, checkpoint, keep=keep, keep_best=keep_best)
    return checkpoint


def test_a_saved_state_is_read_back(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 3)
    found = open_checkpoint(checkpoint.path)
    assert found == checkpoint
    assert (found.iteration, found.env_steps, found.win_rate) == (3, 300, 0.25)
    assert found.experiment().variant == "ippo"
    state = restored_learning_state(found)
    expected = learning_state(3)["agents"]["agent_1"]
    weight = state["agents"]["agent_1"]["modules"]["agent_1"]["actor.head.weight"]
    assert np.array_equal(weight.numpy(), expected["modules"]["agent_1"]["actor.head.weight"])
    assert float(state["agents"]["agent_1"]["optimizers"]["actor"]["state"][0]["step"]) == 4.0


def test_the_newest_intact_checkpoint_is_found_and_old_ones_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for version in range(1, 6):
        saved(root, version, keep=3)
    assert [found.iteration for found in intact_checkpoints(root)] == [3, 4, 5]
    (root / "iteration_000005" / "agent_1.pt").write_bytes(b"cut")
    assert open_checkpoint(tmp_path).iteration == 4
    (root / "iteration_000004" / "manifest.json").unlink()
    assert open_checkpoint(root).iteration == 3


def test_skipped_checkpoints_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dm2_ray")
    for version in (1, 2, 3):
        saved(tmp_path, version)
    (tmp_path / "iteration_000003" / "agent_1.pt").write_bytes(b"cut")
    (tmp_path / "iteration_000002" / "manifest.json").unlink()
    assert open_checkpoint(tmp_path).iteration == 1
    messages = caplog.messages
    assert len(messages) == 2
    assert "iteration_000003: agent_1.pt was altered" in messages[0] and "iteration_000001 is used" in messages[0]
    assert "iteration_000002: unreadable manifest" in messages[1]


def test_the_best_checkpoint_is_kept_and_found(tmp_path: Path) -> None:
    for version, win_rate in enumerate((0.1, 0.6, None, 0.6, 0.2, None), start=1):
        saved(tmp_path, version, keep=2, keep_best=1, win_rate=win_rate)
    assert [found.iteration for found in intact_checkpoints(tmp_path)] == [2, 5, 6]
    assert open_checkpoint(tmp_path, best=True).iteration == 2
    assert open_checkpoint(tmp_path).iteration == 6
    (tmp_path / "iteration_000002" / "agent_0.pt").unlink()
    assert open_checkpoint(tmp_path, best=True).iteration == 5


def test_without_evaluations_no_checkpoint_is_the_best(tmp_path: Path) -> None:
    saved(tmp_path, 1, win_rate=None)
    with pytest.raises(CheckpointError, match="none of its checkpoints has been evaluated"):
        open_checkpoint(tmp_path, best=True)


def test_a_win_rate_can_be_noted_later(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1, win_rate=None)
    note_win_rate(checkpoint, 0.75)
    assert open_checkpoint(tmp_path, best=True).win_rate == 0.75
    assert open_checkpoint(tmp_path).sha256 == checkpoint.sha256


def test_a_damaged_later_checkpoint_costs_no_earlier_one(tmp_path: Path) -> None:
    """A run that skipped its damaged newest checkpoint must not lose the next one that it saves because of it."""
    for version in (1, 2, 9):
        saved(tmp_path, version)
    (tmp_path / "iteration_000009" / "agent_0.pt").write_bytes(b"cut")
    saved(tmp_path, 3, keep=1)
    assert open_checkpoint(tmp_path).iteration == 3
    saved(tmp_path, 9, keep=1)
    assert [found.iteration for found in intact_checkpoints(tmp_path)] == [9]


def test_a_disk_that_alters_bytes_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    def altering(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name == "agent_1.pt":
            content = path.read_bytes()
            path.write_bytes(content[:-3] + b"???")

    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="agent_1.pt was altered"):
        patch.setattr("os.fsync", altering)
        saved(tmp_path, 2, keep=1)
    assert [found.iteration for found in intact_checkpoints(tmp_path)] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["iteration_000001"]


def test_a_superseded_driver_publishes_nothing(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    calls: list[int] = []

    def superseded_meanwhile() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("superseded")

    fence = superseded_meanwhile
    experiment = Experiment(variant="ippo", matching=MatchingSettings(coefficient=0.0))
    with pytest.raises(RuntimeError, match="superseded"):
        save_checkpoint(tmp_path, experiment, learning_state(2), sizes=(2, 3, 4), win_rate=None, fence=fence)
    assert [path.name for path in tmp_path.iterdir()] == ["iteration_000001"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "agent_0.pt").write_bytes(b"x"), "agent_0.pt was altered"),
        (lambda path: (path / "agent_0.pt").unlink(), "agent_0.pt is missing"),
        (lambda path: (path / "manifest.json").write_text("{"), "unreadable manifest"),
        (lambda path: (path / "manifest.json").write_text("{}"), "not a checkpoint of this version"),
    ],
)
def test_damage_is_reported_in_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    path = saved(tmp_path, 1).path
    damage(path)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_a_manifest_cannot_name_files_outside_of_its_directory(tmp_path: Path) -> None:
    path = saved(tmp_path / "checkpoints", 1).path
    (tmp_path / "elsewhere").write_bytes(b"")
    record = json.loads((path / "manifest.json").read_text())
    record["sha256"] = {"../../elsewhere": "0"}
    (path / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="missing"):
        open_checkpoint(path)


def test_code_in_an_agent_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    checkpoint = saved(tmp_path / "checkpoints", 1)
    torch.save({"version": Evil()}, checkpoint.path / "agent_0.pt")
    with pytest.raises(CheckpointError, match="not a readable agent file"):
        checkpoint.agent_state(0)
    assert not (tmp_path / "owned").exists()


def with_experts(root: Path) -> Checkpoint:
    state = learning_state(2)
    state["experts"] = {
        f"agent_{index}": {"agent_index": index, "scores": np.array([1.5, -index]), "alive": np.array([True, False])}
        for index in range(2)
    }
    return save_checkpoint(root, Experiment(), state, sizes=(2, 3, 4), win_rate=None)


def test_the_state_of_demonstration_sources_is_saved_beside_the_agents(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(with_experts(tmp_path / "with").path)
    assert {"experts_0.pt", "experts_1.pt"} <= set(checkpoint.sha256)
    found = restored_learning_state(checkpoint)["experts"]
    assert found["agent_1"]["agent_index"] == 1
    assert found["agent_1"]["scores"].numpy().tolist() == [1.5, -1.0]
    assert found["agent_1"]["alive"].numpy().tolist() == [True, False]
    assert "experts" not in restored_learning_state(open_checkpoint(saved(tmp_path / "without", 1).path))
    (checkpoint.path / "experts_1.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"experts_1.pt was altered"):
        open_checkpoint(checkpoint.path)
    with pytest.raises(CheckpointError, match=r"experts_1.pt: not a readable"):
        checkpoint.expert_state()


@pytest.mark.cli
def test_a_process_killed_while_saving_leaves_the_last_good_one(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_checkpoint import saved
version = 1
while True:
    saved(Path({str(tmp_path)!r}), version, keep=2)
    version += 1
"""
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", script])
        deadline = time.monotonic() + 60
        while not intact_checkpoints(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.11 * attempt + 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert open_checkpoint(tmp_path).iteration >= 1
    assert all(open_checkpoint(found.path) for found in intact_checkpoints(tmp_path))
