"""`dm2 maps`, and scenarios in all other commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.tiny_runs import TINY, dm2

from dm2_ray.world import SCRIPTED_TEAMS, load_map, map_names, scenario_names

CONTENT = {
    "name": "ambush",
    "episode_limit": 30,
    "agents": [{"kind": "stalker", "count": 2, "x": 8, "y": 8}],
    "enemies": [{"kind": "zealot", "at": [[15, 15]]}],
    "terrain": {"size": [16, 16]},
}


def test_a_reader_that_has_seen_enough_is_no_error_to_tell_of() -> None:
    command = [sys.executable, "-m", "dm2_ray.cli", "maps", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return path


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("maps", "list") == 0
    out = capsys.readouterr().out
    maps, scenarios = out.split("packaged scenarios")
    for name in map_names():
        assert f"  {name} " in maps
    for name in scenario_names():
        assert f"  {name} " in scenarios
    assert "1 colossus, 3 stalkers, 5 zealots" in maps
    assert dm2("maps", "list", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in record["maps"]] == list(map_names())
    assert [entry["name"] for entry in record["scenarios"]] == list(scenario_names())
    first = record["maps"][0]
    assert first == {"name": "3m", "agents": {"marine": 3}, "enemies": {"marine": 3}, "n_agents": 3, "n_enemies": 3,
                     "episode_limit": 60}  # fmt: skip


def test_show_a_map(capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("maps", "show", "MMM2") == 0
    out = capsys.readouterr().out
    assert "n_actions       18" in out and "state           322" in out and "max reward      1205" in out
    assert "observation     176 = move 4 + enemies 12 x 8 + allies 9 x 8 + own 4" in out
    assert "attack-move to (9, 16)" in out and "agents   2-8   marine" in out
    assert out.count("A") > 5 and out.count("E") > 5
    assert dm2("maps", "show", "2m_vs_1z", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["n_actions"], record["obs_shape"], record["state_shape"], record["max_reward"]) == (7, 16, 26, 360)
    assert record["enemy_order"] == {"kind": "attack_move", "start": [13, 12], "end": [19, 12]}
    assert len(record["drawing"]) == 33
    assert [unit["kind"] for unit in record["units"]] == ["marine", "zealot"]


def test_show_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("maps", "show", file) == 0
    out = capsys.readouterr().out
    assert "ambush: scenario, 2 stalkers against 1 zealot" in out
    assert "\n15 ...............E\n" in out
    assert dm2("maps", "show", "2m_vs_2z") == 2
    assert "did you mean '2m_vs_1z'" in capsys.readouterr().err


def test_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("maps", "check", file) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{file}: valid; ambush, 2 stalkers against 1 zealot on 16 x 16 cells, 30 env steps\n"
    assert captured.err == ""
    rows = ["." * 12 + "#" + "..."] * 16
    file.write_text(yaml.safe_dump({**CONTENT, "terrain": {"rows": rows}}))
    assert dm2("maps", "check", file) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == captured.err.count("\n") == 1
    assert "2 parts of the ground with no way between them (2, 1 units)" in captured.err


def test_check_refuses_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("episode_limit: 3\nagents:\n- {kind: marina, x: 1, y: 1}\nenemies:\n- {kind: zealot, x: 9, y: 9}\n")
    process = subprocess.run(
        [sys.executable, "-m", "dm2_ray.cli", "maps", "check", path], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith(f"dm2: {path}, line 3: agents.0.kind: must be one of ")
    assert process.stderr.endswith("got 'marina'; did you mean marine?\n") and process.stderr.count("\n") == 1


def test_difficulty(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("maps", "difficulty", "--battles", 70, file, "2m_vs_1z", "--json") == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert [entry["map"] for entry in record["maps"]] == ["ambush", "2m_vs_1z"]
    for entry in record["maps"]:
        assert entry["battles"] == 70 and tuple(entry["teams"]) == SCRIPTED_TEAMS
        for team in entry["teams"].values():
            assert team["win_rate"] == team["won"] / 70
            assert 0 <= team["win_rate_low"] <= team["win_rate"] <= team["win_rate_high"] <= 1
    assert "[2/2] 2m_vs_1z  random 0.00" in captured.err
    assert dm2("maps", "difficulty", file, "2m_vs_1z", "--battles", 70) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| map | random | nearest | focus_fire | kite | hit_and_run |"
    kite = record["maps"][0]["teams"]["kite"]
    assert f"{kite['win_rate']:.2f} [{kite['win_rate_low']:.2f}, {kite['win_rate_high']:.2f}]" in table[2]


def test_a_run_on_a_scenario_needs_no_file_afterwards(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record = ["demos", "record", "scripted:kite", "--map", file, "--episodes", 6, "--out"]
    assert dm2(*record, "demos") == 0
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump({**CONTENT, "enemies": [{"kind": "zealot", "at": [[14, 15]]}]}))
    capsys.readouterr()

    train = ["train", "--variant", "dm2", "--demos", "demos", "--iterations", 1, *TINY]
    assert dm2(*train, "--map", changed) == 2
    error = capsys.readouterr().err
    assert "recorded in another scenario called ambush" in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()

    assert dm2(*train, "--map", file) == 0
    file.unlink()
    run = tmp_path / "runs" / "dm2-ambush-0"
    assert json.loads((run / "summary.json").read_text())["map"] == "ambush"
    assert dm2("resume", run, "--iterations", 2) == 0
    capsys.readouterr()
    assert dm2("evaluate", run, "--episodes", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["map"] == "ambush"
    assert dm2("demos", "record", run, "--episodes", 2, "--out", "more") == 0
    assert dm2("demos", "record", run, "--episodes", 2, "--out", "most", "--map", changed) == 2
    capsys.readouterr()
    assert dm2("demos", "inspect", "more", "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["map"] == "ambush" and manifest["scenario_hash"] != load_map(changed).scenario_hash


def test_workers_in_other_processes_need_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # workers of a Ray that runs already are elsewhere
    train = ["train", "--variant", "ippo", "--map", file.name, "--iterations", 1]
    assert dm2(*train, *TINY, "rollout.env_runners=1", "rollout.env_steps=128") == 0
    assert (tmp_path / "runs" / "ippo-ambush-0" / "summary.json").is_file()
