"""Numbers of a comparison, computed by hand; reports of runs and experiments on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from dm2_ray.experiments.comparison import Comparison, ConditionResults, Demonstrators
from dm2_ray.experiments.comparison_markdown import markdown, overall_markdown
from dm2_ray.experiments.comparison_plot import band, draw_comparison
from dm2_ray.experiments.learning_curve import LearningCurve, NotEvaluated
from dm2_ray.experiments.measured_curves import MeasuredCurve
from dm2_ray.experiments.quickstart_report import draw_quickstart, longer_run, quickstart_table
from dm2_ray.experiments.report import runs_comparisons, write_report
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError
from dm2_ray.statistics import wilson_interval
from dm2_ray.world.engine_settings import ENGINE_VERSION


def curve(variant: str, seed: int, *points: tuple[int, float], is_finished: bool = True) -> LearningCurve:
    steps, rates = zip(*points, strict=True)
    returns = tuple(20 * rate for rate in rates)
    return LearningCurve(
        variant=variant, seed=seed, env_steps=steps, win_rates=rates, returns=returns, minutes=1.0,
        is_finished=is_finished,
    )  # fmt: skip


def row(name: str, *curves: LearningCurve, **more: Any) -> ConditionResults:
    return ConditionResults(name=name, label=name.upper(), curves=curves, planned=len(curves), **more)


def comparison(*rows: ConditionResults, map_name: str = "3m") -> Comparison:
    return Comparison(title="Test", map=map_name, rows=rows, thresholds=(0.3, 0.5))


# One run.


def test_a_win_rate_is_reached_by_the_mean_of_three_evaluations() -> None:
    # Means: 0, 0, 0.2, 0.4, 0.8
    one = curve("dm2", 0, (100, 0.0), (200, 0.0), (300, 0.6), (400, 0.6), (500, 1.2))
    assert one.env_steps_to(0.2) == pytest.approx(300)
    assert one.env_steps_to(0.3) == pytest.approx(350)
    assert one.env_steps_to(0.5) == pytest.approx(425)
    assert one.env_steps_to(0.9) is None


def test_final_values_are_means_of_the_last_three_evaluations() -> None:
    one = curve("dm2", 0, (100, 1.0), (200, 0.2), (300, 0.4), (400, 0.9))
    assert one.final_win_rate == pytest.approx(0.5)
    assert one.final_return == pytest.approx(10.0)
    assert one.last_win_rate == 0.9
    assert curve("dm2", 0, (100, 0.2), (200, 0.4)).final_win_rate == pytest.approx(0.3)


def test_areas_are_means_over_the_course_of_a_run() -> None:
    # 100 steps at 0.2, 100 at 0.4 on average, 200 at 0.3 on average.
    one = curve("dm2", 0, (100, 0.2), (200, 0.6), (400, 0.0))
    assert one.win_rate_area == pytest.approx((100 * 0.2 + 100 * 0.4 + 200 * 0.3) / 400)
    assert one.return_area == pytest.approx(20 * one.win_rate_area)
    assert curve("bc", 0, (0, 0.3)).win_rate_area == 0.3  # cloning plays no battles


# Rows.


def test_a_row_is_the_median_and_range_of_its_seeds() -> None:
    reached = [curve("dm2", seed, (100, rate), (200, rate)) for seed, rate in enumerate((0.4, 0.9, 0.6))]
    (record,) = comparison(row("dm2", *reached)).record()["rows"]
    final = record["final_win_rate"]
    assert (final["median"], final["low"], final["high"]) == pytest.approx((0.6, 0.4, 0.9))
    assert final["by_seed"] == pytest.approx({"0": 0.4, "1": 0.9, "2": 0.6})
    assert final["interquartile_mean"]["value"] == pytest.approx(1.9 / 3)
    assert record["env_steps_to"]["0.3"]["median"] == pytest.approx(50)  # 0.6 at 100


def test_a_seed_that_never_gets_there_is_infinitely_late() -> None:
    reached = [curve("ippo", seed, (100, 1.0), (200, 1.0)) for seed in range(2)]
    never = [curve("ippo", seed, (100, 0.0), (200, 0.1)) for seed in (2, 3, 4)]
    (late,) = comparison(row("ippo", *reached, *never)).record()["rows"]
    assert late["env_steps_to"]["0.5"]["median"] is None
    assert late["env_steps_to"]["0.5"]["low"] == 50
    assert late["env_steps_to"]["0.5"]["by_seed"] == {"0": 50.0, "1": 50.0, "2": None, "3": None, "4": None}
    (in_time,) = comparison(row("ippo", *reached, never[0])).record()["rows"]
    assert (in_time["env_steps_to"]["0.5"]["median"], in_time["env_steps_to"]["0.5"]["high"]) == (50, None)
    assert "| never [50, never] |" in markdown(comparison(row("ippo", *reached, *never)))


def test_pairs_are_compared_and_maps_put_together() -> None:
    better = row("dm2", *[curve("dm2", seed, (100, 0.8 + seed / 100)) for seed in range(3)])
    worse = row("ippo", *[curve("ippo", seed, (100, 0.2 + seed / 100)) for seed in range(3)])
    first, second = comparison(better, worse), comparison(worse, better, map_name="8m")
    assert [
        (pair["row"], pair["over"], pair["probability"]) if "probability" in pair else (pair["row"], pair["value"])
        for pair in first.record()["improvement"]
        if pair["metric"] == "final_win_rate"
    ] == [("dm2", 1.0)]
    text = overall_markdown([first, second])
    assert "Over 3m, 8m" in text
    assert "| DM2 | 0.81 [0.80, 0.82] |" in text


def test_unfinished_rows_are_said_to_be_so() -> None:
    begun = row("dm2", curve("dm2", 3, (100, 0.5), is_finished=False))
    nothing = ConditionResults(name="ippo", label="IPPO", curves=(), planned=2)
    text = markdown(comparison(begun, nothing))
    assert "- DM2: seed 3 at 100 env steps" in text
    assert "- IPPO: 2 without an evaluation" in text
    assert "| DM2 | 0/1 |" in text
    assert comparison(begun, nothing).record()["rows"][1]["runs"] == {"planned": 2, "evaluated": 0, "finished": 0}
    assert "No run has been evaluated yet" in markdown(comparison(nothing))


def test_a_band_goes_as_far_as_all_runs_do() -> None:
    curves = [curve("dm2", seed, (100, rate), (length, rate)) for seed, (rate, length) in
              enumerate([(0.2, 300), (0.4, 200), (0.9, 400)])]  # fmt: skip
    steps, low, middle, high = band(curves)
    assert (steps[0], steps[-1]) == (100, 200)
    assert (low[-1], middle[-1], high[-1]) == pytest.approx((0.2, 0.4, 0.9))


def test_the_picture_of_everything_there_can_be(tmp_path: Path) -> None:
    shown = Demonstrators(name="mediocre", win_rates=(0.3, 0.5), returns=(9.0, 11.0))
    other = Demonstrators(name="good", win_rates=(0.9,), returns=(19.0,))
    rows = [
        row("dm2", curve("dm2", 0, (100, 0.5), (200, 0.7)), curve("dm2", 1, (100, 0.4)), demonstrators=shown),
        row("good", curve("dm2", 0, (100, 0.5), (200, 0.7)), demonstrators=other),
        row("bc", curve("bc", 0, (0, 0.3)), demonstrators=shown),
        row("script", curve("scripted:kite", 0, (0, 0.3)), learns=False),
    ]
    draw_comparison(comparison(*rows), tmp_path / "result.png")
    assert (tmp_path / "result.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no run"):
        draw_comparison(comparison(), tmp_path / "none.png")


# Run directories.


def write_run(
    path: Path, *settings: str, evaluations: dict[int, float], status: str | None = "completed", variant: str = "ippo"
) -> Path:
    """A run directory as training leaves it: an iteration every 100 env steps."""
    run = RunDirectory.create(path, load_experiment(variant=variant, map_name="3m", overrides=settings))
    lines = []
    for iteration in range(1, 1 + max(evaluations) // 100):
        steps = 100 * iteration
        record: dict[str, Any] = {"iteration": iteration, "env_steps": steps, "timing": {"iteration_s": 6.0}}
        if steps in evaluations:
            record["evaluation"] = {"win_rate": evaluations[steps], "return_mean": 10 * evaluations[steps]}
        lines.append(json.dumps(record) + "\n")
    run.metrics.write_text("".join(lines))
    if status is not None:
        final = {"win_rate": 0.75, "return_mean": 15.0} if status == "completed" else None
        summary = {"status": status, "iterations": len(lines), "env_steps": 100 * len(lines), "final_evaluation": final}
        run.summary.write_text(json.dumps(summary))
    return path


def test_a_curve_is_read_from_a_run_wherever_it_is(tmp_path: Path) -> None:
    finished = LearningCurve.of(RunDirectory(write_run(tmp_path / "a", evaluations={100: 0.1, 300: 0.3, 400: 0.7})))
    assert finished.env_steps == (100, 300, 400)
    assert finished.win_rates == (0.1, 0.3, 0.75)  # the last one again, at the end
    assert finished.minutes == pytest.approx(0.4)
    assert finished.is_finished
    under_way = write_run(tmp_path / "b", evaluations={100: 0.1, 300: 0.3}, status=None)
    with (under_way / "metrics.jsonl").open("a") as lines:
        lines.write('{"iteration": 4, "env_st')
    assert LearningCurve.of(RunDirectory(under_way)).env_steps == (100, 300)
    assert not LearningCurve.of(RunDirectory(under_way)).is_finished
    # Finished once, then resumed: the summary is that of the earlier end.
    resumed = write_run(tmp_path / "c", evaluations={100: 0.1, 200: 0.2})
    with (resumed / "metrics.jsonl").open("a") as lines:
        evaluation = {"win_rate": 0.4, "return_mean": 8.0}
        lines.write(json.dumps({"iteration": 3, "env_steps": 300, "evaluation": evaluation,
                                "timing": {"iteration_s": 6.0}}) + "\n")  # fmt: skip
    assert LearningCurve.of(RunDirectory(resumed)).win_rates == (0.1, 0.2, 0.4)
    assert not LearningCurve.of(RunDirectory(resumed)).is_finished
    with pytest.raises(NotEvaluated):
        LearningCurve.of(RunDirectory(write_run(tmp_path / "d", evaluations={0: 0.0}, status=None)))


def test_runs_that_differ_in_seeds_alone_make_a_row(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / f"{clip}-{seed}", f"ppo.clip={clip}", f"seed={seed}", evaluations={100: 0.1, 200: clip})
        for clip in (0.05, 0.2)
        for seed in (1, 0)
    ]
    paths.append(write_run(tmp_path / "loop", variant="open_loop", evaluations={100: 0.0}))
    (compared,) = runs_comparisons([*paths, paths[0]])
    assert [(each.label, [curve.seed for curve in each.curves]) for each in compared.rows] == [
        ("ippo ppo.clip=0.05", [0, 1]),
        ("ippo ppo.clip=0.2", [0, 1]),
        ("open_loop", [0]),
    ]
    text = write_report([compared], tmp_path / "out")
    assert (tmp_path / "out" / "result.md").read_text() == text
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == json.loads(json.dumps(compared.record()))
    assert (tmp_path / "out" / "result.png").is_file()


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        runs_comparisons([tmp_path])


# The quickstart's table and picture, and intervals.


def packaged_curve(**more: Any) -> MeasuredCurve:
    values = {
        "map": "3s_vs_3z", "algorithm": "ippo", "seed": 7, "engine": f"embedded {ENGINE_VERSION}",
        "command": "dm2 train …",
        "env_steps": (100, 200, 1000), "training_win_rates": (0.0, 0.2, 1.0), "greedy_win_rates": (0.0, 0.4, 1.0),
        **more,
    }  # fmt: skip
    return MeasuredCurve.model_validate(values)


def test_the_quickstart_counts_who_never_gets_there() -> None:
    reached = [curve("ippo", seed, (100, 1.0), (200, 1.0)) for seed in range(2)]
    never = [curve("ippo", seed, (100, 0.0), (200, 0.1)) for seed in (2, 3, 4)]
    assert "| IPPO | 5 | 200 | not reached | not reached | 0.05 [0.05, 1.00] | 1.0 |" in quickstart_table(
        comparison(row("ippo", *reached, *never)), None
    )
    assert "| IPPO | 3 | 200 | 30 | 50 |" in quickstart_table(comparison(row("ippo", *reached, never[0])), None)


def test_the_quickstart_shows_a_packaged_curve_up_to_ten_times_the_budget(tmp_path: Path) -> None:
    demonstrators = Demonstrators(name="zoo", win_rates=(0.9,), returns=(18.0,))
    compared = comparison(
        row("dm2", curve("dm2", 0, (40, 0.2), (50, 1.0)), demonstrators=demonstrators),
        row("ippo", curve("ippo", 0, (50, 0.0))),
    )
    text = quickstart_table(compared, packaged_curve())
    # Cut at 500 env steps: 0.4 + 0.6 * 300 / 800.
    assert "| IPPO, longer (packaged curve) | 1 (seed 7) | 500 | 175 | 333 | 0.62 |  |" in text
    assert "The demonstrations won 0.90 of their battles." in text and "dm2 train …" in text
    for name, longer in (("with", packaged_curve()), ("without", None)):
        draw_quickstart(compared, longer, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_packaged_curve_with_the_same_settings_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load_experiment(variant="ippo", map_name="3s_vs_3z", overrides=["rollout.episodes=32"])
    same, published = packaged_curve(settings={"rollout.episodes": 32}), packaged_curve()
    others = [packaged_curve(map="3m"), packaged_curve(engine="embedded 1"), packaged_curve(algorithm="mappo"),
              packaged_curve(settings={"rollout.episodes": 64})]  # fmt: skip

    def chosen(*curves: MeasuredCurve) -> MeasuredCurve | None:
        monkeypatch.setattr("dm2_ray.experiments.quickstart_report.load_measured_curves", lambda: curves)
        return longer_run(experiment)

    assert chosen(*others, published, same) == same
    assert chosen(*others, published) == published
    assert chosen(*others) is None


def test_wilson_interval_of_a_textbook_case() -> None:
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson_interval(0.0, 10)[0] == 0.0 and wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
