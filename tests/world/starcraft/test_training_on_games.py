"""The whole system on games: train, evaluate, record, with nothing changed but `world.backend`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from test_game_faults import await_end

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from dm2_ray.cli import main
from dm2_ray.demonstrations import JointTrajectories

pytestmark = pytest.mark.cli

SMALL = [
    "rollout.env_runners=1",
    "rollout.battles_per_env_runner=8",
    "rollout.unit=episodes",
    "rollout.episodes=6",
    "policy.hidden_size=16",
    "ppo.epochs=1",
    "learners.processes=driver",
    "evaluation.episodes=2",
    "checkpoint.every_iterations=1",
    "tracking.tensorboard=false",
]


def test_train_evaluate_record(
    installation, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, demonstrations = tmp_path / "run", tmp_path / "set"
    games = [
        "world.backend=starcraft",
        f"world.starcraft.path={installation.root}",
        "world.starcraft.max_games=2",
        "world.starcraft.restart_after_episodes=4",
    ]
    # In the second iteration every game has played its four battles; the one in its place is not to be had.
    installation.command("grant_games", 2)
    command = ["train", "--variant", "ippo", "--map", "3m", "--iterations", "2", "--run-dir", str(run)]
    assert main([*command, *SMALL, *games]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"dm2: StarCraft II ({installation.root}/Versions/Base75689/SC2_x64) could not be started")
    assert error.endswith("create_game was rejected: InvalidMapData a damaged map (pretended)")
    (record,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert record["episodes"] == 6 and record["timing"]["battles_dropped"] == 0
    assert len(installation.launches()) >= 2 + 3
    await_end(installation.launches(), 10.0)

    # What was learnt is there, and knows its world.
    installation.command("grant_games", 0)
    assert main(["evaluate", str(run), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1
    assert main(["demos", "record", str(run), "--episodes", "1", "--out", str(demonstrations)]) == 0
    assert JointTrajectories.open(demonstrations).manifest.backend == "starcraft"
