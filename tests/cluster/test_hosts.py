"""Three hosts with their own addresses: a token, a cut link, a host that joins, and one that is powered off.

Whatever happens to the hosts, no number of a run may change: the reference is the same run without processes.
"""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, unsupported, wait_until
from ray_hosts import JOBS_ADDRESS, RayHosts
from support.tiny_runs import TINY_WITH_PROCESSES

from dm2_ray.cli import main

REASON = unsupported()
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SETTINGS = [*TINY_WITH_PROCESSES, "rollout.tasks=6", "checkpoint.every_iterations=50"]
PROCESSES = ["rollout.env_runners=3"]
NO_PROCESSES = ["rollout.env_runners=0", "learners.processes=driver", "demonstrations.expert_actors=0"]
ENDLESS = 100_000
RECOVERY_S = 240.0
"""Time limit for the recovery of a run from a fault. It takes about 15 s, more on a busy machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run that is in progress."""

    directory: Path
    log: Path
    process: subprocess.Popen[str]

    def records(self) -> list[dict[str, Any]]:
        return records(self.directory)

    def first_record(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first record from now on for which `condition` holds.

        Raises:
            TimeoutError: There was none within RECOVERY_S.
        """
        seen = len(self.records())

        def found() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return [record for record in self.records()[seen:] if condition(record)]

        try:
            wait_until(found, RECOVERY_S, what)
        except TimeoutError as error:
            raise TimeoutError(
                f"{error}; last record {self.records()[-1:]}; log: {self.log.read_text()[-2000:]}"
            ) from None
        return found()[0]

    def continues(self, without: Host) -> None:
        """Waits for ten iterations without a host."""
        first = self.first_record(lambda record: without.address not in hosts_of(record), f"without {without.name}")
        self.first_record(lambda record: record["iteration"] >= first["iteration"] + 10, "ten more iterations")


def records(directory: Path) -> list[dict[str, Any]]:
    file = directory / "metrics.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def results(directory: Path) -> list[dict[str, Any]]:
    """The records without `timing`, which depends on clock and machine."""
    return [{name: value for name, value in line.items() if name != "timing"} for line in records(directory)]


def hosts_of(record: dict[str, Any]) -> set[str]:
    """Addresses of the hosts that played an iteration's battles."""
    return set(record["timing"]["hosts"])


def training(demonstrations: Path, iterations: int, *settings: str) -> list[str]:
    return [
        "--variant", "dm2", "--map", "2m_vs_1z", "--demos", str(demonstrations), "--iterations", str(iterations),
        *SETTINGS, *settings,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demonstrations") / "set"
    assert main(["demos", "record", "scripted:kite", "--map", "2m_vs_1z", "--episodes", "20", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHosts]:
    """A head and two workers."""
    with RayHosts(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(2):
            cluster.add_worker()
        yield cluster


@pytest.fixture(scope="module")
def disturbed(cluster: RayHosts, demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that continues until it is stopped."""
    directory = tmp_path_factory.mktemp("disturbed")
    run, log = directory / "run", directory / "log"
    process = cluster.start(
        "dm2", "submit", *training(demonstrations, ENDLESS, *PROCESSES, "rollout.max_env_runners=4"),
        "--address", JOBS_ADDRESS, "--name", "disturbed", "--run-dir", run, "--follow", log=log,
    )  # fmt: skip
    yield Run(directory=run, log=log, process=process)
    Host.signal(process, signal.SIGKILL)
    process.wait(10)


def test_without_the_token_nothing_runs(cluster: RayHosts, demonstrations: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    work = [*training(demonstrations, 1, *PROCESSES), "--run-dir", run]
    for command in (["submit", *work, "--address", JOBS_ADDRESS], ["train", *work, "--address", "auto"]):
        code, output = cluster.run("dm2", *command, token=False, timeout_s=90)
        assert code == 2, output
        assert "RAY_AUTH_TOKEN" in output.splitlines()[-1] and "Traceback" not in output
    code, output = cluster.run("dm2", "jobs", "--json", "--address", JOBS_ADDRESS, timeout_s=60)
    assert code == 0 and json.loads(output.splitlines()[-1]) == {"jobs": []}
    assert records(run) == []


def test_a_job_trains_on_all_hosts(cluster: RayHosts, demonstrations: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output = cluster.run(
        "dm2", "submit", *training(demonstrations, 3, *PROCESSES), "--address", JOBS_ADDRESS, "--run-dir", run,
        "--follow", timeout_s=120,
    )  # fmt: skip
    assert code == 0, output
    assert "iteration 3/3" in output
    assert [hosts_of(record) for record in records(run)] == [{host.address for host in cluster.hosts}] * 3
    assert cluster.token_file.read_text() not in output


def test_a_cut_link_does_not_stop_the_run(cluster: RayHosts, disturbed: Run) -> None:
    everywhere = {host.address for host in cluster.hosts}
    disturbed.first_record(lambda record: hosts_of(record) == everywhere, "battles on all hosts")
    victim = cluster.hosts[1]
    victim.unplug()
    disturbed.continues(without=victim)


def test_a_host_that_joins_gets_work(cluster: RayHosts, disturbed: Run) -> None:
    joined = cluster.add_worker()
    disturbed.first_record(lambda record: joined.address in hosts_of(record), f"battles on {joined.name}")


def test_a_host_with_learners_is_powered_off(cluster: RayHosts, disturbed: Run) -> None:
    victims = [host for host in cluster.hosts[2:] if host.processes("ray::AgentLearner")]
    assert victims, "no learner on a host that can be powered off"
    victims[0].power_off()
    disturbed.continues(without=victims[0])


def test_the_disturbed_run_has_the_results_of_an_undisturbed_one(
    cluster: RayHosts, disturbed: Run, demonstrations: Path, tmp_path: Path
) -> None:
    code, output = cluster.run("dm2", "stop", "disturbed", "--address", JOBS_ADDRESS, timeout_s=90)
    assert code == 0, output
    assert disturbed.process.wait(30) == 130, disturbed.log.read_text()[-2000:]
    summary = json.loads((disturbed.directory / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    iterations = len(records(disturbed.directory))
    run = tmp_path / "run"
    assert main(["train", *training(demonstrations, iterations, *NO_PROCESSES), "--run-dir", str(run)]) == 0
    assert results(disturbed.directory) == results(run)
