"""The recipe of the packaged teams: its commands, its mistakes, and the zoo that a small one makes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.tiny_runs import TINY, dm2

from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.zoo_recipe import build_zoo_plan, read_recipe
from dm2_ray.zoo import list_teams

SMALL = """
runs:
  2m_vs_1z/ippo:
    variant: ippo
    seed: 3
    env_steps: 600
    levels: [0, 0.1]
    settings:
      policy: {hidden_size: 8}
  3m/second:
    variant: mappo
    env_steps: 1000
    levels: [0.5]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_every_packaged_team_has_its_run_in_the_recipe() -> None:
    runs = read_recipe()[0].runs
    for manifest in list_teams():
        run = runs[f"{manifest.map}/{manifest.name.rsplit('-', 1)[0]}"]
        assert float(manifest.name.rsplit("-", 1)[1]) in run.levels
        assert (run.variant, run.seed) == (manifest.variant, manifest.training.seed)
        assert manifest.env_steps < 1.1 * run.env_steps
    assert build_zoo_plan(Path("zoo"), battles=1000).steps, "every setting of the recipe is valid"


def test_the_steps_of_a_recipe(small: Path) -> None:
    steps = build_zoo_plan(Path("out"), path=small, battles=7).steps
    assert list(steps) == ["runs/2m_vs_1z/ippo", "teams/2m_vs_1z/ippo", "runs/3m/second", "teams/3m/second"]
    train, pack, other, _ = steps.values()
    assert train.command() == (
        "dm2 train --variant ippo --map 2m_vs_1z --seed 3 --env-steps 600 --run-dir out/runs/2m_vs_1z/ippo "
        "policy.hidden_size=8 checkpoint.keep=0"
    )
    assert pack.command() == (
        "dm2 zoo pack out/runs/2m_vs_1z/ippo --name ippo --levels 0,0.1 --battles 7 --out out/teams"
    )
    assert pack.needs == (train.name,)
    assert [team.name for team in pack.teams] == ["ippo-0.0", "ippo-0.1"]
    assert other.experiment is not None and other.experiment.algorithm == "mappo"


@pytest.mark.parametrize(
    ("teams", "runs"),
    [
        (["3m"], ["3m/second"]),
        (["2m_vs_1z/ippo", "zoo:3m/second-0.5"], ["2m_vs_1z/ippo", "3m/second"]),
        (["zoo:2m_vs_1z/ippo-0.1"], ["2m_vs_1z/ippo"]),
    ],
)
def test_some_teams_are_chosen(small: Path, teams: list[str], runs: list[str]) -> None:
    steps = build_zoo_plan(Path("out"), teams, path=small, battles=7).steps
    assert [name for name in steps if name.startswith("runs/")] == [f"runs/{run}" for run in runs]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("variant: mappo", "variant: mapo"), "line 10: runs.3m/second: variant must be one of "),
        (("    variant: mappo\n", ""), "line 10: runs.3m/second.variant is missing"),
        (("hidden_size: 8", "hiden_size: 8"), "line 9: unknown key runs.2m_vs_1z/ippo.settings.policy.hiden_size"),
        (("levels: [0.5]", "levels: [50]"), "line 13: runs.3m/second.levels.0 must be at most 1.0, got 50"),
        (("levels: [0.5]", "levels: []"), "line 13: runs.3m/second.levels must be a list of at least 1, got "),
        (("  3m/second", "  3n/second"), "line 10: runs.3n/second: world.map: "),
        (("  3m/second", "  second"), "line 10: a run is called MAP/NAME, got 'second'"),
        (("\nruns:", "\nrun: {}\nruns:"), "line 2: unknown key run"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place(small: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in SMALL
    small.write_text(SMALL.replace(*change))
    with pytest.raises(ConfigError) as refusal:
        build_zoo_plan(Path("out"), path=small, battles=7)
    assert str(refusal.value).startswith(f"{small}, {message}") and "\n" not in str(refusal.value)


def test_the_command_prints_its_commands(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("zoo", "train", "3m", "--recipe", small, "--out", "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[:3] for line in lines] == [["dm2", "train", "--variant"], ["dm2", "zoo", "pack"]]
    assert dm2("zoo", "train", "zoo:3m/secnd-0.5", "--recipe", small, "--dry-run") == 2
    assert "the recipe has no 'zoo:3m/secnd-0.5'; did you mean '3m/second-0.5'" in capsys.readouterr().err


@pytest.mark.long
def test_a_small_zoo_is_trained_and_what_is_finished_is_kept(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The level 0.9 is out of reach: its team is missing and the command fails, but the others are packed."""
    settings: dict[str, dict[str, object]] = {}
    for setting in TINY:
        section, _, rest = setting.partition(".")
        key, _, value = rest.partition("=")
        settings.setdefault(section, {})[key] = json.loads(value) if value != "driver" else value
    run = {"variant": "ippo", "env_steps": 600, "levels": [0.0], "settings": settings}
    runs = {"2m_vs_1z/ippo": run, "2m_vs_1z/good": {**run, "seed": 1, "levels": [0.0, 0.9]}}
    small.write_text(json.dumps({"runs": runs}))
    command = ["zoo", "train", "--recipe", small, "--out", tmp_path / "zoo", "--jobs", 2, "--battles", 4]
    assert dm2(*command) == 1
    said = capsys.readouterr()
    assert "no checkpoint wins about 0.9" in said.out and "failed: teams/2m_vs_1z/good" in said.err
    assert "[4/4]" not in said.out
    teams = tmp_path / "zoo" / "teams"
    assert [manifest.name for manifest in list_teams(teams)] == ["good-0.0", "ippo-0.0"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("*.*z")}
    runs["2m_vs_1z/good"]["levels"] = [0.0]
    small.write_text(json.dumps({"runs": runs}))
    assert dm2(*command) == 0
    assert "4 already finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("*.*z")} == before
