"""A checkpoint's team, ready to play."""

from __future__ import annotations

import numpy as np

from dm2_ray.actors.stacked import StackedPolicies
from dm2_ray.checkpoints import Checkpoint, CheckpointError


def policies_of(checkpoint: Checkpoint, *, greedy: bool, seed: int = 0) -> StackedPolicies:
    """The checkpoint's team.

    Raises:
        CheckpointError: The agents' files do not fit the checkpoint's own configuration.
    """
    policies = StackedPolicies(
        checkpoint.num_agents,
        checkpoint.obs_size,
        checkpoint.num_actions,
        checkpoint.experiment().policy,
        greedy=greedy,
        seed=seed,
    )
    weights = actor_weights(checkpoint)
    try:
        policies.load(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit its own configuration ({error})") from error
    return policies


def actor_weights(checkpoint: Checkpoint) -> list[dict[str, np.ndarray]]:
    """What `StackedPolicies.load` wants of every agent, and nothing else of its state.

    Raises:
        CheckpointError: An agent's file is damaged or lacks its policy.
    """
    weights = []
    for index in range(checkpoint.num_agents):
        try:
            module = checkpoint.agent_state(index)["modules"][f"agent_{index}"]
        except KeyError as error:
            raise CheckpointError(f"{checkpoint.path}: does not fit its own configuration ({error})") from error
        weights.append({name: value.numpy() for name, value in module.items() if name.startswith("actor.")})
    return weights
