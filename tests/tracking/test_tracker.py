"""The tracker's outputs: TensorBoard, Weights & Biases and summary.json, each read back from the disk."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import wandb

from dm2_ray.config.schema import Experiment, TrackingSettings
from dm2_ray.tracking import Tracker, TrackingError, read_metrics
from dm2_ray.tracking.wandb_run import WandbRun

pytestmark = pytest.mark.cli
ANY_KEY = "0123456789" * 4


def experiment(**tracking: Any) -> Experiment:
    return Experiment(seed=3, tracking=TrackingSettings(**tracking))


def record(iteration: int, **more: Any) -> dict[str, Any]:
    agents = {f"agent_{i}": {"policy_loss": iteration + i / 10, "odd": float("nan")} for i in range(2)}
    return {"iteration": iteration, "env_steps": 100 * iteration, "episodes": iteration, "win_rate": 0.5,
            "return_mean": 2.0, "agents": agents, "timing": {"learn_s": 1.5}, **more}  # fmt: skip


@pytest.fixture(autouse=True)
def no_wandb_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    yield
    # Its service remembers environment variables. A test may have killed it.
    with contextlib.suppress(ConnectionError):
        wandb.teardown()


def tensorboard_scalars(directory: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar in a directory of event files (TFRecord frames: length, crc, data, crc)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def wandb_records(run_dir: Path, pattern: str = "offline-run-*") -> list[list[dict[str, Any]]]:
    """The records of every offline run in a run directory, oldest first, as W&B's own reader returns them."""
    runs = []
    for directory in sorted(run_dir.glob(f"wandb/{pattern}")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(directory)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        runs.append([json.loads(line) for line in lines])
    return runs


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry[kind] for entry in records if entry["type"] == kind]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    with Tracker(tmp_path, experiment()) as tracker:
        tracker.log(record(1))
        tracker.log(record(2, evaluation={"win_rate": 0.75, "return_mean": 3.0, "episodes": 128}))
    scalars = tensorboard_scalars(tmp_path / "tensorboard")
    assert ("agent_1/policy_loss", 200, pytest.approx(2.1)) in scalars
    assert ("evaluation/win_rate", 200, 0.75) in scalars
    assert ("timing/learn_s", 100, 1.5) in scalars
    assert not [tag for tag, _, _ in scalars if "odd" in tag]


