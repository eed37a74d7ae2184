"""The algorithm in one file computes what the package computes, iteration by iteration, from the same seed.

The operations differ (padded instead of packed battles, automatic instead of written-out gradients), so the numbers are
equal up to rounding: differences measured over three iterations are below 1e-6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dm2_ray import DM2Config
from dm2_ray.examples.single_file_dm2 import Agent, Network, Run, Settings

pytestmark = pytest.mark.usefixtures("local_ray")

SEED, ITERATIONS = 3, 3
NAMES_OF_BLOCKS = {"hidden.{}.linear": "linears.{}", "hidden.{}.norm": "norms.{}"}
"""Of a network's layers: in the package, and in the one file."""


def network_state(network: Network, part: str) -> dict[str, np.ndarray]:
    """Parameters under the package's names."""
    state = {}
    for name, value in network.state_dict().items():
        for layer in range(2):
            for theirs, ours in NAMES_OF_BLOCKS.items():
                name = name.replace(ours.format(layer), theirs.format(layer))
        state[f"{part}.{name}"] = value.numpy()
    return state


def assert_same_parameters(agent: Agent, modules: dict[str, Any], tolerance: float) -> None:
    policy, discriminator = modules[f"agent_{agent.index}"], modules[f"agent_{agent.index}_discriminator"]
    found = network_state(agent.actor, "actor") | network_state(agent.critic, "critic")
    for name in ("mean", "variance", "weight"):
        found[f"value_normaliser.{name}"] = getattr(agent.normalizer, name).numpy()
    assert found.keys() == policy.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, policy[name], rtol=0, atol=tolerance, err_msg=name)
    parameters = [value.numpy() for value in agent.discriminator.state_dict().values()]
    for (name, value), other in zip(discriminator.items(), parameters, strict=True):
        np.testing.assert_allclose(other, value, rtol=0, atol=tolerance, err_msg=name)


def test_one_file_gives_the_packages_numbers(
    small: DM2Config, demonstrations: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    settings = Settings(
        seed=SEED,
        battles=4,
        env_steps=128,
        episodes_per_draw=6,
        hidden_size=16,
        epochs=3,
        discriminator_updates=20,
        minibatch_episodes=4,
        penalty_rows=32,
    )
    run = Run(str(demonstrations), settings)
    config = small.dm2(variant="dm2", seed=SEED, matching={"coefficient": 0.3}, **tiny)
    config = config.dm2(demonstrations={"path": str(demonstrations), "expert_actors": 0})
    algorithm = config.build_algo()
    try:
        state = algorithm.learning_state()
        for agent in run.team:  # drawn from the same streams: equal to the last bit
            assert_same_parameters(agent, state["agents"][f"agent_{agent.index}"]["modules"], 0.0)
        for iteration in range(ITERATIONS):
            result = algorithm.train()
            win_rate, metrics = run.train()
            assert win_rate == result["env_runners"]["win_rate"]
            state = algorithm.learning_state()
            for agent, found in zip(run.team, metrics, strict=True):
                expected = algorithm.agent_metrics[f"agent_{agent.index}"]
                for name, value in found.items():
                    assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-5), (iteration, agent.index, name)
                assert_same_parameters(agent, state["agents"][f"agent_{agent.index}"]["modules"], 1e-5)
    finally:
        algorithm.stop()
