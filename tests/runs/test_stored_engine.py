"""A run directory knows which engine its battles were played on."""

from pathlib import Path

import pytest

from dm2_ray.runs import run_directory
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.world.engine_settings import ENGINE_VERSION

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", load_experiment(variant="ippo", map_name="3m"))


def play(run: RunDirectory) -> None:
    """Adds the record of an iteration."""
    with run.metrics.open("a") as file:
        file.write('{"iteration": 1}\n')


def test_every_version_is_kept(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.engine() is None
    run.note_engine("embedded")
    assert run.engine() == f"embedded {ENGINE_VERSION}"
    play(run)
    run.note_engine("embedded")
    assert run.engine() == f"embedded {ENGINE_VERSION}"
    monkeypatch.setattr(run_directory, "ENGINE_VERSION", "next")
    run.note_engine("embedded")
    assert run.engine() == f"embedded {ENGINE_VERSION}, next"


def test_nothing_played_yet_leaves_no_version(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.note_engine("embedded")
    monkeypatch.setattr(run_directory, "ENGINE_VERSION", "next")
    run.note_engine("embedded")
    assert run.engine() == "embedded next"


def test_an_older_run_that_is_resumed_has_played_on_an_unknown_version(run: RunDirectory) -> None:
    play(run)
    run.note_engine("embedded")
    assert run.engine() == f"embedded unknown, {ENGINE_VERSION}"


def test_the_game_has_no_version_before_it_runs(run: RunDirectory) -> None:
    run.note_engine("starcraft")
    assert run.engine() == "starcraft"
