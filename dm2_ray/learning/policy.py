"""Policy and critic of one agent.

Shapes: B battles played at once, S steps in packed order (see sequences.py), Q sequences, O observation size,
A actions, H hidden size, I input size.

    observation, own last action, own id  ->  LayerNorm  ->  hidden_layers x [Linear H, ReLU, LayerNorm]
        ->  GRU H  ->  LayerNorm  ->  Linear                  (the GRU and the norm after it: `network: gru` only)

Actor and critic are two such networks; the critic, too, sees only its agent's own observation. Acting and training
run the same code: acting is a sequence of one step.

With `open_loop` the observation is replaced by zeros and the last action is left out, so only the GRU's state changes
from step to step: actions depend only on the agent, the time and the mask of available actions, which every agent needs
in order to act.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from dm2_ray.config.schema import PolicySettings
from dm2_ray.learning.packed_gru import packed_gru
from dm2_ray.learning.ppo import ValueNormalizer

UNAVAILABLE_LOGIT = -1e9
"""Large enough that the probability underflows to zero, finite so that 0 * logit stays 0."""


def input_size(obs_size: int, num_actions: int, num_agents: int, settings: PolicySettings) -> int:
    """I, the size of what `build_policy_inputs` returns: O (+ num_actions where the last action is seen)
    (+ num_agents with `observe_agent_id`)."""
    last_action = num_actions if input_has_last_action(settings) else 0
    return obs_size + last_action + (num_agents if settings.observe_agent_id else 0)


def input_has_last_action(settings: PolicySettings) -> bool:
    """Whether the last action is part of the input; it would reveal to an open-loop policy how the battle goes."""
    return settings.observe_last_action and not settings.open_loop


def build_policy_inputs(
    observations: Tensor,
    last_actions: Tensor,
    num_actions: int,
    agent_index: int,
    num_agents: int,
    settings: PolicySettings,
) -> Tensor:
    """Input of actor and critic: observation (zeros if `open_loop`), one-hot own last action, one-hot own id.

    Args:
        observations: [..., O] float32.
        last_actions: [...] int64, -1 at a battle's first step (all zeros in the one-hot).

    Returns:
        [..., I] with I as `input_size` says.
    """
    parts = [torch.zeros_like(observations) if settings.open_loop else observations]
    if input_has_last_action(settings):
        choices = torch.arange(num_actions, device=observations.device)
        parts.append((last_actions.unsqueeze(-1) == choices).to(observations.dtype))
    if settings.observe_agent_id:
        identity = observations.new_zeros(num_agents)
        identity[agent_index] = 1.0
        parts.append(identity.expand(*observations.shape[:-1], num_agents))
    return torch.cat(parts, dim=-1)


class HiddenBlock(nn.Module):
    """norm(relu(linear(x)))."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        _orthogonal(self.linear, math.sqrt(2.0), generator)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(torch.relu(self.linear(x)))
        return normed


class AgentNetwork(nn.Module):
    """The network drawn at the top of this file; initialized orthogonally (gain sqrt 2 in hidden layers), zero biases.

    `generator` None draws the initial weights from torch's global stream.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        settings: PolicySettings,
        head_gain: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        size = settings.hidden_size
        self.recurrent = settings.network == "gru"
        self.input_norm = nn.LayerNorm(inputs)
        self.hidden = nn.ModuleList(
            HiddenBlock(inputs if layer == 0 else size, size, generator) for layer in range(settings.hidden_layers)
        )
        if self.recurrent:
            self.gru = nn.GRU(size, size)
            for parameter in self.gru.parameters():
                if parameter.ndim == 2:
                    nn.init.orthogonal_(parameter, generator=generator)
                else:
                    nn.init.zeros_(parameter)
            self.output_norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, outputs)
        _orthogonal(self.head, head_gain, generator)

    def forward(self, inputs: Tensor, batch_sizes: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run all sequences from their start states.

        Args:
            inputs: [S, I] in packed order.
            batch_sizes: [T] int64 on the CPU; `[B]` for one step of B sequences.
            state: [Q, H] start states in sequence order; None is zeros. Ignored by an mlp.

        Returns:
            Outputs [S, out], and the GRU's outputs [S, H], which are also its states after each step (None: mlp).
        """
        x = self.input_norm(inputs)
        for block in self.hidden:
            x = block(x)
        if not self.recurrent:
            return self.head(x), None
        features = packed_gru(self.gru, x, batch_sizes, state)
        return self.head(self.output_norm(features)), features


