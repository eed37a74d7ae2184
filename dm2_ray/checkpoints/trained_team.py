"""What playing with a trained team needs to know of it, wherever it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dm2_ray.checkpoints.checkpoint import CheckpointError
from dm2_ray.config.schema import Experiment


class TrainedTeam(Protocol):
    """A `Checkpoint` of a run, or a `PackedTeam` of the zoo."""

    @property
    def name(self) -> str:
        """The team in messages and provenance: its path, or `zoo:MAP/NAME`."""

    @property
    def path(self) -> Path:
        """Directory of its files."""

    @property
    def map(self) -> str:
        """Map that it was trained on."""

    @property
    def variant(self) -> str:
        """How it was trained: ippo, mappo, dm2, …"""

    @property
    def env_steps(self) -> int:
        """How long it was trained."""

    @property
    def num_agents(self) -> int:
        """N."""

    @property
    def obs_size(self) -> int:
        """O."""

    @property
    def num_actions(self) -> int:
        """A."""

    @property
    def digest(self) -> str:
        """Hash of its files, which the provenance of demonstrations records."""

    def experiment(self) -> Experiment:
        """World and policy settings that it was trained with; a checkpoint has all others as well."""

    def agent_state(self, index: int) -> dict[str, Any]:
        """An agent's parameters by module, under the key `modules`; of a packed team only those of its actor."""


def actor_weights(team: TrainedTeam) -> list[dict[str, np.ndarray]]:
    """Per agent, the parameters of its actor, and nothing else of its state.

    Raises:
        CheckpointError: An agent's file is damaged or lacks its policy.
    """
    weights = []
    for index in range(team.num_agents):
        try:
            module = team.agent_state(index)["modules"][f"agent_{index}"]
        except KeyError as error:
            raise CheckpointError(f"{team.name}: does not fit its own configuration ({error})") from error
        weights.append({name: value.numpy() for name, value in module.items() if name.startswith("actor.")})
    return weights
