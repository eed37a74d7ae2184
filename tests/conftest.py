"""Fixtures of all tests: marks (tests/README.md), one local Ray, and Hypothesis without a deadline."""

from __future__ import annotations

import multiprocessing.process
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

# Ray reads this when it is imported for the first time.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

if TYPE_CHECKING:
    from dm2_ray import DM2Config

# With the variable CI set, Hypothesis uses its own profile, which has no deadline either.
if "CI" not in os.environ:
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


LANES = ("ray", "cli", "browser", "slow", "long")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests `ray` or `browser` by the fixtures they use, and `unit` where they have no other mark."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "local_ray" in fixtures:
            item.add_marker("ray")
        if "browser" in fixtures:
            item.add_marker("browser")
        if not any(item.get_closest_marker(lane) for lane in LANES):
            item.add_marker("unit")


@pytest.fixture(autouse=True)
def _unit_tests_start_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a unit test that starts a process fail: it belongs to another lane."""
    if request.node.get_closest_marker("unit") is None:
        return

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        # pytest.fail raises no Exception, which code that retries or goes on without the process would catch.
        pytest.fail("this test starts a process: mark it ray, cli or browser (tests/README.md)")

    # The methods, not the classes: subclasses that were made before, such as Ray's, are refused too.
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)


@pytest.fixture
def refusal_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[object]], str]:
    """A function that runs a `dm2` command which must be refused, and returns its one line of error.

    The command runs in a directory that is empty, and must be empty afterwards.
    """
    from dm2_ray.cli import main

    directory = tmp_path / "empty"
    directory.mkdir()
    monkeypatch.chdir(directory)

    def run(arguments: Sequence[object]) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("dm2: ") and error.count("\n") == 1
        assert list(directory.iterdir()) == []
        return error

    return run


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A real local Ray."""
    from dm2_ray.distributed.ray_session import ray_session

    with ray_session(needed_cpus=8):
        yield


@pytest.fixture
def small() -> DM2Config:
    """IPPO with two agents, little data, everything in this process."""
    from dm2_ray import DM2Config

    return DM2Config().dm2(
        world={"map": "2m_vs_1z"},
        rollout={"env_runners": 0, "battles_per_env_runner": 8, "env_steps": 256},
        policy={"hidden_size": 16},
        ppo={"epochs": 2},
        learners={"processes": "driver"},
        evaluation={"episodes": 10},
    )


@pytest.fixture
def distributed(small: DM2Config) -> DM2Config:
    """The same with two rollout processes and a process per agent."""
    return small.dm2(rollout={"env_runners": 2}, learners={"processes": "per_agent"})
