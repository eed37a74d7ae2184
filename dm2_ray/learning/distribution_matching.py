"""One agent's matching: from what it and its expert visited to the rewards it learns from.

trajectory ──────► own rows ──┬─ with replayed rows ──► discriminator's gradient steps
demonstration ──► expert rows ┘                              │
                      own rows, logits ──► form ──► running scale ──► r from r_team and c * r_match
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dm2_ray.config.schema import Experiment
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.episodes import AgentEpisodes, AgentTrajectory
from dm2_ray.learning.ppo_batch import learning_rewards
from dm2_ray.learning.reward_scale import RewardScale
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs
from dm2_ray.learning.visitation_buffer import VisitationBuffer


class DistributionMatcher:
    """An agent's distribution matching, without its discriminator's weights and their optimizer: they are passed in."""

    def __init__(self, experiment: Experiment, horizon: int, num_actions: int) -> None:
        """`horizon`: the battle's time limit in env steps."""
        self._experiment = experiment
        self._horizon = horizon
        self._num_actions = num_actions
        self._replay = VisitationBuffer(experiment.discriminator.replay_iterations)
        self._scale = RewardScale() if experiment.matching.normalise else None

    def visited(self, episodes: AgentEpisodes, device: torch.device | str | None) -> VisitedRows:
        """The agent's, or its expert's, visitation as the discriminator sees it."""
        return discriminator_inputs(
            episodes.observations,
            episodes.episode_lengths,
            self._experiment.matching.padding,
            self._horizon,
            device=device,
            kind=self._experiment.discriminator.input,
            actions=episodes.actions,
            num_actions=self._num_actions,
        )

    def update(
        self,
        discriminator: Discriminator,
        optimizer: torch.optim.Optimizer,
        trajectory: AgentTrajectory,
        own: VisitedRows,
        expert: VisitedRows,
        generator: torch.Generator,
        *,
        iteration: int,
        owner: str,
    ) -> tuple[Tensor, dict[str, float]]:
        """Trains the discriminator, then computes the rewards: one iteration's update.

        Args:
            own, expert: `visited` of the trajectory and of the iteration's demonstration.
            generator: Draws the minibatches; a CPU generator.
            iteration: Selects the coefficient of the schedule.
            owner: Whose discriminator this is, for error messages.

        Returns:
            Rewards [S] in flat order, and metrics: those of `train_discriminator` and of `learning_rewards`, and
            `matching_coefficient`.

        Raises:
            LearningDiverged: A gradient is not finite.
        """
        settings = self._experiment.matching.at(iteration)
        training = train_discriminator(
            discriminator, optimizer, expert, self._replay.with_current(own), generator, owner=owner
        )
        self._replay.append(own)
        rewards, contribution = learning_rewards(
            trajectory, discriminator, own, settings, self._horizon, self._experiment.ppo.gamma, self._scale
        )
        return rewards, {**training, **contribution, "matching_coefficient": settings.coefficient}

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """A copy of the state, for a snapshot: replayed rows and running scale, each where it is in use."""
        return {**self._replay.to_arrays(), **(self._scale.to_arrays() if self._scale is not None else {})}

    def load_arrays(self, arrays: Mapping[str, Any], device: torch.device | str | None) -> None:
        """Takes over what `to_arrays` gave; what is missing starts anew."""
        self._replay.load_arrays(arrays, device)
        if self._scale is not None:
            self._scale.load_arrays(arrays)
