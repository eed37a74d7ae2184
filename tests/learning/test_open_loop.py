"""The open-loop policy: what it cannot see, what it can, and that time is enough to learn by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config.schema import PolicySettings
from dm2_ray.learning.behavior_cloning import cloning_losses, prepare_cloning_batch
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory
from dm2_ray.learning.policy import build_policy_inputs
from dm2_ray.learning.sequences import PackedLayout


def outputs(module, trajectory: AgentTrajectory, last_actions: np.ndarray) -> dict[str, torch.Tensor]:
    """Logits without the mask and values, in flat order."""
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    batch = {
        Columns.OBS: layout.pack(torch.from_numpy(trajectory.observations)),
        "last_actions": layout.pack(torch.from_numpy(last_actions)),
        "action_mask": torch.ones(trajectory.action_mask.shape, dtype=torch.bool),
        "batch_sizes": layout.batch_sizes,
    }
    with torch.no_grad():
        found = module.forward_train(batch)
    return {name: layout.unpack(found[name]) for name in (Columns.ACTION_DIST_INPUTS, "values")}


def test_inputs_by_hand() -> None:
    observations, last_actions = torch.tensor([[0.5, -1.0], [2.0, 3.0]]), torch.tensor([-1, 2])
    inputs = build_policy_inputs(observations, last_actions, 3, 1, 2, PolicySettings(open_loop=True))
    assert inputs.tolist() == [[0.0, 0.0, 0.0, 1.0]] * 2


def test_neither_observation_nor_last_action_reaches_actor_or_critic(policy: Callable, battles: Callable) -> None:
    module, one, other = policy(open_loop=True), battles([6, 3], seed=0), battles([6, 3], seed=1)
    assert not np.array_equal(one.last_actions, other.last_actions)
    first, second = outputs(module, one, one.last_actions), outputs(module, other, other.last_actions)
    for name in first:
        assert torch.equal(first[name], second[name])
    # Two battles of one agent are the same to it, step for step; the closed loop tells them apart at once.
    logits = first[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(logits[:3], logits[6:])
    closed = outputs(policy(), one, one.last_actions)[Columns.ACTION_DIST_INPUTS]
    assert (closed[:3] - closed[6:]).abs().min() > 1e-6


def test_time_and_agent_reach_both(policy: Callable, battles: Callable) -> None:
    trajectory = battles([8])
    first, second = (
        outputs(policy(open_loop=True, agent_index=agent), trajectory, trajectory.last_actions) for agent in (0, 1)
    )
    for name in first:
        assert (first[name][1:] - first[name][:-1]).abs().max() > 1e-4
        assert (first[name] - second[name]).abs().max() > 1e-3


def test_learns_an_answer_that_depends_on_time_alone(policy: Callable) -> None:
    rng, episodes, length = np.random.default_rng(0), 6, 16
    answer = rng.integers(4, size=length)
    demonstration = AgentDemonstration(
        agent_index=1,
        observations=rng.normal(size=(episodes * length, 6)).astype(np.float32),
        actions=np.tile(answer, episodes),
        action_mask=np.ones((episodes * length, 4), bool),
        alive=np.ones(episodes * length, bool),
        episode_lengths=np.full(episodes, length),
        episode_ids=np.arange(episodes),
    )
    module = policy(open_loop=True, hidden_size=32)
    optimizer = torch.optim.Adam(module.actor.parameters(), lr=1e-2)
    columns = prepare_cloning_batch(module, demonstration).columns
    for _ in range(150):
        logits = module.forward_train(columns)[Columns.ACTION_DIST_INPUTS]
        losses = cloning_losses(logits, columns["actions"], columns["alive"])
        optimizer.zero_grad()
        losses["total_loss"].backward()
        optimizer.step()
    assert losses["cloning_accuracy"] == 1.0
