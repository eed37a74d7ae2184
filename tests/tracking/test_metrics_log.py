"""metrics.jsonl is always valid JSON, equal after a resume, and never mixed with another run's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dm2_ray.tracking import MetricsLog, TrackingError, flatten, read_metrics


def record(iteration: int, **more: Any) -> dict[str, Any]:
    return {"iteration": iteration, "env_steps": 100 * iteration, "win_rate": iteration / 7, **more}


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        for iteration in (1, 2, 3):
            log.append(record(iteration, agents={"agent_0": {"policy_loss": 0.1 + iteration}}))
    assert [entry["iteration"] for entry in read_metrics(path)] == [1, 2, 3]
    assert read_metrics(path)[1] == record(2, agents={"agent_0": {"policy_loss": 2.1}})


def test_every_value_is_valid_json(tmp_path: Path) -> None:
    strange = {
        "nan": float("nan"),
        "inf": [float("inf"), -np.float32("inf")],
        "scalars": (np.float32(0.5), np.int64(3), np.bool_(True), True, None),
        "array": np.array([[1.0, np.nan]]),
        "text": "line\nbreak",
    }
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.append(record(1, strange=strange))
        with pytest.raises(TypeError, match="object"):
            log.append(record(2, strange=object()))
        log.append(record(3))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    first, third = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first, parse_constant=refuse)["strange"] == {
        "nan": None,
        "inf": [None, None],
        "scalars": [0.5, 3, True, True, None],
        "array": [[1.0, None]],
        "text": "line\nbreak",
    }
    assert json.loads(third)["iteration"] == 3


def test_iterations_only_go_up(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.append(record(4))
        with pytest.raises(ValueError, match="iteration 4 comes after iteration 4"):
            log.append(record(4))


def test_a_resumed_run_writes_the_same_file_as_an_uninterrupted_one(tmp_path: Path) -> None:
    undisturbed, resumed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    with MetricsLog(undisturbed) as log:
        for iteration in range(1, 9):
            log.append(record(iteration))
    with MetricsLog(resumed) as log:
        for iteration in range(1, 7):
            log.append(record(iteration))
    with open(resumed, "a") as file:
        file.write('{"iteration": 7, "env_st')  # killed while writing
    with MetricsLog(resumed, resumed_iteration=4) as log:
        assert [entry["iteration"] for entry in log.records] == [1, 2, 3, 4]
        for iteration in range(5, 9):
            log.append(record(iteration))
    assert resumed.read_bytes() == undisturbed.read_bytes()


def test_resuming_without_records_starts_the_file(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl", resumed_iteration=4) as log:
        assert log.records == []
        log.append(record(5))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_a_new_run_does_not_touch_another_runs_records(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append(record(1))
    before = path.read_bytes()
    with pytest.raises(TrackingError, match="another run"):
        MetricsLog(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"env_steps": 3}', ""])
def test_a_damaged_line_is_reported(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(1)) + "\n" + line + "\n" + json.dumps(record(2)) + "\n")
    before = path.read_bytes()
    with pytest.raises(TrackingError, match="line 2 is not the record") as caught:
        MetricsLog(path, resumed_iteration=2)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.cli
def test_a_record_is_in_the_file_before_the_process_dies(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from dm2_ray.tracking import MetricsLog;"
        "log = MetricsLog(Path(sys.argv[1])); log.append({'iteration': 1}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert read_metrics(path) == [{"iteration": 1}]


def test_flat_names_omit_the_level_agents_and_values_that_are_not_numbers() -> None:
    nested = record(
        2,
        agents={"agent_0": {"policy_loss": 0.5, "note": "x", "gone": None}, "agent_1": {"deep": {"kl": 1}}},
        evaluation={"win_rate": 0.25, "return_mean": float("nan")},
        timing={"learn_s": 3},
    )
    assert dict(flatten(nested)) == {
        "iteration": 2,
        "env_steps": 200,
        "win_rate": 2 / 7,
        "agent_0/policy_loss": 0.5,
        "agent_1/deep/kl": 1,
        "evaluation/win_rate": 0.25,
        "timing/learn_s": 3,
    }


@pytest.mark.cli
def test_a_failed_write_leaves_no_half_record(tmp_path: Path) -> None:
    """A limit of 1000 bytes per file stands in for a full disk."""
    script = f"""
import resource, signal
from pathlib import Path
from dm2_ray.tracking import MetricsLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = MetricsLog(Path({str(tmp_path / "metrics.jsonl")!r}))
for iteration in range(1, 100):
    try:
        log.append({{"iteration": iteration, "text": "x" * 200}})
    except OSError as error:
        print(iteration, error.strerror, error.filename)
        break
try:
    log.append({{"iteration": iteration, "text": "x" * 200}})
except OSError:
    log.append({{"iteration": iteration, "text": ""}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1) == ["5", f"File too large {tmp_path / 'metrics.jsonl'}\n"]
    assert [entry["iteration"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]
