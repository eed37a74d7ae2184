"""Behavior cloning: the loss by hand, what it may and may not touch, and that it learns what it is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.learning.behavior_cloning import cloning_losses, prepare_cloning_batch
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory
from dm2_ray.learning.policy import AgentPolicy, policy_parameter_groups
from dm2_ray.learning.ppo_batch import minibatches


def shown(trajectory: AgentTrajectory, **changes: np.ndarray) -> AgentDemonstration:
    """An expert who did what the trajectory's agent did."""
    ids = np.arange(trajectory.num_episodes)
    return dataclasses.replace(AgentDemonstration.from_episodes(trajectory, agent_index=1, episode_ids=ids), **changes)


def losses_of(module: AgentPolicy, columns: dict) -> dict[str, torch.Tensor]:
    logits = module.forward_train(columns)[Columns.ACTION_DIST_INPUTS]
    return cloning_losses(logits, columns["actions"], columns["alive"])


def gradients(module: AgentPolicy, demonstration: AgentDemonstration) -> dict[str, torch.Tensor]:
    module.zero_grad(set_to_none=True)
    losses_of(module, prepare_cloning_batch(module, demonstration).columns)["total_loss"].backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_loss_by_hand() -> None:
    # Probabilities 3/4 and 1/4; 1/5 and 4/5; a dead step; one available action of two.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(4.0)], [5.0, -7.0], [0.0, -1e9]], requires_grad=True)
    losses = cloning_losses(logits, torch.tensor([0, 0, 1, 0]), torch.tensor([True, True, False, True]))
    assert losses["total_loss"].item() == pytest.approx((math.log(4 / 3) + math.log(5)) / 3)
    assert losses["cloning_loss"].item() == losses["total_loss"].item()
    assert losses["cloning_accuracy"].item() == pytest.approx(2 / 3)
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (0.25, 0.2)]
    assert losses["entropy"].item() == pytest.approx(sum(entropies) / 3)
    losses["total_loss"].backward()
    # d loss / d logit = (probability - [taken]) / number of living steps
    expected = torch.tensor([[-0.25, 0.25], [-0.8, 0.8], [0.0, 0.0], [0.0, 0.0]]) / 3
    assert torch.allclose(logits.grad, expected, atol=1e-7)


def test_nobody_alive_is_no_loss() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    losses = cloning_losses(logits, torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool))
    losses["total_loss"].backward()
    assert losses["total_loss"].item() == 0.0 and not logits.grad.any()


@pytest.mark.parametrize("network", ["gru", "mlp"])
def test_what_a_dead_agent_did_changes_nothing(policy: Callable, battles: Callable, network: str) -> None:
    module, trajectory = policy(network=network), battles([9, 4, 7])
    # Agents die for good, and the mask leaves them nothing but one action: from then on nothing may count.
    alive = np.arange(20) - np.repeat(trajectory.first_rows, trajectory.episode_lengths) < 3
    actions = trajectory.actions.copy()
    actions[~alive] = (actions[~alive] + 1) % 4
    observations = trajectory.observations.copy()
    observations[~alive] = 9.0
    base = gradients(module, shown(trajectory, alive=alive))
    other = gradients(module, shown(trajectory, alive=alive, actions=actions, observations=observations))
    assert all(torch.equal(base[name], other[name]) for name in base)
    living = gradients(module, shown(trajectory, alive=np.ones(20, bool)))
    assert any(not torch.equal(base[name], living[name]) for name in base)


def test_only_the_actor_learns(policy: Callable, battles: Callable) -> None:
    module = policy()
    found = gradients(module, shown(battles([5, 8])))
    assert set(found) == {name for name, _ in module.named_parameters() if name.startswith("actor.")}
    assert all(value.any() for name, value in found.items() if name.endswith("head.weight"))
    assert all(p.grad is None for p in policy_parameter_groups(module)["critic"])


