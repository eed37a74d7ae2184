"""`dm2 quickstart`: every step of it for real, at a scale that learns nothing."""

import json
from pathlib import Path

import pytest
from support import tiny_runs
from support.tiny_runs import dm2

from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.quickstart import introduction, load_quickstart
from dm2_ray.experiments.steps import ExperimentPlan, build_plan
from dm2_ray.experiments.zoo_recipe import read_recipe


def planned(directory: Path, *overrides: str, map_name: str | None = None, seeds: int = 1, full: bool = False,
            scale: float = 1.0) -> ExperimentPlan:  # fmt: skip
    matrix, source = load_quickstart(map_name=map_name, seeds=seeds, full=full, scale=scale, overrides=overrides)
    return build_plan(matrix, source, directory)


def test_the_whole_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first call fails to record; the second one trains only what is missing; the third one nothing."""
    directory, nothing = tmp_path / "q", tmp_path / "nothing"
    nothing.mkdir()

    def quickstart(*more: str) -> tuple[int, str, str]:
        code = dm2("quickstart", "--map", "3m", "--scale", "0.003", "--run-dir", directory, *tiny_runs.TINY,
                   "rollout.unit=env_steps", "sets.demonstrations.episodes=20", *more)  # fmt: skip
        return code, *capsys.readouterr()

    code, out, err = quickstart(f"sets.demonstrations.checkpoint={nothing}")
    assert code == 1
    first = out.splitlines()[0]
    assert "3m" in first and "minute" in first
    assert f"recording demonstrations failed; its log: {directory}/logs/sets/demonstrations/team_0.log" in err
    assert "DM² failed" in err and "the same command tries again" in err
    assert "| IPPO |" in out and "| DM² |" not in out

    code, out, err = quickstart()
    assert (code, err) == (0, "")
    assert "rows/ippo/seed_0: started" not in out and "rows/dm2/seed_0: started" in out
    for line in ("| DM² | 1 |", "| IPPO | 1 |", "The demonstrations won", f"picture: {directory / 'result.png'}"):
        assert line in out
    by_hand = [line.split()[1] for line in out.splitlines() if line.startswith("  dm2 ")]
    assert by_hand == ["demos", "train", "train"]
    assert (directory / "result.png").stat().st_size > 10_000
    assert "| DM² |" in (directory / "result.md").read_text()
    assert [row["name"] for row in json.loads((directory / "result.json").read_text())["rows"]] == ["dm2", "ippo"]
    for name in ("dm2", "ippo"):
        assert (directory / f"replay-{name}.html").read_text().startswith("<!DOCTYPE html>")

    code, out, err = quickstart()
    assert (code, err) == (0, "")
    assert "started, log in" not in out and "| DM² | 1 |" in out


def test_both_methods_learn_with_the_same_settings_and_budget(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=2)
    assert list(plan.steps) == ["sets/demonstrations/team_0", "rows/dm2/seed_0", "rows/ippo/seed_0", "rows/dm2/seed_1",
                                "rows/ippo/seed_1"]  # fmt: skip
    dm2, ippo = (plan.steps[f"rows/{name}/seed_0"].experiment for name in ("dm2", "ippo"))
    assert dm2 is not None and ippo is not None
    assert (dm2.stop, dm2.rollout, dm2.ppo, dm2.policy) == (ippo.stop, ippo.rollout, ippo.ppo, ippo.policy)
    assert (ippo.matching.coefficient, ippo.variant) == (0, "ippo")
    assert plan.steps["sets/demonstrations/team_0"].arguments[2].startswith("zoo:3s_vs_3z/")


def test_full_trains_the_demonstrators_and_scale_shortens_everything(tmp_path: Path) -> None:
    plan, short = planned(tmp_path, full=True), planned(tmp_path, full=True, scale=0.1)
    expert = plan.steps["experts/demonstrators/team_0"]
    assert plan.steps["sets/demonstrations/team_0"].needs == (expert.name,)
    for name, step in plan.steps.items():
        if step.experiment is not None:
            scaled = short.steps[name].experiment
            assert scaled is not None
            assert scaled.stop.env_steps == (step.experiment.stop.env_steps or 0) // 10
    assert "that is trained first" in introduction(plan)
    run, trained = read_recipe()[0].runs["3s_vs_3z/mappo-early"], expert.experiment
    assert trained is not None
    assert (run.variant, run.env_steps) == (trained.variant, trained.stop.env_steps)
    assert trained.rollout.episodes == run.settings.rollout.episodes


def test_another_map_needs_a_team_that_plays_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--map 27m_vs_30m: no packaged team plays it.*demonstrations.checkpoint="):
        planned(tmp_path, map_name="27m_vs_30m")
    with pytest.raises(ConfigError, match=r"--map: .*3m_vs_nobody"):
        planned(tmp_path, map_name="3m_vs_nobody")
    own = planned(tmp_path, "sets.demonstrations.checkpoint=runs/mine", map_name="27m_vs_30m")
    assert own.steps["sets/demonstrations/team_0"].arguments[2] == str(Path("runs/mine").absolute())
