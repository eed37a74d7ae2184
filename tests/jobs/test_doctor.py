"""`dm2 doctor` finds what is wrong with a machine, and says what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dm2_ray.cli import main

pytestmark = pytest.mark.cli


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)


def findings(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, tuple[str, str]]]:
    code = main(["doctor", "--json", *map(str, arguments)])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, {entry["check"]: (entry["level"], f"{entry['what']} — {entry['cure']}") for entry in found}


def test_a_machine_that_runs_the_tests_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, found = findings(capsys, "--run-dir", tmp_path / "not" / "yet", "--variant", "dm2", "--map", "3m")
    assert code == 0
    assert {"python", "ray", "run directory", "/dev/shm", "wandb", "gpu", "starcraft", "smac"} <= set(found)
    assert found["ray"][0] == "ok"
    assert "tracking.wandb is disabled" in found["wandb"][1]


def test_every_line_starts_with_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert all(line[:6] in ("ok    ", "warn  ", "fail  ") for line in capsys.readouterr().out.splitlines())


def test_starcraft_is_checked_if_it_is_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, found = findings(
        capsys, "--variant", "ippo", "--map", "3m", "world.backend=starcraft", f"world.starcraft.path={tmp_path}"
    )
    assert code == 1
    assert found["starcraft protocol"][0] == "ok"
    assert found["starcraft"][0] == "fail"
    assert "set SC2PATH" in found["starcraft"][1]


@pytest.mark.parametrize(("file", "level"), [("smac/facade.py", "warn"), ("smac/env/starcraft2/starcraft2.py", "ok")])
def test_the_other_smac_is_recognized(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, level: str
) -> None:
    installed = tmp_path / "smac-2.0.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: smac\nVersion: 2.0.0\n")
    (installed / "RECORD").write_text(f"{file},,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code, found = findings(capsys)
    assert code == 0
    assert found["smac"][0] == level
    assert ("pip uninstall smac" in found["smac"][1]) == (level == "warn")


def test_a_missing_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    _, found = findings(capsys, "--variant", "ippo", "--map", "3m", "learners.gpus_per_learner=0.5")
    assert found["gpu"][0] == "warn"
    assert "learners.gpus_per_learner is 0.5" in found["gpu"][1]


def test_wandb_without_a_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, found = findings(capsys, "--variant", "ippo", "--map", "3m", "tracking.wandb=online")
    assert code == 0
    assert found["wandb"][0] == "warn"
    assert "WANDB_MODE is offline" in found["wandb"][1]


def test_a_cluster_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(capsys, "--address", "http://127.0.0.1:9")
    assert code == 1
    assert found["address"][0] == "fail"


def test_a_token_that_others_can_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("x")
    file.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    _, found = findings(capsys, "--address", "http://127.0.0.1:9")
    assert found["token file"][0] == "warn"
    assert f"chmod 600 {file}" in found["token file"][1]
