"""N separate policies as one batched forward pass.

B battles (environments), N agents, O observation size, A actions, I network input size, H hidden size.

The policies share nothing; only their matrix products are issued together (`torch.baddbmm` over a leading agent
axis), because N small products cost N times the overhead of one. The affine part of every LayerNorm is folded into
the linear layer that follows it: LN(x) * g + b, then W x + c, is W diag(g) LN(x) + (W b + c).

`load_policies` builds them from a trained team.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from dm2_ray.checkpoints import CheckpointError, TrainedTeam, actor_weights
from dm2_ray.config.schema import PolicySettings
from dm2_ray.distributed.process_setup import single_threaded_torch
from dm2_ray.learning.policy import input_has_last_action, input_size
from dm2_ray.world.battles.backend import BattleBackend

UNAVAILABLE_LOGIT = -1e9


class StackedPolicies:
    """The acting half of N AgentPolicy modules: weights `[N, in, out]`, recurrent state `[N, B, H]`.

    It is a `TeamPolicy` for `play_battles`. `action_logp` [N, B] holds the log-probabilities of the actions that `act`
    returned last.
    """

    def __init__(
        self,
        num_agents: int,
        obs_size: int,
        num_actions: int,
        settings: PolicySettings,
        *,
        greedy: bool = False,
        seed: int = 0,
    ) -> None:
        self.num_agents = num_agents
        self.obs_size = obs_size
        self.num_actions = num_actions
        self.settings = settings
        self.greedy = greedy
        self._input_size = input_size(obs_size, num_actions, num_agents, settings)
        self._sees_last_action = input_has_last_action(settings)
        self._linears: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._recurrent: tuple[torch.Tensor, ...] | None = None
        self._generator = torch.Generator().manual_seed(seed)
        self._inputs = torch.empty(0)
        self._action_mask = torch.empty(0)
        self._hidden = torch.empty(0)
        self._last_actions = torch.empty(0)
        self.action_logp = torch.empty(0)

    def load(self, weights: Sequence[Mapping[str, np.ndarray | torch.Tensor]]) -> None:
        """Takes over the actors' parameters.

        Args:
            weights: Per agent, AgentPolicy's state dict or the part of it whose names start with `actor.`.

        Raises:
            ValueError: The number of agents or a parameter's shape differs from what this world needs.
        """
        if len(weights) != self.num_agents:
            raise ValueError(f"weights of {len(weights)} agents given, the team has {self.num_agents}")

        def stacked(name: str) -> torch.Tensor:
            return torch.stack([torch.as_tensor(np.asarray(agent[f"actor.{name}"])) for agent in weights])

        norm_gain, norm_bias = stacked("input_norm.weight"), stacked("input_norm.bias")
        if norm_gain.shape[1] != self._input_size:
            raise ValueError(
                f"the policies were trained on inputs of size {norm_gain.shape[1]}, this world gives {self._input_size}"
            )
        linears = []
        for layer in range(self.settings.hidden_layers):
            linears.append(_fold(stacked(f"hidden.{layer}.linear.weight"), stacked(f"hidden.{layer}.linear.bias"),
                                 norm_gain, norm_bias))  # fmt: skip
            norm_gain, norm_bias = stacked(f"hidden.{layer}.norm.weight"), stacked(f"hidden.{layer}.norm.bias")
        if self.settings.network == "gru":
            input_weight, input_bias = _fold(stacked("gru.weight_ih_l0"), stacked("gru.bias_ih_l0"),
                                             norm_gain, norm_bias)  # fmt: skip
            hidden_weight = stacked("gru.weight_hh_l0").transpose(1, 2).contiguous()
            self._recurrent = (input_weight, input_bias, hidden_weight, stacked("gru.bias_hh_l0").unsqueeze(1))
            norm_gain, norm_bias = stacked("output_norm.weight"), stacked("output_norm.bias")
        linears.append(_fold(stacked("head.weight"), stacked("head.bias"), norm_gain, norm_bias))
        self._linears = linears

    def reset_states(self, battles: BattleBackend, seed: int | None = None) -> None:
        """Resets the states of all battles. `seed` starts a new stream of action noise."""
        self.begin_battles(battles.num_battles, seed)

    def begin_battles(self, count: int, seed: int | None = None) -> None:
        """As `reset_states`, by the number of battles."""
        self._inputs = torch.zeros(self.num_agents, count, self._input_size)
        if self.settings.observe_agent_id:
            first_id = self._input_size - self.num_agents
            for agent in range(self.num_agents):
                self._inputs[agent, :, first_id + agent] = 1.0
        self._action_mask = torch.ones(self.num_agents, count, self.num_actions, dtype=torch.bool)
        self._hidden = torch.zeros(self.num_agents, count, self.settings.hidden_size)
        self._last_actions = torch.full((self.num_agents, count), -1, dtype=torch.int64)
        if seed is not None:
            self._generator.manual_seed(seed)

    def act(self, battles: BattleBackend) -> np.ndarray:
        """Joint actions int64 `[B, N]` for the battles' current observations."""
        actions, self.action_logp = self.act_with_logp(battles.observations, battles.action_mask)
        # A copy even for one battle or one agent: `reset_finished` writes into the last actions.
        return actions.T.clone(memory_format=torch.contiguous_format).numpy()

    @single_threaded_torch()
    @torch.inference_mode()
    def act_with_logp(self, observations: np.ndarray, action_mask: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of all agents in all battles.

        Args:
            observations: Float32 `[B, N, O]`.
            action_mask: Bool `[B, N, A]`.

        Returns:
            Actions int64 `[N, B]` and their log-probabilities float32 `[N, B]`.
        """
        # Copied into the tensors' own memory: the battles' arrays are read-only and change with the next step.
        if not self.settings.open_loop:  # then zeros stay there
            self._inputs.numpy()[..., : self.obs_size] = observations.transpose(1, 0, 2)
        self._action_mask.numpy()[...] = action_mask.transpose(1, 0, 2)
        logits = self._logits()
        logits.masked_fill_(~self._action_mask, UNAVAILABLE_LOGIT)
        log_probabilities = torch.log_softmax(logits, -1)
        if self.greedy:
            actions = log_probabilities.argmax(-1)
        else:
            # Gumbel-max with -log(Exponential) noise: one draw for all agents instead of N multinomials.
            noise = torch.empty_like(log_probabilities).exponential_(generator=self._generator).log_()
            actions = (log_probabilities - noise).argmax(-1)
        self._last_actions = actions
        return actions, log_probabilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def remember_actions(self, actions: np.ndarray) -> None:
        """Replaces the last actions that the policies see next by those that were taken, int64 `[B, N]`."""
        self._last_actions = torch.from_numpy(actions.T.copy())

    @torch.inference_mode()
    def reset_finished(self, finished: np.ndarray) -> None:
        """Resets the recurrent states and last actions of the columns where `finished` [B] is True."""
        columns = torch.from_numpy(np.flatnonzero(finished))
        self._hidden[:, columns] = 0.0
        self._last_actions[:, columns] = -1

    def _logits(self) -> torch.Tensor:
        inputs = self._inputs
        if self._sees_last_action:
            one_hot = inputs[..., self.obs_size : self.obs_size + self.num_actions]
            one_hot.zero_()
            one_hot.scatter_(-1, self._last_actions.clamp(min=0).unsqueeze(-1),
                             (self._last_actions >= 0).unsqueeze(-1).to(inputs.dtype))  # fmt: skip
        features = functional.layer_norm(inputs, inputs.shape[-1:])
        for weight, bias in self._linears[:-1]:
            features = torch.baddbmm(bias, features, weight).relu_()
            features = functional.layer_norm(features, features.shape[-1:])
        if self._recurrent is not None:
            self._hidden = _gru_cell(features, self._hidden, *self._recurrent)
            features = functional.layer_norm(self._hidden, self._hidden.shape[-1:])
        weight, bias = self._linears[-1]
        return torch.baddbmm(bias, features, weight)


def _fold(
    weight: torch.Tensor, bias: torch.Tensor, norm_gain: torch.Tensor, norm_bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """LayerNorm's affine part and the linear layer behind it as one: `[N, in, out]` and `[N, 1, out]`."""
    folded = (weight * norm_gain.unsqueeze(1)).transpose(1, 2).contiguous()
    return folded, (torch.einsum("noi,ni->no", weight, norm_bias) + bias).unsqueeze(1)


def _gru_cell(
    inputs: torch.Tensor,
    hidden: torch.Tensor,
    input_weight: torch.Tensor,
    input_bias: torch.Tensor,
    hidden_weight: torch.Tensor,
    hidden_bias: torch.Tensor,
) -> torch.Tensor:
    """torch.nn.GRUCell's equations over a leading agent axis."""
    input_reset, input_update, input_new = torch.baddbmm(input_bias, inputs, input_weight).chunk(3, -1)
    hidden_reset, hidden_update, hidden_new = torch.baddbmm(hidden_bias, hidden, hidden_weight).chunk(3, -1)
    reset = (input_reset + hidden_reset).sigmoid_()
    update = (input_update + hidden_update).sigmoid_()
    new = torch.addcmul(input_new, reset, hidden_new).tanh_()
    return torch.lerp(new, hidden, update)


def load_policies(team: TrainedTeam, *, greedy: bool, seed: int = 0) -> StackedPolicies:
    """The policies of a checkpoint or a packed team, ready to play.

    Raises:
        CheckpointError: The agents' parameters do not fit the team's own configuration.
    """
    policies = StackedPolicies(
        team.num_agents,
        team.obs_size,
        team.num_actions,
        team.experiment().policy,
        greedy=greedy,
        seed=seed,
    )
    weights = actor_weights(team)
    try:
        policies.load(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{team.name}: does not fit its own configuration ({error})") from error
    return policies
