"""What a job consists of: the experiment, no secrets, and arguments that are quoted for the cluster's shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dm2_ray.cli.commands import build_parser
from dm2_ray.cli.main import main
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultKind
from dm2_ray.distributed.resources import ProcessGroup, RunResources
from dm2_ray.jobs.capacity import ClusterTooSmall, check_capacity, demand_of
from dm2_ray.jobs.dashboard import ClusterError, Node
from dm2_ray.jobs.job_record import JobRecord, job_table
from dm2_ray.jobs.submission import _copy_package, new_run, resumed_run
from dm2_ray.runs.experiment_loading import load_experiment

pytestmark = pytest.mark.cli


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def experiment(*overrides: str) -> Experiment:
    return load_experiment(variant="ippo", map_name="3m", overrides=["stop.iterations=3", *overrides])


def words(entrypoint: str, home: str = "/home/ray") -> list[str]:
    """The arguments of `dm2` as a shell passes them."""
    assert entrypoint.startswith("exec python3 -m dm2_ray.cli ")
    command = entrypoint.replace("exec python3 -m dm2_ray.cli", "printf '%s\\0'")
    done = subprocess.run(["sh", "-c", command], env={"HOME": home}, check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("given", "there"),
    [
        (None, "/home/my ray/dm2-runs/ID"),
        ("runs/a b;rm -rf x", "/home/my ray/runs/a b;rm -rf x"),
        ("/shared/$(reboot)'s", "/shared/$(reboot)'s"),
        ("~/runs/`x`", "/home/my ray/runs/`x`"),
    ],
)
def test_the_run_directory_is_one_argument(given: str | None, there: str) -> None:
    submission = new_run(experiment(), job_id="ID", run_dir=given)
    arguments = words(submission.entrypoint, "/home/my ray")
    assert arguments == ["train", "experiment.yaml", "--run-dir", there, "--address", "auto"]
    build_parser().parse_args(arguments)


def test_a_run_is_resumed_from_its_directory_or_its_copy() -> None:
    assert words(resumed_run("/shared/runs/a", iterations=7).entrypoint) == [
        "resume", "/shared/runs/a", "--iterations", "7", "--address", "auto"
    ]  # fmt: skip
    copy = resumed_run("s3://bucket/runs/a", job_id="ID", env_steps=9)
    assert words(copy.entrypoint) == [
        "resume", "s3://bucket/runs/a", "--run-dir", "/home/ray/dm2-runs/ID", "--env-steps", "9", "--address", "auto"
    ]  # fmt: skip
    build_parser().parse_args(words(copy.entrypoint))
    with pytest.raises(ClusterError, match="must be a URI"):
        resumed_run("/shared/runs/a", run_dir="elsewhere")


def test_a_job_has_time_to_save() -> None:
    submission = new_run(experiment("faults.stop_grace_s=44.5"))
    assert submission.env_vars == {"RAY_JOB_STOP_WAIT_TIME_S": "75"}


def test_wandb_settings_are_sent_and_its_key_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"WANDB_MODE": "offline", "WANDB_ENTITY": "team", "WANDB_BASE_URL": "https://wandb.example"}
    for name, value in {**given, "WANDB_API_KEY": "x" * 40, "WANDB_IDENTITY_TOKEN_FILE": "/x"}.items():
        monkeypatch.setenv(name, value)
    submission = new_run(experiment())
    assert submission.env_vars == {"RAY_JOB_STOP_WAIT_TIME_S": "60", **given}
    assert "x" * 40 not in repr(submission)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("checkpoint.uri=s3://me:word@bucket/runs", "checkpoint.uri"),
        ("checkpoint.uri=s3://bucket/runs?secret_key=word", "checkpoint.uri"),
    ],
)
def test_a_secret_in_a_setting_is_refused(setting: str, name: str) -> None:
    with pytest.raises(ClusterError, match=name) as error:
        new_run(experiment(setting))
    assert "word" not in str(error.value).replace("password", "")


def test_a_secret_in_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:word@wandb.example")
    with pytest.raises(ClusterError, match="WANDB_BASE_URL"):
        new_run(experiment())
    monkeypatch.delenv("WANDB_BASE_URL")
    with pytest.raises(ClusterError, match="--resume"):
        resumed_run("s3://me:word@bucket/runs/a")


def test_names_are_unique_and_simple() -> None:
    names = {new_run(experiment()).job_id for _ in range(20)}
    assert len(names) == 20
    for bad in ("a b", "", "../x", "a/b", "-x", "x" * 101):
        with pytest.raises(ClusterError, match="--name"):
            new_run(experiment(), job_id=bad or "/")


def test_the_source_that_is_sent_is_complete(tmp_path: Path) -> None:
    _copy_package(tmp_path)
    code = (
        "import dm2_ray.runs.experiment_loading as f, sys; assert f.__file__.startswith(sys.argv[1]), f.__file__;"
        "assert str(f.configs_dir()).startswith(sys.argv[1]);"
        "f.load_experiment(variant='ippo', map_name='100m_vs_100m')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, check=True)


def test_resume_takes_no_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--resume", "/runs/a", "--map", "3m", "seed=1"]) == 2
    assert "leave out settings, map" in capsys.readouterr().err


# Resources.


HEAD = Node("10.0.0.1", True, {"CPU": 2.0})
LARGE = Node("10.0.0.2", False, {"CPU": 8.0, "GPU": 1.0})


def test_the_demand_is_what_the_run_starts() -> None:
    demand = demand_of(experiment("rollout.env_runners=3", "learners.gpus_per_learner=0.25"))
    assert demand.total == pytest.approx({"CPU": 3.6, "GPU": 0.75})
    check_capacity(demand, [HEAD, LARGE])
    with pytest.raises(ClusterTooSmall, match=r"needs 3.6 CPU \(3 rollout workers x 1 CPU, 3 learners"):
        check_capacity(demand, [HEAD])
    with pytest.raises(ClusterTooSmall, match="no living node"):
        check_capacity(demand, [])


def workers(count: int, cpus: float) -> RunResources:
    return RunResources(groups=(ProcessGroup(kind=FaultKind.ROLLOUT_WORKER, count=count, each={"CPU": cpus}),))


def test_tenths_add_up_to_a_whole() -> None:
    check_capacity(workers(20, 0.1), [HEAD])


def test_a_process_needs_its_resources_on_one_node() -> None:
    demand = workers(2, 4.0)
    check_capacity(demand, [LARGE])
    with pytest.raises(ClusterTooSmall, match="4 CPU on one node"):
        check_capacity(demand, [Node(f"10.0.0.{index}", False, {"CPU": 2.0}) for index in range(4)])


def test_mappo_has_no_learner_processes() -> None:
    mappo = load_experiment(variant="mappo", map_name="3m", overrides=["stop.iterations=1", "rollout.env_runners=2"])
    assert demand_of(mappo).total == {"CPU": 2.0}


# Records of jobs.


def job(status: str, **details: object) -> JobRecord:
    return JobRecord.of({"submission_id": "ID", "status": status, **details})


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 130),
        ("STOPPED", 0, 130), ("RUNNING", None, None), ("PENDING", None, None),
    ],
)  # fmt: skip
def test_a_jobs_exit_code_is_its_drivers(status: str, driver: int | None, code: int | None) -> None:
    assert job(status, driver_exit_code=driver).exit_code == code


def test_the_table_has_a_line_for_each_job() -> None:
    metadata = {"variant": "dm2", "map": "3m", "seed": "4"}
    old = job("FAILED", driver_exit_code=3, start_time=1000, end_time=3_726_000, metadata=metadata)
    lines = job_table([old, job("RUNNING", start_time=2000)]).splitlines()
    assert lines[0].split() == ["ID", "STATUS", "EXIT", "RUN", "STARTED", "TOOK"]
    assert lines[1].split()[1] == "RUNNING"
    assert shlex.split(lines[2])[1:6] == ["FAILED", "3", "dm2", "3m", "4"]
    assert lines[2].endswith("1:02:05")
