"""The smallest world that has a team, for MAPPO."""

import pytest
import torch

from dm2_ray.config.schema import Experiment


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
