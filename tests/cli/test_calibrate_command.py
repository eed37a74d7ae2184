"""`dm2 maps calibrate`: a tiny one from start to end, continued, and what it refuses."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import TINY, dm2, lines

from dm2_ray.experiments.measured_curves import load_measured_curves
from dm2_ray.world.engine_settings import ENGINE_VERSION

SETTINGS = [*TINY, "evaluation.every_env_steps=500", "checkpoint.every_iterations=2"]


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration of 3m, whose only run was trained in this process: the pipeline finds it finished."""
    directory = tmp_path_factory.mktemp("calibration") / "tiny"
    run = directory / "3m/ippo/seed_0"
    options = ["--variant", "ippo", "--map", "3m", "--seed", 0, "--env-steps", 1000, "--run-dir", run]
    assert dm2("train", *options, *SETTINGS) == 0
    return directory


def run_of(calibration: Path, copy: Path) -> Path:
    """A copy of its run, which a test may change."""
    shutil.copytree(calibration / "3m/ippo/seed_0", copy)
    return copy


def check_result(directory: Path, group: dict[str, Any], env_steps: int) -> None:
    """What was written about the only run, which is described by `group` of the JSON object."""
    assert (group["map"], group["algorithm"], group["engine"]) == ("3m", "ippo", f"embedded {ENGINE_VERSION}")
    assert group["settings"]["policy.hidden_size"] == 16
    assert group["env_steps"] >= env_steps
    assert [band["in_band"] for band in group["bands"]] == [None]  # other settings than the published ones
    assert json.loads((directory / "result.json").read_text())["groups"] == [group]
    assert (directory / "result.png").is_file() and "| 3m | ippo (" in (directory / "result.md").read_text()


def test_finished_runs_are_compared_and_saved(calibration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = calibration / "curves.json"
    arguments = ["maps", "calibrate", "3m", "--seeds", 1, "--env-steps", 1000, "--out", calibration, *SETTINGS]
    capsys.readouterr()
    assert dm2(*arguments, "--save", saved, "--json") == 0
    out = capsys.readouterr()
    assert "1 already finished" in out.err
    (group,) = json.loads(out.out)["groups"]
    check_result(calibration, group, 1000)
    (curve,) = load_measured_curves(saved)
    assert (curve.seed, curve.env_steps[-1]) == (0, group["env_steps"])
    assert {"dm2", "train", "policy.hidden_size=16", "3m"} <= set(shlex.split(curve.command))
    assert dm2(*arguments) == 0
    assert f"written to {calibration}: result.md, result.json, result.png" in capsys.readouterr().out
    # The same from the run itself.
    assert dm2("maps", "calibrate", "--from", calibration / "3m/ippo/seed_0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["groups"] == [group]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_trains_and_the_same_command_with_more_env_steps_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["maps", "calibrate", "3m", "--seeds", 1, "--out", tmp_path, *SETTINGS, "--json"]
    assert dm2(*arguments, "--env-steps", 1000) == 0
    out = capsys.readouterr()
    assert "3m/ippo/seed_0: started" in out.err
    check_result(tmp_path, json.loads(out.out)["groups"][0], 1000)
    before = lines(tmp_path / "3m/ippo/seed_0")
    assert dm2(*arguments, "--env-steps", 2000) == 0
    out = capsys.readouterr()
    assert "3m/ippo/seed_0: continued" in out.err
    check_result(tmp_path, json.loads(out.out)["groups"][0], 2000)
    assert lines(tmp_path / "3m/ippo/seed_0")[: len(before)] == before


def test_the_engine_of_a_run_is_known_or_has_to_be_said(
    calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(calibration, tmp_path / "run")
    stored = {"backend": "embedded", "versions": [ENGINE_VERSION]}
    assert json.loads((run / "engine.json").read_text()) == stored
    (run / "engine.json").write_text(json.dumps({**stored, "versions": ["1", ENGINE_VERSION]}))
    assert dm2("maps", "calibrate", "--from", run) == 2
    assert f"{run} was played on engine 'embedded 1, {ENGINE_VERSION}'" in capsys.readouterr().err
    (run / "engine.json").unlink()
    assert dm2("maps", "calibrate", "--from", run) == 2
    assert f"say it with --engine-version (today's is {ENGINE_VERSION})" in capsys.readouterr().err
    assert dm2("maps", "calibrate", "--from", run, "--engine-version", "1") == 2
    assert "was played on engine 'embedded 1'" in capsys.readouterr().err
    assert dm2("maps", "calibrate", "--from", run, "--engine-version", ENGINE_VERSION) == 0
    assert f"| embedded {ENGINE_VERSION} |" in capsys.readouterr().out


def test_a_calibration_is_not_continued_on_another_engine(
    calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(calibration, tmp_path / "3m/ippo/seed_0")
    (run / "engine.json").write_text(json.dumps({"backend": "embedded", "versions": ["1"]}))
    assert dm2("maps", "calibrate", "3m", "--seeds", 1, "--env-steps", 9000, "--out", tmp_path, *SETTINGS) == 2
    assert "was played on engine 'embedded 1'" in capsys.readouterr().err
    (run / "engine.json").unlink()
    assert dm2("maps", "calibrate", "3m", "--seeds", 1, "--env-steps", 9000, "--out", tmp_path, *SETTINGS) == 2
    assert "was played on engine 'unknown'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["5m_vs_7m"], "unknown map '5m_vs_7m'; did you mean '5m_vs_6m'"),
        (["2s_vs_1sc"], "no win rates on 2s_vs_1sc have been published; there are "),
        (["8m", "--from", "RUN"], "RUN is a run on 3m; the requested maps are 8m"),
        (["--from", "RUN", "SAME"], "are runs of the same settings and seed: give one of them"),
        (["--from", "nowhere"], "nowhere is not a run directory"),
        (["--show", "--save", "file.json"], "--save is for runs"),
        (["--show", "ppo.clip=0.1"], "ppo.clip=0.1 is a setting of runs"),
        (["3m", "--engine-version", "2"], "--engine-version is for the runs of --from"),
        (["--show", "--env-steps", "9000"], "--env-steps is for training"),
    ],
)
def test_wrong_input_is_refused_in_a_line(
    arguments: list[str], problem: str, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = calibration / "3m/ippo/seed_0"
    places = {"RUN": str(run), "SAME": str(tmp_path / "same")}
    if "SAME" in arguments:
        run_of(calibration, tmp_path / "same")
    capsys.readouterr()
    assert dm2("maps", "calibrate", *(places.get(word, word) for word in arguments)) == 2
    message = capsys.readouterr().err
    assert problem.replace("RUN", str(run)) in message
    assert message.count("\n") == 1


def test_packaged_curves_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = load_measured_curves()
    assert dm2("maps", "calibrate", "--show", "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    for curve in curves:
        assert f"| {curve.map} | {curve.algorithm}" in shown
    assert (tmp_path / "result.png").exists() == bool(curves)
    assert dm2("maps", "calibrate", "--show", "--json") == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert sum(len(group["seeds"]) for group in groups) == len(curves)
