"""A real local Ray for the tests of this room, and the smallest world that has a team."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from dm2_ray.actors.dm2_config import DM2Config
from dm2_ray.actors.ray_session import ray_session


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with ray_session(needed_cpus=8):
        yield


@pytest.fixture
def small() -> DM2Config:
    """IPPO with two agents, little data, everything in this process."""
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
    """The same with a rollout process and a process per agent."""
    return small.dm2(rollout={"env_runners": 2}, learners={"processes": "per_agent"})
