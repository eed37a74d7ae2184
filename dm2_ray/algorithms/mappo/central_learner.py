"""CentralLearner: one PPO on the battles of all agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dm2_ray.algorithms.mappo.central_policy import CentralPolicy
from dm2_ray.algorithms.mappo.joint_battles import JointBattles
from dm2_ray.algorithms.mappo.joint_preparation import prepare_joint_batch
from dm2_ray.checkpoints.saving import as_tensors
from dm2_ray.distributed.learners.agent_learner import as_arrays
from dm2_ray.distributed.process_setup import single_threaded_torch
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.learning.gradients import LearningDiverged
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.ppo_batch import minibatches

CENTRAL = "central"
"""Module id of what only the learner needs: critic and value normalizer."""


class CentralLearner:
    """Shared actor, central critic and their optimizers; an update is a function of (state, battles, seed).

    Args:
        spec: Of the run; `seed`, `policy` and `ppo` of its experiment are used.
    """

    def __init__(self, spec: RunSpec) -> None:
        experiment = spec.experiment
        self._experiment = experiment
        self._num_agents = spec.num_agents
        seed = derive_seed(experiment.seed, StreamRole.AGENT_INITIALISATION, 0)
        self.module = CentralPolicy(*spec.sizes, spec.state_size, experiment.policy, seed)
        settings = experiment.ppo
        rates = {"actor": settings.lr_actor, "critic": settings.lr_critic}
        self._optimizers = {
            name: torch.optim.Adam(getattr(self.module, name).parameters(), lr=rate, eps=settings.adam_eps, fused=True)
            for name, rate in rates.items()
        }
        self.version = 0
        """Updates done so far."""

    @single_threaded_torch()
    def train(self, battles: JointBattles) -> dict[str, float]:
        """One update on one iteration's battles; returns its metrics.

        Raises:
            LearningDiverged: A gradient is not finite; the state must then not be used.
        """
        settings = self._experiment.ppo
        seed = derive_seed(self._experiment.seed, StreamRole.AGENT_UPDATE, 0, self.version)
        generator = torch.Generator().manual_seed(seed)
        prepared = prepare_joint_batch(self.module, battles, settings)
        metrics = {"policy_age": float(self.version - battles.agents[0].policy_version), **prepared.statistics}
        statistics: dict[str, torch.Tensor] = {}
        for _ in range(settings.epochs):
            for columns in minibatches(prepared, settings.minibatches, generator):
                statistics = self._step(columns)
        self.version += 1
        return metrics | {name: float(value) for name, value in statistics.items()}

    def actor_weights(self) -> dict[str, np.ndarray]:
        """A copy of the actor's parameters, under the names that StackedPolicies reads."""
        return {f"actor.{name}": value for name, value in as_arrays(self.module.actor.state_dict()).items()}

    def states(self) -> dict[str, dict[str, Any]]:
        """Everything that a later update depends on, in the form of DM2's agents, so that every tool for teams can
        play it: each agent has the shared actor; what only the learner needs is stored with the first agent."""
        agents: dict[str, dict[str, Any]] = {
            agent: {
                "agent": agent,
                "version": self.version,
                "modules": {agent: self.actor_weights()},
                "optimizers": {},
            }
            for agent in (f"agent_{index}" for index in range(self._num_agents))
        }
        first = agents["agent_0"]
        first["modules"][CENTRAL] = {
            name: value for name, value in as_arrays(self.module.state_dict()).items() if not name.startswith("actor.")
        }
        first["optimizers"] = {name: as_arrays(optimizer.state_dict()) for name, optimizer in self._optimizers.items()}
        return agents

    def restore(self, agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Inverse of `states`.

        Raises:
            ValueError: The states belong to another algorithm or another team.
        """
        first = agents["agent_0"]
        if CENTRAL not in first["modules"] or len(agents) != self._num_agents:
            raise ValueError(
                f"these {len(agents)} states are not those of a central learner of {self._num_agents} agents"
            )
        self.module.load_state_dict(as_tensors({**first["modules"]["agent_0"], **first["modules"][CENTRAL]}))
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(as_tensors(first["optimizers"][name]))
        self.version = int(first["version"])

    def _step(self, columns: dict[str, Any]) -> dict[str, torch.Tensor]:
        """One gradient step; the actor's and the critic's gradient are clipped, each by its own norm."""
        settings = self._experiment.ppo
        logits, values = self.module(columns)
        statistics = ppo_losses(logits, values, PPOBatch.from_columns(columns), settings)
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        statistics["total_loss"].backward()
        statistics = {name: value.detach() for name, value in statistics.items()}
        for name, optimizer in self._optimizers.items():
            norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], settings.max_grad_norm)
            if not torch.isfinite(norm):
                raise LearningDiverged(
                    f"mappo, {name}, iteration {self.version}: the gradient is not finite (loss "
                    f"{float(statistics['total_loss'])}); lower the learning rate or check the data"
                )
            statistics[f"grad_norm_{name}"] = norm
        for optimizer in self._optimizers.values():
            optimizer.step()
        return statistics
