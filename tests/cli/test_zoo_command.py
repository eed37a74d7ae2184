"""`dm2 zoo …`, and teams of the zoo wherever a command takes a team."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.tiny_runs import dm2, records, train

from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.zoo import list_teams, open_team
from dm2_ray.zoo.manifest import WEIGHTS_NAME

TEAM = "zoo:3m/ippo-1.0"
RUN = Path(__file__).parents[1] / "data" / "made_by_0.1.0" / "run"


Refusal = Callable[[Sequence[object]], str]


def test_the_list_names_every_team(capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("zoo", "list") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["team", "map", "variant", "greedy", "sampled", "env", "steps", "engine", "size"]
    assert [row.split()[0] for row in rows] == [manifest.reference for manifest in list_teams()]
    assert dm2("zoo", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    (mine,) = [entry for entry in listed if entry["team"] == TEAM]
    assert (mine["map"], mine["variant"], mine["weights_sha256"]) == ("3m", "ippo", open_team(TEAM).digest)


def test_a_team_of_the_zoo_is_evaluated(capsys: pytest.CaptureFixture[str], refusal_of: Refusal) -> None:
    assert dm2("evaluate", TEAM, "--episodes", 16, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["checkpoint"], result["map"], result["episodes"]) == (TEAM, "3m", 16)
    assert result["win_rate"] > 0.6
    assert f"{TEAM} was trained on 3m, not on 8m" in refusal_of(["evaluate", TEAM, "--map", "8m"])
    assert "did you mean 'zoo:3m/ippo-1.0'" in refusal_of(["evaluate", "zoo:3m/ippo-1"])


def test_a_team_of_the_zoo_is_recorded_and_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal_of: Refusal
) -> None:
    command = ["demos", "record", TEAM, "--episodes", 8, "--stochastic"]
    assert dm2(*command, "--out", tmp_path / "demos") == 0
    policy = JointTrajectories.open(tmp_path / "demos").manifest.policy
    assert (policy.kind, policy.source, policy.checkpoint_hash) == ("checkpoint", TEAM, open_team(TEAM).digest)
    assert policy.trained_env_steps == open_team(TEAM).env_steps
    assert dm2("demos", "inspect", tmp_path / "demos") == 0
    assert TEAM in capsys.readouterr().out
    again = refusal_of([*command, "--win-rate", 0.5, "--out", tmp_path / "level"])
    assert f"--win-rate chooses among the checkpoints of a run directory; {TEAM} is one team" in again
    settings = ["--map", "3m", "--demos", tmp_path / "demos", "--iterations", 1, "demonstrations.episodes_per_draw=4"]
    assert train(tmp_path / "run", *settings, variant="dm2") == 0


def test_a_replay_shows_the_team_of_the_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("replay", TEAM, "--out", tmp_path / "battle.html") == 0
    page = (tmp_path / "battle.html").read_text()
    assert "ippo" in page and "action_probability" in page and '"value"' not in page


def test_a_team_of_the_zoo_demonstrates_live(tmp_path: Path, refusal_of: Refusal) -> None:
    live = ["--demos", TEAM, "--iterations", 1, "demonstrations.source=live", "demonstrations.episodes_per_draw=4"]
    assert train(tmp_path / "run", "--map", "3m", *live, variant="dm2") == 0
    assert records(tmp_path / "run")[0]["experts"]["win_rate"] > 0.3
    said = refusal_of(["train", "--variant", "dm2", "--map", "8m", "--run-dir", tmp_path / "other", *live])
    assert f"live expert {TEAM} was trained with map_name 3m, but this run has 8m" in said
    live[1] = "zoo:3m/unknown"
    assert "live expert: no team zoo:3m/unknown in the zoo" in refusal_of(
        ["train", "--variant", "dm2", "--map", "3m", "--run-dir", tmp_path / "other", *live]
    )


def test_a_run_is_packed_and_plays_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["zoo", "pack", RUN, "--name", "mine", "--battles", 4, "--out", tmp_path]
    assert dm2(*command) == 0
    path = tmp_path / "2m_vs_1z" / "mine"
    assert capsys.readouterr().out.startswith(f"{path}: ippo on 2m_vs_1z, ")
    assert dm2("zoo", "list", "--directory", tmp_path) == 0
    assert str(path) in capsys.readouterr().out
    assert dm2("evaluate", path, "--episodes", 4) == 0
    assert dm2("demos", "record", path, "--episodes", 4, "--out", tmp_path / "demos") == 0
    assert JointTrajectories.open(tmp_path / "demos").manifest.policy.source == str(path)
    assert dm2(*command, "--json") == 0  # again
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out.splitlines()[-1])] == ["mine"]


def test_damage_is_one_line_with_every_command(tmp_path: Path, refusal_of: Refusal) -> None:
    path = Path(shutil.copytree(open_team(TEAM).path, tmp_path / "team"))
    weights = (path / WEIGHTS_NAME).read_bytes()
    (path / WEIGHTS_NAME).write_bytes(weights[:-1])
    for command in (
        ["evaluate", path],
        ["replay", path, "--out", tmp_path / "battle.html"],
        ["demos", "record", path, "--episodes", 4, "--out", tmp_path / "demos"],
    ):
        assert f"{path / WEIGHTS_NAME} was altered or truncated" in refusal_of(command)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "team"]
