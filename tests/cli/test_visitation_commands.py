"""`dm2 demos plot` and `dm2 evaluate --against` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_runs import dm2, record_script, train


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_script(tmp_path_factory.mktemp("sets") / "kite", episodes=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "ippo"
    assert train(path, "--iterations", 1) == 0
    return path


def test_plot_draws_a_set(experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.png"
    capsys.readouterr()
    assert dm2("demos", "plot", experts, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}: 16 joint episodes of {experts}\n"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_plot_waits_for_neither_torch_nor_ray(experts: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from dm2_ray.cli import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "demos", "plot", str(experts), "--agent", "1", "--out", "one.svg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert "</svg>" in (tmp_path / "one.svg").read_text()


def test_evaluate_compares_a_checkpoint_with_experts(
    experts: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*arguments: object) -> str:
        capsys.readouterr()
        assert dm2("evaluate", run, "--episodes", 12, *arguments) == 0
        return capsys.readouterr().out

    alone = json.loads(printed("--json"))
    record = json.loads(printed("--json", "--against", experts, "--out", tmp_path / "out"))
    against = record.pop("against")
    assert record == alone, "the comparison is of the battles that are played without it"
    assert against["team"]["win_rate"] == alone["win_rate"]
    assert against["team"]["return_mean"] == pytest.approx(alone["return_mean"])
    assert against["set"] == str(experts) and against["experts"]["episodes"] == 12
    assert set(against["agents"]) == {"agent_0", "agent_1"}
    assert against["agents"]["agent_0"]["divergence_accuracy"] > 0.6
    assert json.loads((tmp_path / "out" / "visitation.json").read_text()) == against
    assert (tmp_path / "out" / "visitation.png").read_bytes().startswith(b"\x89PNG")
    text = printed("--against", experts)
    assert "agent 1, marine" in text and "all, jointly" in text


def test_evaluate_compares_a_script_with_experts(experts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = ("evaluate", "scripted:nearest", "--map", "2m_vs_1z", "--episodes", 12, "--against", experts, "--json")
    assert dm2(*command) == 0
    assert json.loads(capsys.readouterr().out)["against"]["joint"]["misses_marginals"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--map", "3m", "--against", "SET"], "was recorded with map 2m_vs_1z, here map is 3m"),
        (["--map", "2m_vs_1z", "--against", "nowhere"], "demonstration set nowhere does not exist"),
        (["--map", "2m_vs_1z", "--against", "SET", "--episodes", "3"], "needs 4 different battles of each side, got 3"),
        (["--map", "2m_vs_1z", "--against", "SET", "--agent", "2"], "--agent 2: the team has agents 0 to 1"),
        (["--map", "2m_vs_1z", "--out", "here"], "give --against SET, too"),
    ],
)
def test_comparisons_that_cannot_be_are_refused_in_one_line(
    experts: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command = [str(experts) if word == "SET" else word for word in arguments]
    assert dm2("evaluate", "scripted:nearest", *command) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_plots_that_cannot_be_are_refused_in_one_line(
    experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert dm2("demos", "plot", experts, "--out", tmp_path / "set.bmp") == 2
    assert "expected one of .png, .svg, .pdf" in capsys.readouterr().err
    assert dm2("demos", "plot", tmp_path / "none", "--out", tmp_path / "set.png") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
