"""A run whose processes are killed at random moments gives the same result as an undisturbed one."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.tiny_runs import TINY_WITH_PROCESSES

from dm2_ray.benchmarks.fault_injection import SETTINGS, FaultInjectionPlan, run_fault_injection
from dm2_ray.checkpoints import intact_checkpoints

MORE = ("evaluation.every_env_steps=1000", "checkpoint.every_iterations=20")


@pytest.mark.long
@pytest.mark.timeout(280)
def test_kills_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dm2_ray")
    plan = FaultInjectionPlan(
        map="2m_vs_1z", kills=6, seed=1, iterations=130, settings=(*SETTINGS, *TINY_WITH_PROCESSES, *MORE)
    )
    result = run_fault_injection(plan)
    assert result.passed, result.text()
    assert len(result.kills) == 6 and len({kill.kind for kill in result.kills}) >= 3
    assert sum("kill " in line for line in caplog.messages) == 6
    assert result.checkpoints >= 6
    # Processes that were killed early enough have recovered before the end.
    assert sum(kill.back_s is not None for kill in result.kills) >= 4
    for kind, recovery in result.recoveries().items():
        assert recovery.kills == recovery.never or 0 < (recovery.median_s or 0) <= (recovery.longest_s or 0) < 60, kind
    assert "equal in every number" in result.text()
    assert result.record()["final_win_rate"]["undisturbed"] == result.record()["final_win_rate"]["disturbed"]


@pytest.mark.long
def test_a_benchmark_that_is_terminated_stops_its_run() -> None:
    command = [sys.executable, "-m", "dm2_ray.cli", "bench", "--faults", "--map", "2m_vs_1z", "--iterations", "100000"]
    bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert bench.stderr is not None
    directory = Path(bench.stderr.readline().split()[-1])
    while not (run := directory / "undisturbed" / "metrics.jsonl").exists():
        assert bench.poll() is None
        time.sleep(0.1)
    started = psutil.Process(bench.pid).children(recursive=True)
    assert started
    bench.terminate()
    assert bench.wait(timeout=60) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    assert intact_checkpoints(run.parent / "checkpoints")
    shutil.rmtree(directory)