class AgentPolicy(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """One agent's actor, critic and value normalizer.

    model_config: `num_agents`, `agent_index`, `policy` (a dumped PolicySettings) and, optionally, `seed`: the initial
    weights then depend only on the seed; without it they come from torch's global stream.
    observation_space: Box of shape (O,). action_space: Discrete(A). Anything else raises ValueError.

    Columns read: Columns.OBS [S, O], "last_actions" [S] int64 (-1: none), "action_mask" [S, A] bool; in training also
    "batch_sizes" [T] int64 on the CPU; optionally Columns.STATE_IN {"actor": [Q, H], "critic": [Q, H]}.
    An inference-only module has no critic and no value normalizer.
    """

    def setup(self) -> None:
        observation_space, action_space = self.observation_space, self.action_space
        if not isinstance(observation_space, gymnasium.spaces.Box) or len(observation_space.shape) != 1:
            raise ValueError(f"observation_space must be a Box of one dimension, found {observation_space}")
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise ValueError(f"action_space must be Discrete, found {action_space}")
        if not isinstance(self.model_config, dict):
            raise ValueError(f"model_config must be a dict, found {type(self.model_config).__name__}")
        self.settings = PolicySettings.model_validate(self.model_config["policy"])
        self.num_agents = int(self.model_config["num_agents"])
        self.agent_index = int(self.model_config["agent_index"])
        if not 0 <= self.agent_index < self.num_agents:
            raise ValueError(f"agent_index must lie in 0 ... {self.num_agents - 1}, found {self.agent_index}")
        self.num_actions = int(action_space.n)
        inputs = input_size(observation_space.shape[0], self.num_actions, self.num_agents, self.settings)
        seed = self.model_config.get("seed")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.actor = AgentNetwork(inputs, self.num_actions, self.settings, self.settings.actor_gain, generator)
        if not self.inference_only:
            self.critic = AgentNetwork(inputs, 1, self.settings, 1.0, generator)
            self.value_normaliser = ValueNormalizer()

    def get_non_inference_attributes(self) -> list[str]:
        return ["critic", "value_normaliser"]

    def get_initial_state(self) -> dict[str, Tensor]:
        """State of an actor before a battle's first step, without a batch dimension; empty for an mlp."""
        return {"actor": torch.zeros(self.settings.hidden_size)} if self.actor.recurrent else {}

    def network_inputs(self, batch: dict[str, Any]) -> Tensor:
        """[S, I] input of both networks from the columns of a batch."""
        return build_policy_inputs(
            batch[Columns.OBS],
            batch["last_actions"],
            self.num_actions,
            self.agent_index,
            self.num_agents,
            self.settings,
        )

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One step of acting: logits [B, A] and, for a gru, Columns.STATE_OUT {"actor": [B, H]}."""
        inputs = self.network_inputs(batch)
        state = batch.get(Columns.STATE_IN, {}).get("actor")
        logits, features = self.actor(inputs, torch.tensor([len(inputs)]), state)
        output: dict[str, Any] = {Columns.ACTION_DIST_INPUTS: _masked(logits, batch["action_mask"])}
        if features is not None:
            output[Columns.STATE_OUT] = {"actor": features}
        return output

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """All steps of all sequences, in packed order, with gradients through time.

        Returns Columns.ACTION_DIST_INPUTS: masked logits [S, A]; "values" [S] in the normalizer's units;
        "actor_features", "critic_features" [S, H] (None for an mlp).
        """
        inputs = self.network_inputs(batch)
        state = batch.get(Columns.STATE_IN, {})
        logits, actor_features = self.actor(inputs, batch["batch_sizes"], state.get("actor"))
        values, critic_features = self.critic(inputs, batch["batch_sizes"], state.get("critic"))
        return {
            Columns.ACTION_DIST_INPUTS: _masked(logits, batch["action_mask"]),
            "values": values.squeeze(-1),
            "actor_features": actor_features,
            "critic_features": critic_features,
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Any | None = None) -> Tensor:
        """Value estimates [S] in reward units; columns as in training ("action_mask" is not needed).

        `embeddings` is part of RLlib's signature and must be None: actor and critic share no features.
        """
        if embeddings is not None:
            raise ValueError("actor and critic share no features, so there are no embeddings to reuse")
        state = batch.get(Columns.STATE_IN, {}).get("critic")
        outputs, _ = self.critic(self.network_inputs(batch), batch["batch_sizes"], state)
        values: Tensor = self.value_normaliser.denormalize(outputs.squeeze(-1))
        return values


def policy_parameter_groups(module: AgentPolicy) -> dict[str, list[nn.Parameter]]:
    """Every parameter of the module, once: {"actor": [...], "critic": [...]}, one optimizer each."""
    return {"actor": list(module.actor.parameters()), "critic": list(module.critic.parameters())}


def _masked(logits: Tensor, action_mask: Tensor) -> Tensor:
    return logits.masked_fill(~action_mask, UNAVAILABLE_LOGIT)


def _orthogonal(linear: nn.Linear, gain: float, generator: torch.Generator | None) -> None:
    nn.init.orthogonal_(linear.weight, gain, generator=generator)
    nn.init.zeros_(linear.bias)
