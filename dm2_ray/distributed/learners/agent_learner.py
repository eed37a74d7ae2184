"""AgentLearner: everything one agent learns, in one RLlib TorchLearner.

    train(iteration, demonstration, *trajectories)
        │  discriminator: `updates` gradient steps on own trajectories against own expert's demonstration
        │  r = r_env + c * f(logit)  →  advantages of whole battles
        │  policy and critic: `epochs` passes of PPO
        └─► metrics, inference weights, snapshot

In the first `cloning.iterations` updates the actor imitates its expert's actions instead, and nothing else is learned.
In the next `cloning.critic_iterations` it stays as it is, while critic and discriminator learn.

It holds exactly one agent's policy, critic, normalizers, discriminator, recent visitations and optimizers, and is sent
nothing of any other agent.

LearnerState: everything that an agent's next update depends on, in the form in which it is sent and saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.utils.annotations import override

from dm2_ray.checkpoints.saving import as_tensors
from dm2_ray.distributed.errors import LearnerNotReady
from dm2_ray.distributed.process_setup import single_threaded_torch
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.learning.behavior_cloning import cloning_losses, prepare_cloning_batch
from dm2_ray.learning.classifier_two_sample import visitation_divergence
from dm2_ray.learning.distribution_matching import DistributionMatcher
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory
from dm2_ray.learning.gradients import check_finite, clip_grad_norm_checked
from dm2_ray.learning.policy import policy_parameter_groups
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.ppo_batch import minibatches, prepare_policy_batch


class AgentLearner(TorchLearner):
    """One agent's learner. As a Ray actor it is its own process; nothing in it knows of other agents.

    A gradient step of the policy goes through RLlib and returns here, hook by hook; the discriminator's steps do not:

        _update_policy → RLlib's _update: forward_train → compute_loss_for_module → compute_gradients
                         → postprocess_gradients → apply_gradients → _update_policy
    """

    def __init__(self, *, config: AlgorithmConfig, module_spec: MultiRLModuleSpec, agent_index: int) -> None:
        # A TorchLearner takes an AlgorithmConfig; this one is a DM2Config, which carries the run's description.
        super().__init__(config=config, module_spec=module_spec)
        spec: RunSpec = config.run_spec
        self.agent_index = agent_index
        self.agent_id = spec.agent_ids[agent_index]
        self._experiment = spec.experiment
        self._discriminator_id = spec.discriminator_id(self.agent_id)
        self._matching = DistributionMatcher(self._experiment, spec.episode_limit, spec.num_actions)
        self._version = 0
        # False in a process that Ray restarted: its weights are fresh, so it must not train.
        self._admitted = False
        self._statistics: dict[str, torch.Tensor] = {}
        """Losses and statistics of the last gradient step."""
        with single_threaded_torch():
            self.build()

    # What the learner group calls.

    def ping(self) -> str:
        return "pong"

    def admit(self) -> tuple[dict[str, np.ndarray], LearnerState]:
        """Accepts the present state as the agent's; returns inference weights and snapshot."""
        self._admitted = True
        return self.inference_weights(), self.snapshot()

    def restore(self, state: LearnerState) -> dict[str, np.ndarray]:
        """Replaces the present state by a snapshot; returns the inference weights.

        Raises:
            ValueError: The snapshot belongs to another agent or to other networks.
        """
        if state["agent"] != self.agent_id:
            raise ValueError(f"a state of {state['agent']} was given to the learner of {self.agent_id}")
        for module_id, values in state["modules"].items():
            self.module[module_id].load_state_dict(as_tensors(values))
        for module_id in self.module.keys():
            for name, optimizer in self.get_optimizers_for_module(module_id):
                # Learning rates come from the configuration, not the checkpoint, so a resume may change them.
                rates = [{key: group[key] for key in ("lr", "eps")} for group in optimizer.param_groups]
                optimizer.load_state_dict(as_tensors(state["optimizers"][name]))
                for group, own in zip(optimizer.param_groups, rates, strict=True):
                    group.update(own)
        self._matching.load_arrays(as_arrays(state.get("extras", {})), self.device)
        self._version = int(state["version"])
        self._admitted = True
        return self.inference_weights()

    @single_threaded_torch()
    def train(
        self, iteration: int, demonstration: AgentDemonstration | None, *trajectories: AgentTrajectory
    ) -> tuple[dict[str, float], dict[str, np.ndarray], LearnerState]:
        """One update on one iteration's data.

        Args:
            iteration: Must be the number of updates done so far.
            demonstration: This agent's slice of the iteration's joint draw; None where nothing is matched or cloned.
            trajectories: This agent's part of the iteration's rollouts, in the rollouts' order; none while cloning.

        Raises:
            LearnerNotReady: The learner was restarted and not restored, or is not at this iteration.
            LearningDiverged: Data, a loss or a gradient is not finite; the state must then not be used.
            ValueError: There is nothing to learn from, or the expert took actions that cannot be cloned.
        """
        if not self._admitted or self._version != iteration:
            raise LearnerNotReady(
                f"{self.agent_id} is {'at iteration' if self._admitted else 'not admitted, at'} {self._version}, "
                f"asked for {iteration}"
            )
        if iteration < self._experiment.cloning.iterations:
            metrics = self._clone(iteration, demonstration)
        else:
            metrics = self._learn(iteration, demonstration, AgentTrajectory.concatenate(trajectories))
        self._version += 1
        return metrics, self.inference_weights(), self.snapshot()

    def inference_weights(self) -> dict[str, np.ndarray]:
        """The actor's parameters, which are all that acting needs."""
        state = self.module[self.agent_id].get_state(inference_only=True)
        return {name: np.array(value) for name, value in state.items()}

    def snapshot(self) -> LearnerState:
        """A copy of everything that a later update depends on."""
        return {
            "agent": self.agent_id,
            "version": self._version,
            "modules": {module_id: as_arrays(self.module[module_id].state_dict()) for module_id in self.module.keys()},
            "optimizers": {
                name: as_arrays(optimizer.state_dict())
                for module_id in self.module.keys()
                for name, optimizer in self.get_optimizers_for_module(module_id)
            },
            "extras": self._matching.to_arrays(),
        }

    # Learning. Every part has its own random stream, so that no part changes what another one learns.

    def _generator(self, role: StreamRole, iteration: int) -> torch.Generator:
        seed = derive_seed(self._experiment.seed, role, self.agent_index, iteration)
        return torch.Generator().manual_seed(seed)

    def _clone(self, iteration: int, demonstration: AgentDemonstration | None) -> dict[str, float]:
        if demonstration is None:
            raise ValueError(f"{self.agent_id}, iteration {iteration}: cloning needs a demonstration, found none")
        settings = self._experiment.cloning
        generator = self._generator(StreamRole.AGENT_UPDATE, iteration)
        prepared = prepare_cloning_batch(self.module[self.agent_id], demonstration)
        for _ in range(settings.epochs):
            for columns in minibatches(prepared, settings.minibatches, generator):
                self._update({self.agent_id: columns})
        return {**prepared.statistics, **self._read_statistics()}

    def _learn(
        self, iteration: int, demonstration: AgentDemonstration | None, trajectory: AgentTrajectory
    ) -> dict[str, float]:
        owner = f"{self.agent_id}, iteration {iteration}"
        check_finite({"observations": trajectory.observations, "rewards": trajectory.rewards}, owner=owner)
        if demonstration is not None:
            check_finite({"observations": demonstration.observations}, owner=f"{owner}, demonstration")
        metrics: dict[str, float] = {"policy_age": float(iteration - trajectory.policy_version)}
        rewards = torch.from_numpy(np.array(trajectory.rewards))
        if demonstration is not None:
            own = self._matching.visited(trajectory, self.device)
            expert = self._matching.visited(demonstration, self.device)
            every = self._experiment.diagnostics.divergence_every
            if every > 0 and (iteration + 1) % every == 0:
                metrics |= visitation_divergence(own, expert, self._generator(StreamRole.DIAGNOSTICS, iteration))
            if self._experiment.matching.at(iteration).coefficient > 0:
                ((_, optimizer),) = self.get_optimizers_for_module(self._discriminator_id)
                rewards, matched = self._matching.update(
                    self.module[self._discriminator_id],
                    cast(torch.optim.Optimizer, optimizer),
                    trajectory,
                    own,
                    expert,
                    self._generator(StreamRole.DISCRIMINATOR_UPDATE, iteration),
                    iteration=iteration,
                    owner=f"{self.agent_id}, discriminator, iteration {iteration}",
                )
                metrics |= matched
        metrics |= self._update_policy(trajectory, rewards, self._generator(StreamRole.AGENT_UPDATE, iteration))
        return metrics

    def _update_policy(
        self, trajectory: AgentTrajectory, rewards: torch.Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        settings = self._experiment.ppo
        prepared = prepare_policy_batch(self.module[self.agent_id], trajectory, rewards, settings)
        for _ in range(settings.epochs):
            for columns in minibatches(prepared, settings.minibatches, generator):
                self._update({self.agent_id: columns})
        return {**prepared.statistics, **self._read_statistics()}

    def _read_statistics(self) -> dict[str, float]:
        values = {name: float(value) for name, value in self._statistics.items()}
        self._statistics = {}
        return values

    # RLlib's hooks, in the order in which `_update` calls them (see the class); only the policy is updated this way.

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
        if self._version < settings.cloning.iterations:
            losses = cloning_losses(fwd_out[Columns.ACTION_DIST_INPUTS], batch["actions"], batch["alive"])
        else:
            losses = ppo_losses(
                fwd_out[Columns.ACTION_DIST_INPUTS], fwd_out["values"], PPOBatch.from_columns(batch), settings.ppo
            )
            if settings.cloning.is_actor_frozen(self._version):
                losses["total_loss"] = settings.ppo.value_coef * losses["value_loss"]  # gives the actor no gradient
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
        """Clips the actor's and the critic's gradient, each by its own norm; stops if a norm is not finite."""
        for name, optimizer in self.get_optimizers_for_module(self.agent_id):
            parameters = [p for p in optimizer.param_groups[0]["params"] if p.grad is not None]
            if parameters:
                part = name.rsplit("_", 1)[-1]
                self._statistics[f"grad_norm_{part}"] = clip_grad_norm_checked(
                    parameters,
                    self._statistics["total_loss"],
                    limit=self._experiment.ppo.max_grad_norm,
                    owner=f"{self.agent_id}, {part}, iteration {self._version}",
                )
        return gradients_dict

    @override(TorchLearner)
    def apply_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> None:
        for optimizer in self._optimizer_parameters:
            if any(parameter.grad is not None for parameter in optimizer.param_groups[0]["params"]):
                optimizer.step()

    @override(TorchLearner)
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The whole state, whichever components are asked for."""
        return dict(self.snapshot())

    @override(TorchLearner)
    def set_state(self, state: Mapping[str, Any]) -> None:
        # Not RLlib's own version, which skips weights that are not newer than the present ones.
        self.restore(cast(LearnerState, state))


class _RequiredKeys(TypedDict):
    agent: str
    version: int
    modules: dict[str, dict[str, np.ndarray]]
    optimizers: dict[str, dict[str, Any]]


class LearnerState(_RequiredKeys, total=False):
    """A complete state: numpy arrays, numbers and strings only."""

    extras: dict[str, np.ndarray]
    """State outside of modules: recent own visitations and the running scale of the matching reward. Checkpoints of
    earlier versions lack it."""


def as_arrays(value: Any) -> Any:
    """A deep copy with arrays instead of tensors, and lists instead of tuples."""
    if isinstance(value, Mapping):
        return {key: as_arrays(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_arrays(item) for item in value]
    return value.detach().cpu().numpy().copy() if isinstance(value, torch.Tensor) else value