def test_tensorboard_can_be_switched_off(tmp_path: Path) -> None:
    with Tracker(tmp_path, experiment(tensorboard=False)) as tracker:
        tracker.log(record(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl"]


def test_an_offline_run_is_really_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dm2_ray")
    settings = experiment(wandb="offline", project="p", group="g", name="n", tags=("t",), tensorboard=False)
    with Tracker(tmp_path, settings) as tracker:
        tracker.log(record(1))
        tracker.log(record(2, evaluation={"win_rate": 0.75, "return_mean": 3.0, "episodes": 128}))
        tracker.finish("completed")
    assert own_messages(caplog) == []
    (records,) = wandb_records(tmp_path)
    run = of_kind(records, "run")[0]
    assert (run["project"], run["run_group"], run["display_name"], run["job_type"]) == ("p", "g", "n", "train")
    assert {"t", "3m", "dm2"} <= set(run["tags"])
    assert run["config"]["update"]["ppo"]["clip"] == 0.2
    assert any(metric.get("step_metric") == "env_steps" for metric in of_kind(records, "metric"))
    first, second = of_kind(records, "history")
    assert (first["step"]["num"], second["step"]["num"]) == (1, 2)
    assert first["item"]["agent_1/policy_loss"] == 1.1
    assert second["item"]["evaluation/win_rate"] == 0.75
    assert second["item"]["env_steps"] == 200
    assert of_kind(records, "exit")[0].get("exit_code", 0) == 0
    assert not of_kind(records, "output_raw")  # no console capture


def test_a_resumed_experiment_continues_the_same_wandb_run(tmp_path: Path) -> None:
    settings = experiment(wandb="offline", tensorboard=False)
    with Tracker(tmp_path, settings) as tracker:
        for iteration in (1, 2, 3):
            tracker.log(record(iteration))
    with Tracker(tmp_path, settings, resumed_iteration=2) as tracker:
        for iteration in (3, 4):
            tracker.log(record(iteration))
    before, after = wandb_records(tmp_path)
    assert of_kind(before, "run")[0]["run_id"] == of_kind(after, "run")[0]["run_id"]
    # Iteration 3, which is repeated, was already logged to W&B.
    assert [[entry["step"]["num"] for entry in of_kind(part, "history")] for part in (before, after)] == [
        [1, 2, 3],
        [4],
    ]
    assert [entry["iteration"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_iterations_that_wandb_had_not_stored_when_its_driver_was_killed_are_logged_later(tmp_path: Path) -> None:
    settings = experiment(wandb="offline", tensorboard=False)
    with Tracker(tmp_path, settings) as tracker:
        tracker.log(record(1))
    with Tracker(tmp_path, experiment(wandb="disabled", tensorboard=False), resumed_iteration=1) as tracker:
        for iteration in range(2, 1500):
            tracker.log(record(iteration))
    with Tracker(tmp_path, settings, resumed_iteration=1499) as tracker:
        tracker.log(record(1500))
    logged = [of_kind(part, "history") for part in wandb_records(tmp_path)]
    assert [entry["step"]["num"] for part in logged for entry in part] == list(range(1, 1501))
    assert logged[1][0]["item"]["agent_1/policy_loss"] == 2.1


def test_iterations_in_wandbs_buffer_when_its_driver_was_killed_are_logged_again(tmp_path: Path) -> None:
    """W&B's service buffers rows in memory; whether they reach the disk when the driver is killed must not matter."""
    driver = """
import os, sys, time
from pathlib import Path
from dm2_ray.config.schema import Experiment, TrackingSettings
from dm2_ray.tracking import Tracker
tracker = Tracker(Path(sys.argv[1]), Experiment(tracking=TrackingSettings(wandb="offline", tensorboard=False)))
for iteration in range(1, 201):
    tracker.log({"iteration": iteration, "env_steps": iteration, **{f"metric_{i}": float(i) for i in range(300)}})
while not int((Path(sys.argv[1]) / "wandb_last_iteration").read_text()):
    time.sleep(0.05)
os._exit(9)
"""
    run = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", driver, str(run)]).returncode == 9
    mark = int((run / "wandb_last_iteration").read_text())
    assert 0 < mark < 200
    with Tracker(run, experiment(wandb="offline", tensorboard=False), resumed_iteration=200) as tracker:
        tracker.log(record(201))
    killed, resumed = ([entry["step"]["num"] for entry in of_kind(part, "history")] for part in wandb_records(run))
    assert killed == list(range(1, len(killed) + 1)) and len(killed) >= mark
    assert resumed == list(range(mark + 1, 202))
    assert int((run / "wandb_last_iteration").read_text()) == 201


def test_iterations_that_another_machine_may_have_logged_are_not_logged_again(tmp_path: Path) -> None:
    settings = experiment(wandb="offline", tensorboard=False)
    with Tracker(tmp_path, settings) as tracker:
        tracker.log(record(1))
    shutil.rmtree(tmp_path / "wandb")
    (tmp_path / "wandb_last_iteration").unlink()
    with Tracker(tmp_path, settings, resumed_iteration=1) as tracker:
        tracker.log(record(2))
    (records,) = wandb_records(tmp_path)
    assert [entry["step"]["num"] for entry in of_kind(records, "history")] == [2]


def test_the_service_of_another_process_may_hold_the_run(tmp_path: Path) -> None:
    """After a driver that shared its parent's service was killed, the service believes that the run continues."""
    script = """
import os, sys
from pathlib import Path
from dm2_ray.config.schema import Experiment, TrackingSettings
from dm2_ray.tracking.wandb_run import WandbRun
run = WandbRun(Path(sys.argv[1]), Experiment(tracking=TrackingSettings(wandb="offline")))
run.log(int(sys.argv[2]), {"env_steps": 1.0})
if sys.argv[3] == "killed":
    os._exit(9)
run.finish(0)
"""
    wandb.setup().ensure_service()
    assert os.environ["WANDB_SERVICE"]
    (tmp_path / "run").mkdir()
    commands = [
        [sys.executable, "-c", script, str(tmp_path / "run"), *rest] for rest in (["1", "killed"], ["2", "ended"])
    ]
    assert subprocess.run(commands[0]).returncode == 9
    done = subprocess.run(commands[1], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert of_kind(wandb_records(tmp_path / "run")[-1], "history")[0]["step"]["num"] == 2


def test_the_service_of_another_process_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dm2_ray")
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        monkeypatch.setenv("WANDB_SERVICE", f"3-1-tcp-localhost-{closed.getsockname()[1]}")
        with Tracker(tmp_path, experiment(wandb="offline", tensorboard=False)) as tracker:
            tracker.log(record(1))
    assert own_messages(caplog) == []
    (records,) = wandb_records(tmp_path)
    assert of_kind(records, "history")[0]["item"]["env_steps"] == 100


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The log messages of this package, without those of W&B."""
    return [entry.getMessage() for entry in caplog.records if entry.name.startswith("dm2_ray")]


def goes_offline(tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    with Tracker(tmp_path / "run", experiment(wandb="online", tensorboard=False)) as tracker:
        tracker.log(record(1))
    # Some libraries wait for half an hour.
    assert time.monotonic() - began < 60
    (line,) = own_messages(caplog)
    assert "\n" not in line
    assert "offline" in line and reason in line and f"wandb sync {tmp_path}/run/wandb/offline-run-*" in line
    (records,) = wandb_records(tmp_path / "run")
    assert of_kind(records, "history")[0]["item"]["env_steps"] == 100


def test_without_a_key_online_becomes_offline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    goes_offline(tmp_path, "no API key", caplog)


def test_without_a_network_online_becomes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", ANY_KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    goes_offline(tmp_path, "http://127.0.0.1:9 does not answer", caplog)


def test_a_server_that_never_answers_makes_online_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_API_KEY", ANY_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        goes_offline(tmp_path, "does not answer", caplog)


def test_a_server_that_refuses_makes_online_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = refuse

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("WANDB_API_KEY", ANY_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        goes_offline(tmp_path, "401", caplog)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Falling(http.server.BaseHTTPRequestHandler):
    """As much of W&B's server as a run needs to start; once `fallen` is set, it stops answering."""

    protocol_version = "HTTP/1.1"
    fallen = threading.Event()
    over = threading.Event()

    def do_HEAD(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.fallen.is_set():
            self.over.wait(120)
        elif b"upsertBucket" in body:
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "entity"}}
            bucket = {"id": "b", "name": json.loads(body)["variables"]["name"], "config": "{}", "project": project}
            self.answer({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}})
        else:
            self.answer({"data": {}})

    do_GET = do_PUT = do_POST

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_stops_answering_costs_no_more_than_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dm2_ray")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Falling)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("WANDB_API_KEY", ANY_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        run = WandbRun(tmp_path, experiment(wandb="online"), finish_timeout_s=2.0)
        assert run.mode == "online"
        Falling.fallen.set()
        began = time.monotonic()
        for iteration in (1, 2, 3):
            run.log(iteration, {"env_steps": iteration})
        assert time.monotonic() - began < 1.0  # training does not wait
        run.finish(0)
        assert time.monotonic() - began < 30.0
    finally:
        Falling.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
    messages = own_messages(caplog)
    assert messages[0].startswith("W&B: http://127.0.0.1")
    assert (
        len(messages) == 2 and messages[1].startswith("Stopped logging to W&B") and f"{tmp_path}/wandb" in messages[1]
    )
    # Everything is on the disk.
    (records,) = wandb_records(tmp_path, "run-*")
    assert [entry["step"]["num"] for entry in of_kind(records, "history")] == [1, 2, 3]


def test_training_continues_when_wandb_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dm2_ray")
    with Tracker(tmp_path, experiment(wandb="offline", tensorboard=False)) as tracker:
        tracker.log(record(1))
        services = [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]
        assert services
        for service in services:
            service.kill()
        psutil.wait_procs(services, timeout=30)
        for iteration in range(2, 6):
            tracker.log(record(iteration))
        tracker.finish("completed")
    messages = own_messages(caplog)
    assert len(messages) == 1 and messages[0].startswith("Stopped logging to W&B")
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 5


def test_the_summary_contains_the_last_and_best_results(tmp_path: Path) -> None:
    with Tracker(tmp_path, experiment(tensorboard=False)) as tracker:
        for iteration, win_rate in ((1, 0.25), (2, 0.75), (3, 0.75), (4, 0.5)):
            tracker.log(record(iteration, evaluation={"win_rate": win_rate, "return_mean": 1.0, "episodes": 128}))
        tracker.log(record(5))
        returned = tracker.finish("completed", checkpoint="checkpoints/000005")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == returned
    assert summary["status"] == "completed"
    assert (summary["map"], summary["variant"], summary["seed"]) == ("3m", "dm2", 3)
    assert (summary["iterations"], summary["env_steps"], summary["episodes"]) == (5, 500, 5)
    assert summary["evaluation"] == {
        "iteration": 4,
        "env_steps": 400,
        "win_rate": 0.5,
        "return_mean": 1.0,
        "episodes": 128,
    }
    assert summary["best_evaluation"]["iteration"] == 2
    assert summary["checkpoint"] == "checkpoints/000005"
    assert "wall_s" in summary["timing"]


def test_a_resumed_runs_summary_equals_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    def evaluated(iteration: int) -> dict[str, Any]:
        return record(iteration, evaluation={"win_rate": 1 / iteration, "return_mean": 1.0, "episodes": 8})

    with Tracker(tmp_path / "a", experiment(tensorboard=False)) as tracker:
        for iteration in (1, 2, 3, 4):
            tracker.log(evaluated(iteration))
        undisturbed = tracker.finish("completed")
    with Tracker(tmp_path / "b", experiment(tensorboard=False)) as tracker:
        for iteration in (1, 2, 3):
            tracker.log(evaluated(iteration))
        tracker.finish("interrupted")
    with Tracker(tmp_path / "b", experiment(tensorboard=False), resumed_iteration=2) as tracker:
        for iteration in (3, 4):
            tracker.log(evaluated(iteration))
        resumed = tracker.finish("completed")
    assert {**resumed, "timing": None} == {**undisturbed, "timing": None}


def test_a_summary_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(tmp_path, experiment(tensorboard=False))
    tracker.log(record(1))
    tracker.finish("interrupted")
    before = (tmp_path / "summary.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    again = Tracker(tmp_path, experiment(tensorboard=False), resumed_iteration=1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.fsync", full)
        again.finish("completed")
    assert (tmp_path / "summary.json").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_new_run_does_not_overwrite_another(tmp_path: Path) -> None:
    with Tracker(tmp_path, experiment(tensorboard=False)) as tracker:
        tracker.log(record(1))
    with pytest.raises(TrackingError, match="another run"):
        Tracker(tmp_path, experiment(tensorboard=False))
