"""Calibration: which runs are planned, how seeds become verdicts, tables and pictures."""

import json
from pathlib import Path
from typing import Any

import pytest

from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.calibration import (
    TODAYS_ENGINE,
    calibration_markdown,
    calibration_record,
    group_curves,
    write_calibration,
)
from dm2_ray.experiments.calibration_steps import plan_calibration
from dm2_ray.experiments.measured_curves import MeasuredCurve
from dm2_ray.experiments.published_results import load_published_results

PUBLISHED = load_published_results()


def curve(
    map_name: str, *points: tuple[float, float], seed: int = 0, algorithm: str = "ippo", **more: Any
) -> MeasuredCurve:
    """A curve through (millions of env steps, win rate)."""
    steps = tuple(int(million * 1e6) for million, _ in points)
    rates = tuple(rate for _, rate in points)
    values = {"engine": TODAYS_ENGINE, "command": "dm2 train", "training_win_rates": rates, **more}
    return MeasuredCurve(
        map=map_name, algorithm=algorithm, seed=seed, env_steps=steps, greedy_win_rates=rates, **values
    )


def cells(curves: list[MeasuredCurve]) -> list[list[str]]:
    """The rows of the table."""
    lines = calibration_markdown(group_curves(curves), PUBLISHED).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:] if line.startswith("| ")]


def test_a_row_per_band() -> None:
    curves = [curve("5m_vs_6m", (1, 0.0), (2, 0.1), (3, 0.4), seed=seed) for seed in range(2)]
    assert cells(curves) == [
        ["5m_vs_6m", "ippo", "0.00 at 2.00 M", "0.10 [0.10, 0.10] at 2.00 M", "2", TODAYS_ENGINE,
         "at most 0.2 until 2 M", "yes"],
        ["5m_vs_6m", "ippo", "0.05 at 4.00 M", "0.40 [0.40, 0.40] at 3.00 M", "2", TODAYS_ENGINE,
         "at most 0.5 until 4 M", "not reached yet"],
    ]  # fmt: skip


def test_the_mean_over_seeds_is_in_a_band_as_far_as_all_seeds_go() -> None:
    early = curve("3s_vs_3z", (1, 0.0), (1.4, 1.0), (2, 1.0))
    late = curve("3s_vs_3z", (1, 0.0), (2, 0.0), seed=1)
    assert cells([early])[0][3:] == ["0.5 at 1.20 M", "1", TODAYS_ENGINE, "reaches 0.5 between 1.5 and 4 M", "no"]
    assert cells([late])[0][-1] == "not reached yet"
    assert cells([early, late])[0][3] == "0.5 at 1.40 M"
    short = curve("3s_vs_3z", (1, 0.0), seed=1)
    assert cells([early, short])[0][3:] == [
        "0.00 [0.00, 0.00] at 1.00 M", "2", TODAYS_ENGINE, "reaches 0.5 between 1.5 and 4 M", "not reached yet",
    ]  # fmt: skip
    (group,) = calibration_record(group_curves([early, late]), PUBLISHED)["groups"]
    assert group["bands"][0]["in_band_by_seed"] == {"0": "no", "1": "not reached yet"}


def test_other_settings_and_engines_are_rows_of_their_own_without_a_verdict() -> None:
    small = curve("3s_vs_3z", (2, 0.6), settings={"rollout.episodes": 64, "rollout.env_runners": 0})
    older = curve("3s_vs_3z", (2, 0.6), engine="embedded 2")
    same = curve("3s_vs_3z", (2, 0.6), settings={"rollout.env_runners": 0, "evaluation.every_env_steps": 20000})
    rows = cells([small, older, same])
    assert [row[1] for row in rows] == ["ippo (rollout.episodes=64)", "ippo", "ippo"]
    assert rows[1][5].startswith("embedded 2 (not today's, ")
    assert [row[-1] for row in rows] == ["does not apply", "does not apply", "yes"]


