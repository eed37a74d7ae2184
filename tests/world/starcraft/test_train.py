"""The whole system on games: train, evaluate, record, with nothing changed but `world.backend`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_faults import await_end

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from dm2_ray.actors.ray_session import ray_session
from dm2_ray.cli import main
from dm2_ray.demonstrations import JointTrajectories

SMALL = [
    "rollout.env_runners=1",
    "rollout.battles_per_env_runner=8",
    "rollout.unit=episodes",
    "rollout.episodes=6",
    "policy.hidden_size=16",
    "ppo.epochs=1",
    "learners.processes=driver",
    "evaluation.episodes=2",
    "tracking.tensorboard=false",
]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session(needed_cpus=8):
        yield


def test_train_evaluate_record(
    installation, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, demonstrations = tmp_path / "run", tmp_path / "set"
    games = ["world.backend=starcraft", f"world.starcraft.path={installation.root}", "world.starcraft.max_games=2"]
    command = ["train", "--variant", "ippo", "--map", "3m", "--iterations", "1", "--run-dir", str(run)]
    installation.command("crash_after_steps", 100)
    assert main([*command, *SMALL, *games]) == 0
    (record,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert record["episodes"] == 6 and record["timing"]["battles_dropped"] >= 0
    assert len(installation.launches()) >= 2
    await_end(installation.launches(), 10.0)

    # A checkpoint knows its world.
    capsys.readouterr()
    assert main(["evaluate", str(run), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1
    assert main(["demos", "record", str(run), "--episodes", "1", "--out", str(demonstrations)]) == 0
    assert JointTrajectories.open(demonstrations).manifest.backend == "starcraft"

    # What goes wrong in a worker is said in one line as well.
    installation.command("refuse_map", 1)
    assert main([*command[:-1], str(tmp_path / "other"), *SMALL, *games]) == 1
    error = capsys.readouterr().err
    assert "could not be started 3 times in a row: create_game refused: InvalidMapData" in error.splitlines()[-1]
