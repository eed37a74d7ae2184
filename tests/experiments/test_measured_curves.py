"""Learning curves that stay in the repository: thinned, written, read."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.measured_curves import (
    MOST_POINTS,
    MeasuredCurve,
    load_measured_curves,
    write_measured_curves,
)
from dm2_ray.world import map_names


def curve(
    *points: tuple[int, float], seed: int = 0, engine: str | None = "embedded 3", **more: object
) -> MeasuredCurve:
    steps, rates = zip(*points, strict=True)
    values = {"map": "3m", "algorithm": "ippo", "command": "dm2 train", "training_win_rates": rates, **more}
    return MeasuredCurve(seed=seed, engine=engine, env_steps=steps, greedy_win_rates=rates, **values)


def test_the_packaged_curves_are_valid() -> None:
    for one in load_measured_curves():
        assert one.map in map_names()
        assert one.engine is not None
        assert 0 < len(one.env_steps) <= MOST_POINTS
        assert one.command.startswith("dm2 train --variant ")


def test_curves_are_merged_into_a_file_and_read_from_it(tmp_path: Path) -> None:
    file = tmp_path / "curves.json"
    write_measured_curves([curve((100, 0.25)), curve((100, 0.5), seed=10), curve((100, 1.0), seed=2)], file)
    write_measured_curves([curve((100, 0.25), (200, 0.75)), curve((50, 0.0), engine="embedded 2")], file)
    read = load_measured_curves(file)
    assert [(one.engine, one.seed, one.greedy_win_rates[-1]) for one in read] == [
        ("embedded 2", 0, 0.0), ("embedded 3", 0, 0.75), ("embedded 3", 2, 1.0), ("embedded 3", 10, 0.5),
    ]  # fmt: skip
    assert len(file.read_text().splitlines()) == 2 + len(read)  # one line each, for readable diffs


@given(st.lists(st.tuples(st.integers(1, 10**5), st.floats(0, 1)), min_size=1, max_size=300), st.integers(1, 80))
def test_thinning_keeps_the_end_and_the_mean_of_training(points: list[tuple[int, float]], most: int) -> None:
    steps = np.cumsum([length for length, _ in points]).tolist()
    whole = curve(*zip(steps, [rate for _, rate in points], strict=True))
    thin = whole.thinned(most)
    assert len(thin.env_steps) == min(most, len(steps))
    assert thin.env_steps[-1] == steps[-1] and set(thin.env_steps) <= set(steps)
    assert all(left < right for left, right in pairwise(thin.env_steps))
    means = [np.average(one.training_win_rates, weights=np.diff(one.env_steps, prepend=0)) for one in (whole, thin)]
    assert means[0] == pytest.approx(means[1], abs=2e-4)
    assert thin.thinned(most) == thin


def test_a_win_rate_between_evaluations_is_interpolated() -> None:
    one = curve((100, 0.2), (200, 0.6))
    assert one.win_rate_at(150) == pytest.approx(0.4)
    assert one.win_rate_at(50) == pytest.approx(0.1)
    assert one.win_rate_at(200) == pytest.approx(0.6)
    assert one.win_rate_at(201) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"env_steps": [200, 100]}, "env_steps do not increase"),
        ({"env_steps": [100]}, "differ in length"),
        ({"greedy_win_rates": [0.5, 1.5]}, "curves.0.greedy_win_rates.1 must be at most 1"),
        ({"sead": 1}, "unknown key curves.0.sead"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    file = tmp_path / "curves.json"
    write_measured_curves([curve((100, 0.2), (200, 0.6))], file)
    content = json.loads(file.read_text())
    content["curves"][0].update(change)
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError) as error:
        load_measured_curves(file)
    assert str(file) in str(error.value) and problem in str(error.value)
    assert "\n" not in str(error.value)