def test_without_a_band_the_end_of_the_curve_is_compared() -> None:
    ((*_, published, here, _, _, band, verdict),) = cells([curve("3s_vs_3z", (1, 0.9), algorithm="mappo")])
    assert (published, here, band, verdict) == ("0.95 at 1.00 M", "0.90 at 1.00 M", "", "")
    (row,) = cells([curve("MMM2", (1, 0.1), algorithm="mappo")])
    assert row[2] == "0.91 at 2 to 10 M (mappo_paper)"
    assert "* mappo_paper: Yu et al. 2022" in calibration_markdown(group_curves([curve("MMM2", (1, 0.1))]), PUBLISHED)


def test_everything_is_written(tmp_path: Path) -> None:
    groups = group_curves([curve("3m", (0.1, 0.2), (0.5, 1.0)), curve("3m", (0.1, 0.2), algorithm="mappo"),
                           curve("5m_vs_6m", (1, 0.0))])  # fmt: skip
    write_calibration(groups, PUBLISHED, tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    assert [(group["map"], group["algorithm"]) for group in record["groups"]] == [
        ("3m", "ippo"), ("3m", "mappo"), ("5m_vs_6m", "ippo"),
    ]  # fmt: skip
    assert calibration_markdown(groups, PUBLISHED) in (tmp_path / "result.md").read_text()
    assert (tmp_path / "result.png").stat().st_size > 20_000


# What is trained.


def plan(*maps: str, **more: Any) -> list[tuple[str, int | None]]:
    options: dict[str, Any] = {"algorithms": None, "seeds": 1, "env_steps": None, **more}
    steps = plan_calibration(PUBLISHED, Path("nowhere"), maps=maps, **options).steps
    return [(name, step.experiment.stop.env_steps) for name, step in steps.items() if step.experiment is not None]


def test_runs_are_as_long_as_their_bands_need() -> None:
    assert plan("5m_vs_6m", "3m", seeds=2) == [
        ("5m_vs_6m/ippo/seed_0", 4_000_000), ("5m_vs_6m/mappo/seed_0", 10_000_000), ("3m/ippo/seed_0", 500_000),
        ("5m_vs_6m/ippo/seed_1", 4_000_000), ("5m_vs_6m/mappo/seed_1", 10_000_000), ("3m/ippo/seed_1", 500_000),
    ]  # fmt: skip
    assert {name.split("/")[0] for name, _ in plan()} == {band.map for band in PUBLISHED.bands}
    assert plan("MMM2", algorithms=["mappo"], env_steps=1000) == [("MMM2/mappo/seed_0", 1000)]


def test_a_run_is_the_published_learner_in_one_process() -> None:
    (step,) = plan_calibration(
        PUBLISHED, Path("nowhere"), maps=["5m_vs_6m"], algorithms=["ippo"], seeds=1, env_steps=None
    ).steps.values()
    assert step.experiment is not None
    assert (step.experiment.rollout.episodes, step.experiment.ppo.clip) == (256, 0.05)
    assert (step.experiment.rollout.env_runners, step.experiment.learners.processes) == (0, "driver")


@pytest.mark.parametrize(
    ("maps", "more", "problem"),
    [
        (["5m_vs_7m"], {}, "unknown map '5m_vs_7m'; did you mean '5m_vs_6m'"),
        (["2s_vs_1sc"], {}, "no win rates on 2s_vs_1sc have been published; there are 5m_vs_6m, "),
        (["MMM2"], {}, "there are no bands on MMM2: give --algorithms and --env-steps"),
        (["3s_vs_3z"], {"algorithms": ["mappo"]}, "mappo has no band on 3s_vs_3z that says how long"),
        (["3m"], {"settings": ["ppo.klip=1"]}, "did you mean ppo.clip?"),
        (["3m"], {"settings": ["world.backend=starcraft"]}, "world.backend is starcraft"),
    ],
)
def test_what_cannot_be_trained_is_refused(maps: list[str], more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as error:
        plan(*maps, **more)
    assert problem in str(error.value) and "\n" not in str(error.value)
    assert isinstance(error.value, ConfigError) or "unknown map" in problem
