"""A real local Ray for the tests of this room, and the smallest world that has a team."""

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from dm2_ray.actors.ray_session import ray_session
from dm2_ray.config import Experiment


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with ray_session(needed_cpus=8):
        yield


@pytest.fixture
def small() -> Experiment:
    """Two agents, little data, everything in this process."""
    return Experiment.model_validate(
        {
            "variant": "mappo",
            "algorithm": "mappo",
            "matching": {"coefficient": 0.0},
            "world": {"map": "2m_vs_1z"},
            "rollout": {"env_runners": 0, "battles_per_env_runner": 8, "env_steps": 256},
            "policy": {"hidden_size": 16},
            "ppo": {"epochs": 2},
            "evaluation": {"episodes": 10},
        }
    )
