"""Runs and demonstration sets written by version 0.1.0 (tests/data/made_by_0.1.0) can still be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.tiny_runs import dm2, lines, train

OLD = Path(__file__).parents[1] / "data" / "made_by_0.1.0"

pytestmark = pytest.mark.ray


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


def test_an_old_run_is_evaluated(old_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("evaluate", old_run, "--episodes", 2) == 0
    assert "win rate" in capsys.readouterr().out


def test_an_old_run_is_resumed(old_run: Path) -> None:
    before = lines(old_run)
    assert dm2("resume", old_run, "--env-steps", 1100) == 0
    after = lines(old_run)
    assert after[: len(before)] == before and len(after) > len(before)


def test_an_old_run_is_recorded_and_an_old_set_is_learned_from(old_run: Path, tmp_path: Path) -> None:
    assert dm2("demos", "record", old_run, "--episodes", 2, "--out", tmp_path / "new") == 0
    assert dm2("demos", "verify", OLD / "demos") == 0
    settings = [f"demonstrations.path={OLD / 'demos'}", "demonstrations.episodes_per_draw=4", "stop.iterations=1"]
    assert train(tmp_path / "refused", *settings, variant="dm2") == 2, "the set was made with another engine version"
    assert train(tmp_path / "dm2", *settings, "demonstrations.other_engine=true", variant="dm2") == 0
    assert len(lines(tmp_path / "dm2")) == 1