def test_columns_are_those_of_acting(policy: Callable, battles: Callable) -> None:
    trajectory = battles([3, 6, 2])
    prepared = prepare_cloning_batch(policy(), shown(trajectory))
    last_actions = prepared.layout.unpack(prepared.columns["last_actions"]).numpy()
    assert np.array_equal(last_actions, trajectory.last_actions)
    assert list(last_actions[[0, 3, 9]]) == [-1, -1, -1]


def test_chunks_start_in_the_states_of_whole_battles(policy: Callable, battles: Callable) -> None:
    demonstration = shown(battles([9, 4, 7]))
    whole, chunked = policy(), policy(bptt_steps=4)
    prepared = prepare_cloning_batch(whole, demonstration)
    pieces = prepare_cloning_batch(chunked, demonstration)
    assert pieces.layout.num_sequences == 6
    logits = [
        prepare.layout.unpack(module.forward_train(prepare.columns)[Columns.ACTION_DIST_INPUTS])
        for module, prepare in ((whole, prepared), (chunked, pieces))
    ]
    assert torch.allclose(*logits, atol=1e-6)


def test_minibatches_are_the_whole_batch_in_parts(policy: Callable, battles: Callable) -> None:
    module = policy(bptt_steps=3)
    prepared = prepare_cloning_batch(module, shown(battles([9, 4, 7, 5])))
    parts = list(minibatches(prepared, 3, torch.Generator().manual_seed(0)))
    assert sum(len(part["actions"]) for part in parts) == 25
    weights = torch.tensor([part["alive"].sum() for part in parts])
    losses = torch.stack([losses_of(module, part)["total_loss"].detach() for part in parts])
    whole = losses_of(module, prepared.columns)["total_loss"].detach()
    assert torch.allclose((losses * weights).sum() / weights.sum(), whole, atol=1e-6)


def test_an_expert_who_did_the_impossible_is_refused(policy: Callable, battles: Callable) -> None:
    trajectory = battles([3, 6, 2])
    mask = trajectory.action_mask.copy()
    mask[4, trajectory.actions[4]] = False
    alive = np.ones(11, bool)
    with pytest.raises(ValueError, match=f"agent 1's expert took action {trajectory.actions[4]} in episode 1 "):
        prepare_cloning_batch(policy(), shown(trajectory, action_mask=mask, alive=alive))
    alive[4] = False  # the dead are not imitated
    prepare_cloning_batch(policy(), shown(trajectory, action_mask=mask, alive=alive))


def test_learns_what_needs_memory_and_leaves_the_critic_alone(policy: Callable) -> None:
    # The expert names, at every step, the cue that it saw in the first one.
    rng, episodes, length = np.random.default_rng(0), 24, 6
    cues = rng.integers(4, size=episodes)
    observations = rng.normal(size=(episodes, length, 6)).astype(np.float32)
    observations[:, :, :4] = 0.0
    observations[np.arange(episodes), 0, cues] = 1.0
    demonstration = AgentDemonstration(
        agent_index=1,
        observations=observations.reshape(-1, 6),
        actions=np.repeat(cues, length),
        action_mask=np.ones((episodes * length, 4), bool),
        alive=np.ones(episodes * length, bool),
        episode_lengths=np.full(episodes, length),
        episode_ids=np.arange(episodes),
    )
    module = policy(hidden_size=16, observe_last_action=False)
    critic = [p.detach().clone() for p in module.critic.parameters()]
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    prepared = prepare_cloning_batch(module, demonstration)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        for columns in minibatches(prepared, 2, generator):
            optimizer.zero_grad(set_to_none=True)
            losses_of(module, columns)["total_loss"].backward()
            optimizer.step()
    losses = losses_of(module, prepared.columns)
    assert losses["cloning_accuracy"] == 1.0
    assert losses["cloning_loss"] < 0.1
    assert all(torch.equal(a, b) for a, b in zip(critic, module.critic.parameters(), strict=True))
