"""The baselines from the command line: the same run directory, resume and tools as DM2 has."""

import json
from pathlib import Path

import pytest
import yaml
from support import tiny_runs
from support.tiny_runs import dm2, record_script, records

MORE = [
    "cloning.epochs=2",
    "diagnostics.divergence_every=0",
    "evaluation.every_env_steps=400",
    "checkpoint.every_iterations=1",
]


def train(variant: str, run_dir: Path, *arguments: object) -> int:
    return tiny_runs.train(run_dir, *MORE, *arguments, variant=variant)


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    capsys.readouterr()
    assert dm2(*arguments, "--json") == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two teams' sets."""
    directory = tmp_path_factory.mktemp("sets")
    return [record_script(directory / name, script=name, episodes=16) for name in ("kite", "nearest")]


def test_mappo_writes_what_dm2_writes_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("mappo", whole, "--iterations", 4) == 0
    lines = records(whole)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]) - {"evaluation"} == {
        "iteration", "env_steps", "episodes", "win_rate", "return_mean", "episode_length_mean", "agents"
    }  # fmt: skip
    assert {"policy_loss", "value_loss", "grad_norm_critic"} <= set(lines[0]["agents"]["shared"])
    assert any(line.get("evaluation", {}).get("episodes") == 6 for line in lines)
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["status"], summary["iterations"]) == ("completed", 4)
    assert summary["final_evaluation"]["episodes"] == 6

    assert train("mappo", parts, "--iterations", 2) == 0
    assert dm2("resume", parts, "--iterations", 4) == 0
    assert records(parts) == lines
    for name in ("agent_0.pt", "agent_1.pt"):
        files = [run / "checkpoints" / "iteration_000004" / name for run in (whole, parts)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_tools_for_teams_work_on_mappos_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert train("mappo", run, "--iterations", 1) == 0
    assert printed(capsys, "evaluate", run, "--episodes", 7)["episodes"] == 7
    assert dm2("demos", "record", run, "--episodes", 5, "--stochastic", "--out", tmp_path / "set") == 0
    assert printed(capsys, "demos", "inspect", tmp_path / "set")["policy"]["kind"] == "checkpoint"
    assert dm2("replay", run, "--out", tmp_path / "replay.html") == 0
    page = (tmp_path / "replay.html").read_text()
    # What the actor says of the battle is shown; its central critic saw more than the page knows.
    assert "action_probability" in page and '"value"' not in page


def test_cloning_before_ippo_resumes_on_both_sides_of_its_end(sets: list[Path], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = ("--demos", sets[0], "cloning.iterations=2")
    assert train("bc_ippo", whole, *settings, "--iterations", 4) == 0
    lines = records(whole)
    for line in lines[:2]:
        assert (line["env_steps"], line["episodes"], line["win_rate"]) == (0, 0, None)
        assert "cloning_loss" in line["agents"]["agent_1"] and "policy_loss" not in line["agents"]["agent_1"]
    for line in lines[2:]:
        assert line["env_steps"] > 0 and line["win_rate"] is not None
        assert "policy_loss" in line["agents"]["agent_1"] and "cloning_loss" not in line["agents"]["agent_1"]
    # The clones are evaluated before their first battle.
    assert "evaluation" not in lines[0] and lines[1]["evaluation"]["episodes"] == 6

    assert train("bc_ippo", parts, *settings, "--iterations", 1) == 0
    for iterations in (3, 4):
        assert dm2("resume", parts, "--iterations", iterations) == 0
    assert records(parts) == lines


def test_behavior_cloning_ends_with_the_cloning(
    sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train("bc", run, "--demos", sets[0], "cloning.iterations=2") == 2
    assert "variant bc ends with the cloning: stop.iterations must be 1 to 2" in capsys.readouterr().err
    assert not run.exists()
    assert train("bc", run, "--demos", sets[0], "cloning.iterations=2", "--iterations", 2) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["iterations"], summary["env_steps"]) == (2, 0)
    assert summary["final_evaluation"]["episodes"] == 6
    capsys.readouterr()
    assert dm2("resume", run, "--iterations", 3) == 2
    assert "bc_ippo continues with PPO" in capsys.readouterr().err


def test_one_set_per_agent_makes_independent_experts(sets: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    # What a file says of a joint team gives way to what the command line says of independent ones.
    file = tmp_path / "mine.yaml"
    file.write_text(f"demonstrations: {{path: {sets[0]}}}\n")
    demos = ("--demos", sets[0], "--demos", sets[1])
    assert train("dm2_independent", run, *demos, "--config", file, "--iterations", 1) == 0
    experts = yaml.safe_load((run / "config.yaml").read_text())["demonstrations"]
    assert experts["path"] is None
    assert experts["paths_per_agent"] == [str(path) for path in sets]
    assert "discriminator_expert_accuracy" in records(run)[0]["agents"]["agent_1"]


def test_open_loop_teams_train_and_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("open_loop", tmp_path / "run", "--iterations", 2) == 0
    assert printed(capsys, "evaluate", tmp_path / "run", "--episodes", 7)["episodes"] == 7


def test_a_scripted_floor_is_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    floor = printed(capsys, "evaluate", "scripted:random", "--map", "3m", "--episodes", 50)
    assert (floor["episodes"], floor["map"], floor["win_rate"]) == (50, "3m", 0.0)
    script = printed(capsys, "evaluate", "scripted:focus_fire", "--map", "3m", "--episodes", 50)
    assert script["win_rate"] > 0.7
    assert printed(capsys, "evaluate", "scripted:focus_fire", "--map", "3m", "--episodes", 50) == script
    for arguments, message in (
        (["scripted:random"], "needs --map"),
        (["scripted:rnd", "--map", "3m"], "did you mean 'random'?"),
    ):
        assert dm2("evaluate", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
