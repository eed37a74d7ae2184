"""Growth of memory is distinguished from noise, warm-up and the new processes of a resumed run."""

import json
from pathlib import Path

import numpy as np
import pytest

from dm2_ray.benchmarks.memory_trend import MemoryTrend, memory_trends
from dm2_ray.cli import main
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.runs.run_directory import RunDirectory, RunDirectoryError


def records(count: int, *, leak_mib_per_h: float, seed: int = 0) -> list[dict]:
    """A sample every ten seconds; learners leak, runners do not; everything grows while it warms up."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        warm_up = 50 * min(1.0, index / (0.08 * count))
        sizes = {
            "learner_mib": 300 + warm_up + leak_mib_per_h * index * 10 / 3600 + rng.normal(0, 2),
            "rollout_worker_mib": 350 + warm_up + rng.normal(0, 2),
        }
        timing = {"wall_s": 10.0 * index + 5, "memory": {**sizes, "processes": {"learner": 3, "rollout_worker": 2}}}
        found += [{"iteration": 2 * index + 1, "timing": timing}, {"iteration": 2 * index + 2, "timing": {"wall_s": 1}}]
    return found


def trends(lines: list[dict]) -> dict[str, MemoryTrend]:
    return {trend.kind: trend for trend in memory_trends(lines)[0]}


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_is_detected_and_noise_is_not(seed: int) -> None:
    found = trends(records(240, leak_mib_per_h=30.0, seed=seed))
    low, high = found["learner"].interval
    assert low > 20 and high < 40
    assert found["learner"].last - found["learner"].first == pytest.approx(30 * 0.6 * 11 / 12, abs=3)
    assert abs(found["rollout worker"].per_hour) < 4
    assert found["rollout worker"].interval[0] < found["rollout worker"].per_hour < found["rollout worker"].interval[1]


def test_a_resumed_run_is_measured_since_it_was_resumed() -> None:
    lines = records(240, leak_mib_per_h=500.0) + records(240, leak_mib_per_h=0.0, seed=1)
    assert abs(trends(lines)["learner"].per_hour) < 5


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(RunDirectoryError, match="18 samples of memory found, 24 are needed"):
        memory_trends(records(20, leak_mib_per_h=0.0))


def test_the_command_shows_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.create(tmp_path / "run", load_experiment(None, variant="ippo", map_name="3m"))
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in records(240, leak_mib_per_h=30.0)))
    assert main(["bench", "--memory", str(run.path)]) == 0
    assert "rollout worker" in capsys.readouterr().out
    assert main(["bench", "--memory", str(run.path), "--json"]) == 0
    assert {trend["kind"] for trend in json.loads(capsys.readouterr().out)["trends"]} == {"learner", "rollout worker"}
    assert main(["bench", "--memory", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not a run directory" in capsys.readouterr().err
