"""Behavior cloning of one agent's own expert: the paper's baseline, and its pre-training for IPPO.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, A actions, Q sequences, H hidden size.

    loss = - mean over the steps at which the agent lived of  log pi(a_t | o_0 ... o_t, a_0 ... a_(t-1))

with o and a from the expert's battles: the GRU reads whole battles, and its last-action input is the expert's action
(Pomerleau 1991, "Efficient Training of Artificial Neural Networks for Autonomous Navigation"; Wang et al. 2023,
arXiv 2206.00233, pre-train IPPO with it). Only the actor learns: the loss does not contain the critic's output, so no
parameter of the critic gets a gradient, not even a zero one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.learning.ppo_batch import PreparedBatch, flat_columns
from dm2_ray.learning.sequences import PackedLayout


@torch.no_grad()
def prepare_cloning_batch(module: AgentPolicy, demonstration: AgentDemonstration) -> PreparedBatch:
    """The columns of an iteration's cloning epochs, in packed order, on the module's device.

    They are Columns.OBS [S, O], "last_actions" [S], "action_mask" [S, A] and "batch_sizes" for
    `AgentPolicy.forward_train`, and "actions", "alive" [S] for `cloning_losses`; with `bptt_steps` > 0 in the settings
    of a recurrent module also Columns.STATE_IN {"actor": [Q, H]}, the states of one pass over whole battles.
    `ppo_batch.minibatches` deals them out. There are no statistics.

    Raises:
        ValueError: The expert took an action that was not available to it: no policy with this mask can imitate it.
    """
    _check_available(demonstration)
    names = ("observations", "last_actions", "action_mask", "actions", "alive")
    flat = flat_columns(demonstration, *names, device=module.actor.head.weight.device)
    layout = PackedLayout.from_lengths(demonstration.episode_lengths, device=flat["actions"].device)
    bptt_steps = module.settings.bptt_steps
    features = {}
    if bptt_steps > 0 and module.actor.recurrent:
        _, actor_features = module.actor(layout.pack(module.network_inputs(flat)), layout.batch_sizes)
        assert actor_features is not None
        features = {"actor": layout.unpack(actor_features)}
    return PreparedBatch.pack(flat, layout, bptt_steps, features, statistics={})


def cloning_losses(logits: Tensor, actions: Tensor, alive: Tensor) -> dict[str, Tensor]:
    """Loss and statistics of one gradient step.

    Args:
        logits: [S, A] masked logits (large and negative where unavailable).
        actions: [S] int64, the expert's.
        alive: [S] bool; the other steps contribute exactly zero gradient.

    Returns:
        Scalars `total_loss`, in nats, with gradient, and without gradient `cloning_loss` (the same number),
        `cloning_accuracy` (share of living steps at which the expert's action is the most probable one) and `entropy`
        (mean over living steps, in nats, of the policy). A batch without a living step has loss 0.
    """
    num_alive = alive.sum().clamp(min=1)

    def alive_mean(x: Tensor) -> Tensor:
        return torch.where(alive, x, 0.0).sum() / num_alive

    all_logp = torch.log_softmax(logits, dim=-1)
    loss = -alive_mean(all_logp.gather(-1, actions.unsqueeze(-1)).squeeze(-1))
    with torch.no_grad():
        accuracy = alive_mean((logits.argmax(-1) == actions).to(logits.dtype))
        entropy = alive_mean(-(all_logp.exp() * all_logp).sum(-1))
    return {
        "total_loss": loss,
        "cloning_loss": loss.detach(),
        "cloning_accuracy": accuracy,
        "entropy": entropy,
    }


def _check_available(demonstration: AgentDemonstration) -> None:
    taken = demonstration.action_mask[np.arange(demonstration.num_steps), demonstration.actions]
    impossible = np.flatnonzero(demonstration.alive & ~taken)
    if len(impossible) > 0:
        episode = int(np.searchsorted(demonstration.last_rows, impossible[0]))
        raise ValueError(
            f"agent {demonstration.agent_index}'s expert took action {demonstration.actions[impossible[0]]} in episode "
            f"{demonstration.episode_ids[episode]} although it was not available: the set cannot be cloned"
        )
