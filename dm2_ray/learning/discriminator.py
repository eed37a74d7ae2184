"""The discriminator of one agent: does this observation come from my expert, or from me?

Shapes: R rows, K interpolated rows, F features of a row (see visitation.py), H hidden size.

Convention: `logits_expert_is_high`. With D = sigmoid(logit), D -> 1 says "expert". The optimum of the cross-entropy
below is logit(x) = log p_expert(x) - log p_agent(x), which is why the logit is a reward (see rewards.py).
"""

from __future__ import annotations

import math
from typing import Any, cast

import gymnasium
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from torch.nn import functional

from dm2_ray.config import DiscriminatorSettings
from dm2_ray.learning.visitation import VisitedRows, discriminator_features, sample_rows


class Discriminator(TorchRLModule):
    """A tanh network on one agent's own observation; build it with `learner_only=True`.

    model_config: `discriminator` (a dumped DiscriminatorSettings), `padding` ("absorbing" adds the indicator feature
    to the input) and, optionally, `seed`: the initial weights are then a function of it alone.
    observation_space: Box of shape (O,); ValueError otherwise. The action space is not used.

    Columns read: Columns.OBS [R, F] and, optionally, "interpolates" [K, F].
    """

    def setup(self) -> None:
        space = self.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"observation_space must be a Box of one dimension, found {space}")
        if not isinstance(self.model_config, dict):
            raise ValueError(f"model_config must be a dict, found {type(self.model_config).__name__}")
        self.settings = DiscriminatorSettings.model_validate(self.model_config["discriminator"])
        size = self.settings.hidden_size
        inputs = discriminator_features(space.shape[0], self.model_config["padding"])
        layers = [nn.Linear(inputs if layer == 0 else size, size) for layer in range(self.settings.hidden_layers)]
        self.hidden = nn.ModuleList(layers)
        self.head = nn.Linear(size, 1)
        seed = self.model_config.get("seed")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for linear in (*layers, self.head):
            _initialise(linear, generator)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"logits": [R]}, expert is high."""
        return {"logits": self.head(self._activations(batch[Columns.OBS])[-1]).squeeze(-1)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"logits": [R]} and, with "interpolates", {"gradient_norms": [K]}: the logit's gradient norm at these rows.

        The gradient with respect to the input is written out, layer by layer, so that its own gradient takes one
        ordinary backward pass:  d logit/dx = W_1' diag(1 - h_1^2) ... W_n' diag(1 - h_n^2) w_head,  h = tanh(...).
        """
        output = self._forward(batch)
        interpolates = batch.get("interpolates")
        if interpolates is not None:
            gradient: Tensor = self.head.weight
            activations = self._activations(interpolates)
            for linear, activation in zip(reversed(self.hidden), reversed(activations), strict=True):
                weight = cast(nn.Linear, linear).weight
                gradient = (gradient * (1.0 - activation.square())) @ weight
            output["gradient_norms"] = torch.linalg.vector_norm(gradient, dim=-1)
        return output

    def _activations(self, rows: Tensor) -> list[Tensor]:
        """[R, H] after each hidden layer."""
        activations = []
        x = rows
        for linear in self.hidden:
            # tanh(x) = 2 sigmoid(2 x) - 1: torch's CPU sigmoid is vectorised ten times better than its tanh.
            x = torch.sigmoid(2.0 * linear(x)) * 2.0 - 1.0
            activations.append(x)
        return activations


def interpolate(expert_rows: Tensor, agent_rows: Tensor, generator: torch.Generator) -> Tensor:
    """[K, F] random points on the lines between paired rows; K is the smaller number of rows.

    `generator` must be a CPU generator.
    """
    pairs = min(len(expert_rows), len(agent_rows))
    share = torch.rand(pairs, 1, generator=generator).to(expert_rows.device)
    return torch.lerp(agent_rows[:pairs], expert_rows[:pairs], share)


