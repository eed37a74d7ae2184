"""`dm2 bench --world`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dm2_ray.benchmarks.world_throughput import BATTLES, MAPS, measure_first_call, measure_speeds, speed_table
from dm2_ray.cli import main
from dm2_ray.world import BattleVector, load_map
from dm2_ray.world.compile_cache import cache_directory


def test_speeds_of_several_maps() -> None:
    messages: list[str] = []
    specs = [load_map(name) for name in ("3m", "MMM2", "bridge_4s_vs_12z")]
    speeds = measure_speeds(specs, repetitions=2, seconds=0.01, warm_up_steps=2, progress=messages.append)
    assert [(speed.map, speed.agents, speed.enemies) for speed in speeds] == [
        ("3m", 3, 3),
        ("MMM2", 10, 12),
        ("bridge_4s_vs_12z", 4, 12),
    ]
    for speed in speeds:
        # A single battle has the cost of every Python call to itself.
        assert speed.engine.env_steps_per_s > speed.smac_env.env_steps_per_s > 0
        assert speed.engine.env_steps_per_cpu_s > 0 and speed.smac_env.env_steps_per_cpu_s > 0
    assert messages == ["round 1 of 2", "round 2 of 2"]
    head, *rows = speed_table(speeds).splitlines()
    assert "env steps/s" in head and len({len(row) for row in (head, *rows)}) == 1
    assert [row.split()[:2] for row in rows] == [["3m", "3+3"], ["MMM2", "10+12"], ["bridge_4s_vs_12z", "4+12"]]


@pytest.mark.cli
def test_the_first_call_is_that_of_new_processes(tmp_path: Path) -> None:
    # With the code that this process has compiled it is fast; the long test below starts with an empty cache.
    BattleVector("3m", 1).reset()
    (tmp_path / "dm2_ray").symlink_to(cache_directory().parent)
    first = measure_first_call("3m", tmp_path)
    assert first.map == "3m"
    assert 0 < first.warm_cpu_s < 10 and 0 < first.cold_cpu_s < 10
    assert first.warm_s > 0 and first.cold_s > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "--map", "3m", "--map", "3n"], "unknown map '3n'"),
        (["--map", "3m", "--map", "8m"], "one map expected, got 3m, 8m"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["bench", "--world", "--repetitions", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["battles"], record["threads"], record["repetitions"]) == (BATTLES, 1, 1)
    assert [entry["map"] for entry in record["maps"]] == list(MAPS)
    first = record["first_call"]
    assert first["map"] == MAPS[0] and first["cold_cpu_s"] > 3 * first["warm_cpu_s"]
    assert main(["bench", "--world", "--map", "2c_vs_64zg", "--repetitions", "1"]) == 0
    out = capsys.readouterr().out
    assert "2c_vs_64zg" in out and "with nothing compiled" in out
    assert dict(os.environ) == before
