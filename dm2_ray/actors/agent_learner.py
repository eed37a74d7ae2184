"""AgentLearner: everything one agent learns, in one RLlib TorchLearner.

    train(iteration, demonstration, *trajectories)
        │  discriminator: `updates` gradient steps on own trajectories against own expert's slice
        │  r = r_env + c * f(logit)  →  advantages of whole battles
        │  policy and critic: `epochs` passes of PPO
        └─► metrics, inference weights, snapshot

It holds exactly one agent's policy, critic, normaliser, discriminator and optimisers, and is sent nothing of any
other agent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.utils.annotations import override

from dm2_ray.actors.streams import Role, stream_seed
from dm2_ray.actors.threads import one_thread
from dm2_ray.learning.discriminator import discriminator_batch, discriminator_losses
from dm2_ray.learning.policy import policy_parameter_groups
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.preparation import learning_rewards, minibatches, prepare_policy_batch
from dm2_ray.learning.trajectory import AgentTrajectory
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs, minibatch_rows

if TYPE_CHECKING:
    from dm2_ray.actors.dm2_config import DM2Config
    from dm2_ray.demonstrations.dataset import AgentDemonstration


class LearnerNotAdmitted(RuntimeError):
    """A learner was asked to train before it was given a state, or with a state of another iteration."""


class LearningDiverged(ArithmeticError):
    """A loss or gradient is NaN or infinite."""


class LearnerState(TypedDict):
    """A complete state: numpy arrays, numbers and strings only."""

    agent: str
    version: int
    modules: dict[str, dict[str, np.ndarray]]
    optimizers: dict[str, dict[str, Any]]


class AgentLearner(TorchLearner):
    """One agent's learner. As a Ray actor it is its own process; nothing in it knows of other agents."""

    def __init__(self, *, config: DM2Config, module_spec: MultiRLModuleSpec, agent_index: int) -> None:
        super().__init__(config=config, module_spec=module_spec)
        self.agent_index = agent_index
        self.agent_id = config.agent_ids[agent_index]
        self._experiment = config.experiment
        self._discriminator_id = config.discriminator_id(self.agent_id)
        self._horizon = config.episode_limit
        self._version = 0
        # A process that Ray restarted has fresh weights and must not pass for the one that died.
        self._admitted = False
        self._statistics: dict[str, torch.Tensor] = {}
        """Losses and statistics of the last gradient step."""
        with one_thread():
            self.build()

    # The actor's calls.

    def ping(self) -> str:
        return "pong"

    def admit(self) -> tuple[dict[str, np.ndarray], LearnerState]:
        """Accepts the present state as the agent's; returns weights and snapshot."""
        self._admitted = True
        return self.inference_weights(), self.snapshot()

    def restore(self, state: LearnerState) -> None:
        """Takes over a snapshot, whatever the present state is.

        Raises:
            ValueError: It is another agent's, or of other networks.
        """
        if state["agent"] != self.agent_id:
            raise ValueError(f"a state of {state['agent']} was given to the learner of {self.agent_id}")
        for module_id, values in state["modules"].items():
            self.module[module_id].load_state_dict(_as_tensors(values))
        for module_id in self.module.keys():
            for name, optimizer in self.get_optimizers_for_module(module_id):
                optimizer.load_state_dict(_as_tensors(state["optimizers"][name]))
        self._version = int(state["version"])
        self._admitted = True

    @one_thread()
    def train(
        self, iteration: int, demonstration: AgentDemonstration | None, *trajectories: AgentTrajectory
    ) -> tuple[dict[str, float], dict[str, np.ndarray], LearnerState]:
        """One update on one iteration's data.

        Args:
            iteration: Must be the number of updates done so far.
            demonstration: This agent's slice of the iteration's joint draw; None without matching.
            trajectories: This agent's part of the iteration's rollouts, in the rollouts' order.

        Raises:
            LearnerNotAdmitted: The learner is fresh from a restart or is not at this iteration.
            LearningDiverged: A loss or gradient is not finite; the state is then not to be used.
        """
        if not self._admitted or self._version != iteration:
            raise LearnerNotAdmitted(
                f"{self.agent_id} is {'at iteration' if self._admitted else 'not admitted, at'} {self._version}, "
                f"asked for {iteration}"
            )
        generator = torch.Generator().manual_seed(
            stream_seed(self._experiment.seed, Role.AGENT_UPDATE, self.agent_index, iteration)
        )
        trajectory = AgentTrajectory.concatenate(trajectories)
        metrics: dict[str, float] = {"policy_age": float(iteration - trajectory.policy_version)}
        rewards = torch.from_numpy(np.array(trajectory.rewards))
        matching = self._experiment.matching.at(iteration)
        if demonstration is not None and matching.coefficient > 0:
            own, expert = self._visited(trajectory), self._visited(demonstration)
            metrics |= self._update_discriminator(expert, own, generator)
            rewards, contribution = learning_rewards(
                trajectory,
                self.module[self._discriminator_id],
                own,
                matching,
                self._horizon,
                self._experiment.ppo.gamma,
            )
            metrics |= {**contribution, "matching_coefficient": matching.coefficient}
        metrics |= self._update_policy(trajectory, rewards, generator)
        self._version += 1
        return metrics, self.inference_weights(), self.snapshot()

    def inference_weights(self) -> dict[str, np.ndarray]:
        """What acting needs: the actor's parameters."""
        state = self.module[self.agent_id].get_state(inference_only=True)
        return {name: np.array(value) for name, value in state.items()}

    def snapshot(self) -> LearnerState:
        """A copy of everything that a later update depends on."""
        return {
            "agent": self.agent_id,
            "version": self._version,
            "modules": {
                module_id: {name: _copied(value) for name, value in self.module[module_id].state_dict().items()}
                for module_id in self.module.keys()
            },
            "optimizers": {
                name: _as_arrays(optimizer.state_dict())
                for module_id in self.module.keys()
                for name, optimizer in self.get_optimizers_for_module(module_id)
            },
        }

    # Learning.

    def _visited(self, data: AgentTrajectory | AgentDemonstration) -> VisitedRows:
        return discriminator_inputs(
            data.observations,
            data.episode_lengths,
            self._experiment.matching.padding,
            self._horizon,
            device=self.device,
        )

    def _update_discriminator(
        self, expert: VisitedRows, own: VisitedRows, generator: torch.Generator
    ) -> dict[str, float]:
        settings = self._experiment.discriminator
        rows = minibatch_rows(expert, settings.minibatch_episodes)
        for _ in range(settings.updates):
            self._update({self._discriminator_id: discriminator_batch(expert, own, rows, generator)})
        return self._read_statistics("discriminator_")

    def _update_policy(
        self, trajectory: AgentTrajectory, rewards: torch.Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        settings = self._experiment.ppo
        prepared = prepare_policy_batch(self.module[self.agent_id], trajectory, rewards, settings)
        for _ in range(settings.epochs):
            for columns in minibatches(prepared, settings.minibatches, generator):
                self._update({self.agent_id: columns})
        return {**prepared.statistics, **self._read_statistics("")}

    def _read_statistics(self, prefix: str) -> dict[str, float]:
        values = {f"{prefix}{name}": float(value) for name, value in self._statistics.items()}
        self._statistics = {}
        return values

    # RLlib's hooks. `_update` runs forward_train, compute_loss_for_module, compute_, postprocess_ and apply_gradients.

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module = self.module[module_id]
        if module_id == self._discriminator_id:
            groups = {"discriminator": (list(module.parameters()), self._experiment.discriminator.lr, 1e-8)}
        else:
            settings = self._experiment.ppo
            rates = {"actor": settings.lr_actor, "critic": settings.lr_critic}
            groups = {
                name: (parameters, rates[name], settings.adam_eps)
                for name, parameters in policy_parameter_groups(module).items()
            }
        for name, (parameters, lr, eps) in groups.items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, lr=lr, eps=eps, fused=True),
                params=parameters,
            )

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: str, config: Any = None, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        settings = self._experiment
        if module_id == self._discriminator_id:
            losses = discriminator_losses(
                fwd_out["logits"], batch["is_expert"], fwd_out["gradient_norms"], settings.discriminator
            )
        else:
            losses = ppo_losses(
                fwd_out[Columns.ACTION_DIST_INPUTS], fwd_out["values"], PPOBatch.from_columns(batch), settings.ppo
            )
        self._statistics = {name: value.detach() for name, value in losses.items()}
        return losses["total_loss"]

    @override(TorchLearner)
    def compute_gradients(self, loss_per_module: dict[str, torch.Tensor], **kwargs: Any) -> dict[Any, torch.Tensor]:
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        (loss,) = loss_per_module.values()
        loss.backward()
        return {ref: parameter.grad for ref, parameter in self._params.items() if parameter.grad is not None}

    @override(TorchLearner)
    def postprocess_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        """Clips actor's and critic's gradient, each by its own norm; a norm that is not finite ends the update."""
        for module_id in self.module.keys():
            for name, optimizer in self.get_optimizers_for_module(module_id):
                parameters = [p for p in optimizer.param_groups[0]["params"] if p.grad is not None]
                if not parameters:
                    continue
                of_policy = module_id == self.agent_id
                limit = self._experiment.ppo.max_grad_norm if of_policy else math.inf
                norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
                if not torch.isfinite(norm):
                    raise LearningDiverged(
                        f"{self.agent_id}, {name}, iteration {self._version}: the gradient is not finite "
                        f"(loss {float(self._statistics['total_loss'])}); lower the learning rate or look at the data"
                    )
                self._statistics[f"grad_norm_{name.rsplit('_', 1)[-1]}" if of_policy else "grad_norm"] = norm
        return gradients_dict

    @override(TorchLearner)
    def apply_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> None:
        for optimizer in self._optimizer_parameters:
            if any(parameter.grad is not None for parameter in optimizer.param_groups[0]["params"]):
                optimizer.step()

    @override(TorchLearner)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return dict(self.snapshot())

    @override(TorchLearner)
    def set_state(self, state: Mapping[str, Any]) -> None:
        # RLlib's own version skips weights that are not newer than the present ones.
        self.restore(cast(LearnerState, state))


def _copied(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_arrays(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_arrays(item) for item in value]
    return _copied(value) if isinstance(value, torch.Tensor) else value


def _as_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_tensors(item) for item in value]
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
