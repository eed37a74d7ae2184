"""What a run leaves behind if a fault or a signal ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.drivers import address
from support.tiny_runs import train_arguments

from dm2_ray.checkpoints import open_checkpoint
from dm2_ray.cli import main


def test_an_update_that_is_not_finite_leaves_data_and_the_last_good_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(train_arguments(run, "--iterations", "2", "checkpoint.every_iterations=0")) == 0
    config = run / "config.yaml"
    good = config.read_text()
    config.write_text(good.replace("lr_actor: 0.0005", "lr_actor: 1.0e+30"))
    capsys.readouterr()
    assert main(["resume", str(run), "--iterations", "4"]) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "agent_0, actor, iteration 2: the gradient is not finite" in error
    assert "ended after iteration 2, which is saved" in error and f"dm2 resume {run}" in error
    kept = run / "diverged" / "iteration_000002_agent_0"
    assert str(kept) in error and "agent_0, iteration 2" in (kept / "reason.txt").read_text()
    with np.load(kept / "trajectory_0.npz") as batch:
        assert batch["observations"].shape[0] == batch["rewards"].shape[0] >= 256
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["stopped_by"], summary["iterations"]) == ("failed", "UpdateDiverged", 2)
    assert open_checkpoint(run).iteration == 2
    config.write_text(good)
    assert main(["resume", str(run), "--iterations", "3"]) == 0


@pytest.mark.parametrize(
    ("signals", "grace_s"),
    [([signal.SIGTERM], 1.0), ([signal.SIGINT, signal.SIGINT], 600.0)],
    ids=["pre-empted", "impatient"],
)
def test_an_iteration_that_takes_too_long_is_dropped_and_what_came_before_is_saved(
    tmp_path: Path, signals: list[signal.Signals], grace_s: float
) -> None:
    run = tmp_path / "run"
    quick = train_arguments(run, "--iterations", "1", "checkpoint.every_iterations=0", f"faults.stop_grace_s={grace_s}")
    assert main(quick) == 0
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 2\n", "epochs: 100000\n"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dm2_ray.cli", "resume", str(run), "--iterations", "3", *address()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "RAY_AUTH_MODE": "disabled"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("dm2: ippo on"):
            break
    # Once it has computed for so long it is in the middle of an iteration that does not end.
    worker = psutil.Process(process.pid)
    started_s = sum(worker.cpu_times()[:2])
    while sum(worker.cpu_times()[:2]) < started_s + 4.0:
        assert process.poll() is None
        time.sleep(0.05)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"dm2 resume {run}" in output
    assert open_checkpoint(run).iteration == 1
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
