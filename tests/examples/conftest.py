"""Demonstrations for the examples, and settings small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dm2_ray.recording.recorder import record


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demonstrations") / "set"
    record("scripted:kite", map_name="2m_vs_1z", episodes=12, out=path, greedy=True, seed=0)
    return path


@pytest.fixture
def tiny() -> dict[str, dict[str, Any]]:
    return {
        "rollout": {"battles_per_env_runner": 4, "env_steps": 128},
        "policy": {"hidden_size": 16},
        "ppo": {"epochs": 3},
        "discriminator": {"hidden_size": 16, "updates": 20, "minibatch_episodes": 4, "penalty_rows": 32},
        "demonstrations": {"episodes_per_draw": 6},
        "diagnostics": {"divergence_every": 0},
    }
