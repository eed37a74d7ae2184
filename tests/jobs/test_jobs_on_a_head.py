"""Jobs on a real Ray head with a token: submitted, followed, stopped, resumed, refused; no secret is shown.

The head is started by cluster/baremetal/head.sh; every command runs in its own process.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.ray_head import ROOT, RayHead, free_ports, with_parent

from dm2_ray.jobs.dashboard import Dashboard
from dm2_ray.jobs.job_control import follow
from dm2_ray.jobs.submission import ray_client

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

TOKEN = secrets.token_hex(32)
# As long as a real key; nothing is sent to W&B. One is in the environment of the commands, the other in the head's.
WANDB_KEY, HEADS_WANDB_KEY = secrets.token_hex(20), secrets.token_hex(20)
COMMAND_S = 90.0
LIGHT = [
    "--variant", "ippo", "--map", "2m_vs_1z", "rollout.env_runners=0", "rollout.battles_per_env_runner=8",
    "rollout.env_steps=256", "policy.hidden_size=16", "ppo.epochs=2", "learners.processes=driver",
    "evaluation.every_env_steps=0", "evaluation.episodes=4", "tracking.tensorboard=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with tempfile.TemporaryDirectory(prefix="dm2h-") as place:
        with RayHead(Path(place), TOKEN, num_cpus=2, secrets={"WANDB_API_KEY": HEADS_WANDB_KEY}) as running:
            yield running


def dm2(head: RayHead, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with the token, and with a W&B key that must not be sent anywhere."""
    return subprocess.run(
        [sys.executable, "-m", "dm2_ray.cli", *map(str, arguments)],
        env={**head.environment(), "RAY_API_SERVER_ADDRESS": head.address, "WANDB_API_KEY": WANDB_KEY, **environment},
        cwd=head.directory, capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(head: RayHead) -> subprocess.CompletedProcess[str]:
    """A job that succeeds."""
    return dm2(
        head, "submit", *LIGHT, "--iterations", 2, "--name", "first", "--run-dir", "runs/first", "--follow", "--json",
        "tracking.wandb=offline", WANDB_ENTITY="team",
    )  # fmt: skip


def test_a_submitted_run_trains_and_returns_zero(head: RayHead, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stderr
    (line,) = first.stdout.splitlines()
    printed = json.loads(line)
    assert (printed["id"], printed["status"], printed["exit_code"]) == ("first", "SUCCEEDED", 0)
    assert "iteration 2/2" in first.stderr
    run = head.directory / "runs" / "first"
    assert printed["run_dir"] == "~/runs/first"
    assert json.loads((run / "summary.json").read_text())["iterations"] == 2


def test_no_secret_is_shown_anywhere(head: RayHead, first: subprocess.CompletedProcess[str]) -> None:
    dashboard = connected(head)
    shown = json.dumps(dashboard.jobs()) + dashboard.job_logs("first") + first.stdout + first.stderr
    details = dashboard.job("first")
    assert details is not None
    env_vars = details["runtime_env"]["env_vars"]
    assert env_vars == {"RAY_JOB_STOP_WAIT_TIME_S": "60", "WANDB_ENTITY": "team"}
    logs = [path for path in (head.directory / "ray").glob("session_*/logs/**/*") if path.is_file()]
    assert any(path.name == "runtime_env_agent.log" for path in logs)
    written = [*logs, *(path for path in (head.directory / "runs").rglob("*") if path.is_file())]
    for secret in (TOKEN, WANDB_KEY, HEADS_WANDB_KEY):
        assert secret not in shown
        for path in written:
            assert secret.encode() not in path.read_bytes(), path
    environments = []
    for pid in head.processes():
        with suppress(OSError):
            command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
            environments.append(Path(f"/proc/{pid}/environ").read_bytes())
            assert TOKEN.encode() not in command_line
            assert HEADS_WANDB_KEY.encode() not in command_line
    # A job gets the key from the environment of the node.
    assert any(HEADS_WANDB_KEY.encode() in environment for environment in environments)
    assert not any(WANDB_KEY.encode() in environment for environment in environments)


def test_a_failed_job_returns_its_own_code(head: RayHead, first: subprocess.CompletedProcess[str]) -> None:
    """The driver refuses a directory that contains a run with code 2; Ray's own command line would return 1."""
    done = dm2(head, "submit", *LIGHT, "--iterations", 2, "--name", "again", "--run-dir", "runs/first", "--follow")
    assert done.returncode == 2, done.stderr
    assert "already contains a run" in done.stdout
    assert "FAILED, exit code 2" in done.stderr


def test_a_name_can_be_used_once(head: RayHead, first: subprocess.CompletedProcess[str]) -> None:
    done = dm2(head, "submit", *LIGHT, "--iterations", 2, "--name", "first")
    assert done.returncode == 2
    assert done.stderr == (
        "dm2: there is already a job first (SUCCEEDED): choose another --name, or see `dm2 jobs first`\n"
    )


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_token_no_job_is_accepted(head: RayHead, token: str) -> None:
    began = time.monotonic()
    missing = str(head.directory / "nowhere")
    done = dm2(
        head, "submit", *LIGHT, "--iterations", 2, "--name", "intruder", RAY_AUTH_TOKEN=token,
        RAY_AUTH_TOKEN_PATH=missing,
    )  # fmt: skip
    assert time.monotonic() - began < 5
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert ("refuses the token found in $RAY_AUTH_TOKEN" if token else "asks for a token") in done.stderr
    assert connected(head).job("intruder") is None


def test_a_run_that_is_too_large_is_refused_with_the_arithmetic(head: RayHead) -> None:
    done = dm2(
        head, "submit", "--variant", "ippo", "--map", "2m_vs_1z", "--iterations", 1, "--env-runners", 8,
        "--name", "large",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(
        "dm2: the run needs 8.4 CPU (8 rollout workers x 1 CPU, 2 learners x 0.2 CPU), the cluster has 2 (head 2 CPU): "
    )
    assert connected(head).job("large") is None


def test_a_stopped_job_has_saved_and_can_be_resumed(head: RayHead) -> None:
    """Followed, not disturbed by Ctrl-C, stopped, and resumed by another job."""
    run = head.directory / "runs" / "long"
    submitted = dm2(head, "submit", *LIGHT, "--iterations", 100_000, "--name", "long", "--run-dir", run, "--json")
    assert submitted.returncode == 0, submitted.stderr
    follower = subprocess.Popen(
        [sys.executable, "-m", "dm2_ray.cli", "jobs", "long", "--follow", "--address", head.address],
        env=head.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # If the tests run in the background of a shell, SIGINT would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert follower.stdout is not None
    for line in follower.stdout:
        if line.startswith("iteration 2/"):
            break
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert "job long continues" in said
    listed = json.loads(dm2(head, "jobs", "long", "--json").stdout)
    assert (listed["status"], listed["metadata"]["map"]) == ("RUNNING", "2m_vs_1z")

    stopped = dm2(head, "stop", "long", "--json")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout)["exit_code"] == 130
    assert json.loads((run / "summary.json").read_text())["stopped_by"] == "SIGTERM"
    iterations = json.loads((run / "summary.json").read_text())["iterations"]
    assert (run / "checkpoints" / f"iteration_{iterations:06d}").is_dir()
    assert dm2(head, "jobs", "long", "--follow").returncode == 130

    resumed = dm2(head, "submit", "--resume", run, "--iterations", iterations + 1, "--follow", "--name", "more")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "summary.json").read_text())["iterations"] == iterations + 1
    table = dm2(head, "jobs").stdout.splitlines()
    assert {line.split()[0]: line.split()[2] for line in table[1:]}["long"] == "130"


def test_following_survives_a_broken_connection(head: RayHead, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a tunnel that is cut: every line arrives once."""
    ray_client(connected(head)).submit_job(
        entrypoint="for i in $(seq 12); do echo line $i; sleep 0.5; done; exit 7", submission_id="counting"
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token_file))
    written: list[str] = []
    with Tunnel(int(head.address.rpartition(":")[2])) as tunnel:
        timer = threading.Timer(3.5, tunnel.cut)
        timer.start()
        job = follow(Dashboard(f"http://127.0.0.1:{tunnel.port}"), "counting", written.append)
    assert tunnel.cuts > 0
    assert (job.status, job.exit_code) == ("FAILED", 7)
    lines = [line for line in "".join(written).splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(1, 13)]


def test_the_doctor_checks_the_cluster(head: RayHead) -> None:
    done = dm2(head, "doctor", *LIGHT[:4], "rollout.env_runners=1")
    assert done.returncode == 0, done.stdout
    assert f"ok    authentication: token; the one from {head.token_file} is accepted" in done.stdout
    done = dm2(head, "doctor", *LIGHT[:4], "rollout.env_runners=9", "--json")
    assert done.returncode == 1
    (failed,) = [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] == "fail"]
    assert failed["check"] == "nodes"
    assert "9 rollout workers x 1 CPU" in failed["what"]
    head.token_file.chmod(0o644)
    try:
        assert f"chmod 600 {head.token_file}" in dm2(head, "doctor").stdout
    finally:
        head.token_file.chmod(0o600)


def test_a_pending_job_cannot_be_stopped(head: RayHead) -> None:
    """Submitted without `dm2 submit`, whose jobs do not reserve CPUs for their driver."""
    ray_client(connected(head)).submit_job(entrypoint="true", submission_id="pending", entrypoint_num_cpus=64)
    began = time.monotonic()
    done = dm2(head, "stop", "pending")
    assert time.monotonic() - began < 20
    assert done.returncode == 1
    assert "pending and cannot be stopped" in done.stderr
    assert dm2(head, "stop", "nobody").returncode == 2


def test_a_worker_joins_with_the_token_and_leaves_on_sigterm(head: RayHead) -> None:
    (agent,) = free_ports(1)
    command = [
        ROOT / "cluster" / "baremetal" / "worker.sh", head.gcs_address, f"--dashboard-agent-listen-port={agent}",
        "--node-manager-port=0", "--object-manager-port=0", "--num-cpus=3", "--object-store-memory=100000000",
    ]  # fmt: skip
    worker = subprocess.Popen(
        command, env=head.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=with_parent
    )
    try:
        awaited = subprocess.run(
            [sys.executable, "-m", "dm2_ray.jobs.wait_for_nodes", "2", "--address", head.address, "--timeout", "60"],
            env=head.environment(), capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        assert awaited.returncode == 0, awaited.stderr
        assert sorted(node.resources["CPU"] for node in connected(head).nodes()) == [2.0, 3.0]
    finally:
        worker.terminate()
        worker.wait(30)
    deadline = time.monotonic() + 10
    while len(connected(head).nodes()) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(connected(head).nodes()) == 1


def connected(head: RayHead) -> Dashboard:
    """The head's dashboard, for this process."""
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")}
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(head.token_file)
    try:
        return Dashboard(head.address)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Tunnel:
    """Forwards a port of this machine to another one. After a cut, new connections work again at once."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Tunnel:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                self.cuts += 1
        self._open.clear()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
