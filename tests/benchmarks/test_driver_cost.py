"""The driver's cost: the fitted line, and the measurement itself at a small size."""

import json

import pytest

from dm2_ray.benchmarks.driver_cost import DriverCost, LinearFit
from dm2_ray.cli import main


def costs(*points: tuple[int, float]) -> list[DriverCost]:
    return [DriverCost(workers=workers, driver_cpu_ms=cpu, iteration_ms=10 * cpu) for workers, cpu in points]


def test_the_line_goes_through_points_on_a_line() -> None:
    line = LinearFit.fit(costs((1, 12.0), (2, 14.0), (8, 26.0), (32, 74.0)))
    assert (line.fixed_ms, line.per_worker_ms) == pytest.approx((10.0, 2.0))
    assert line.largest_error_ms == pytest.approx(0.0, abs=1e-9)
    assert line.workers_at(1000.0) == pytest.approx(495.0)


def test_a_cost_that_does_not_grow_allows_any_number_of_workers() -> None:
    assert LinearFit.fit(costs((1, 10.0), (32, 10.0))).workers_at(1000.0) > 1e9


@pytest.mark.usefixtures("local_ray")
def test_sizes_that_do_not_fit_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--driver", "--workers", "1,1000000", "--iterations", "3", "--json"]) == 0
    printed = capsys.readouterr()
    assert "1000000 workers are left out" in printed.err
    (cost,) = json.loads(printed.out)["costs"]
    assert cost["workers"] == 1
    assert 0.5 < cost["driver_cpu_ms"] < 1000 and cost["driver_cpu_ms"] < 2 * cost["iteration_ms"]