def gradient_penalty(gradient_norms: Tensor) -> Tensor:
    """mean (||d logit/dx||_2 - 1)^2 (Gulrajani et al. 2017, arXiv 1704.00028, applied to the logit)."""
    return (gradient_norms - 1.0).square().mean()


def discriminator_batch(
    expert: VisitedRows, agent: VisitedRows, rows_per_side: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Columns of one gradient step, with all of its random draws.

    Returns Columns.OBS [R, F] (expert rows first), "is_expert" [R] bool, "interpolates" [K, F].
    """
    expert_rows = sample_rows(expert, rows_per_side, generator)
    agent_rows = sample_rows(agent, rows_per_side, generator)
    is_expert = torch.zeros(len(expert_rows) + len(agent_rows), dtype=torch.bool, device=expert_rows.device)
    is_expert[: len(expert_rows)] = True
    return {
        Columns.OBS: torch.cat([expert_rows, agent_rows]),
        "is_expert": is_expert,
        "interpolates": interpolate(expert_rows, agent_rows, generator),
    }


def discriminator_losses(
    logits_expert_is_high: Tensor, is_expert: Tensor, gradient_norms: Tensor, settings: DiscriminatorSettings
) -> dict[str, Tensor]:
    """Losses and statistics of one gradient step.

        total_loss = mean_expert -log D  +  mean_agent -log(1 - D)  +  gradient_penalty * mean (||grad|| - 1)^2

    Both sides weigh the same however many rows they have (Ho and Ermon 2016, arXiv 1606.03476).

    Args:
        logits_expert_is_high: [R].
        is_expert: [R] bool; both kinds must occur.
        gradient_norms: [K] at the interpolates.
        settings: `gradient_penalty` is used.

    Returns:
        Scalars `total_loss`, `expert_loss`, `agent_loss`, `gradient_penalty` with gradient, and without:
        `expert_accuracy`, `agent_accuracy` (share of the side's rows on its side of logit 0), `logit_gap` (mean logit
        of the expert's rows minus that of the agent's), `entropy` (mean of D's, in nats: log 2 says "cannot tell"),
        `gradient_norm`.
    """
    # -log sigmoid(l) = softplus(-l) for the expert, -log(1 - sigmoid(l)) = softplus(l) for the agent.
    surprise = functional.softplus(torch.where(is_expert, -logits_expert_is_high, logits_expert_is_high))
    num_expert = is_expert.sum()
    num_agent = len(is_expert) - num_expert
    expert_loss = torch.where(is_expert, surprise, 0.0).sum() / num_expert
    agent_loss = torch.where(is_expert, 0.0, surprise).sum() / num_agent
    penalty = gradient_penalty(gradient_norms)
    with torch.no_grad():
        logits = logits_expert_is_high
        expert_share = is_expert.to(logits.dtype) / num_expert
        agent_share = (~is_expert).to(logits.dtype) / num_agent
        says_expert = (logits > 0).to(logits.dtype)
        probabilities = torch.sigmoid(logits)
        # H(D) = softplus(l) - l D
        entropy = (functional.softplus(logits) - logits * probabilities).mean()
        statistics = {
            "expert_accuracy": (says_expert * expert_share).sum(),
            "agent_accuracy": ((1.0 - says_expert) * agent_share).sum(),
            "logit_gap": (logits * (expert_share - agent_share)).sum(),
            "entropy": entropy,
            "gradient_norm": gradient_norms.mean(),
        }
    return {
        "total_loss": expert_loss + agent_loss + settings.gradient_penalty * penalty,
        "expert_loss": expert_loss,
        "agent_loss": agent_loss,
        "gradient_penalty": penalty,
        **statistics,
    }


def _initialise(linear: nn.Linear, generator: torch.Generator | None) -> None:
    """Weights and biases uniform in +-1/sqrt(inputs): torch's own start, but from a stream of our choice."""
    bound = 1.0 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
