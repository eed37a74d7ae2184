"""From battles to batches: bootstrapping, targets, chunks and minibatches, against slow references."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config.schema import MatchingSettings, PPOSettings
from dm2_ray.learning.policy import build_policy_inputs
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.ppo_batch import learning_rewards, minibatches, prepare_policy_batch
from dm2_ray.learning.visitation import discriminator_inputs

SETTINGS = PPOSettings(gamma=0.9, gae_lambda=0.8)
LENGTHS = [3, 7, 1, 5, 4]


def reference_values(module, trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Values [S] and of final observations [E], in reward units: each battle alone, with its final step appended."""
    values, finals = [], []
    for e, first in enumerate(trajectory.first_rows):
        rows = slice(first, first + trajectory.episode_lengths[e])
        observations = np.concatenate([trajectory.observations[rows], trajectory.final_observations[e : e + 1]])
        last_actions = np.concatenate([[-1], trajectory.actions[rows]])
        inputs = build_policy_inputs(
            torch.from_numpy(observations),
            torch.from_numpy(last_actions),
            module.num_actions,
            module.agent_index,
            module.num_agents,
            module.settings,
        )
        with torch.no_grad():
            outputs, _ = module.critic(inputs, torch.ones(len(inputs), dtype=torch.int64))
        *own, final = module.value_normaliser.denormalize(outputs.squeeze(-1)).tolist()
        values += own
        finals.append(final)
    return np.array(values), np.array(finals)


def reference_advantages(trajectory, rewards, values, finals, settings) -> np.ndarray:
    advantages = np.zeros(len(values))
    for e, last in enumerate(trajectory.last_rows):
        following = 0.0 if trajectory.terminated[e] else finals[e]
        running = 0.0
        for row in range(last, trajectory.first_rows[e] - 1, -1):
            delta = rewards[row] + settings.gamma * following - values[row]
            running = delta + settings.gamma * settings.gae_lambda * running
            advantages[row], following = running, values[row]
    return advantages


@pytest.mark.parametrize("network", ["gru", "mlp"])
@pytest.mark.parametrize("bptt_steps", [0, 3])
@pytest.mark.parametrize("value_normalisation", [True, False])
def test_columns_equal_the_slow_reference(policy, battles, network, bptt_steps, value_normalisation):
    module = policy(network=network, bptt_steps=bptt_steps)
    module.value_normaliser.update(torch.tensor([2.0, 8.0]))
    trajectory = battles(LENGTHS)
    assert set(trajectory.terminated.tolist()) == {True, False}
    settings = SETTINGS.model_copy(update={"value_normalisation": value_normalisation})
    rewards = trajectory.rewards * 2
    values, finals = reference_values(module, trajectory)
    expected = reference_advantages(trajectory, rewards, values, finals, settings)
    before = {name: x.clone() for name, x in module.value_normaliser.named_buffers()}
    prepared = prepare_policy_batch(module, trajectory, rewards, settings)
    flat = {
        name: prepared.layout.unpack(x)
        for name, x in prepared.columns.items()
        if name not in ("batch_sizes", Columns.STATE_IN)
    }

    np.testing.assert_array_equal(flat[Columns.OBS], trajectory.observations)
    for name in ("last_actions", "action_mask", "actions", "behavior_logp", "alive"):
        np.testing.assert_array_equal(flat[name], getattr(trajectory, name))
    living = expected[trajectory.alive]
    np.testing.assert_allclose(
        flat["advantages"].numpy(),
        np.where(trajectory.alive, (expected - living.mean()) / (living.std() + 1e-5), 0.0),
        rtol=1e-3,
        atol=1e-4,
    )
    returns = module.value_normaliser.denormalize(flat["value_targets"])
    np.testing.assert_allclose(returns.numpy(), expected + values, rtol=1e-4, atol=1e-4)
    changed = any(not torch.equal(before[name], x) for name, x in module.value_normaliser.named_buffers())
    assert changed == value_normalisation
    assert prepared.statistics["return_mean"] == pytest.approx((expected + values).mean(), rel=1e-4)
    assert prepared.statistics["value_mean"] == pytest.approx(values.mean(), rel=1e-4)


@pytest.mark.parametrize("bptt_steps", [0, 2])
def test_before_the_first_step_the_network_says_exactly_the_old_values(policy, battles, bptt_steps):
    module, trajectory = policy(bptt_steps=bptt_steps), battles(LENGTHS)
    prepared = prepare_policy_batch(module, trajectory, trajectory.rewards * 10, SETTINGS)
    assert (Columns.STATE_IN in prepared.columns) == (bptt_steps > 0)
    output = module.forward_train(prepared.columns)
    torch.testing.assert_close(output["values"], prepared.columns["old_values"], rtol=1e-5, atol=1e-6)
    assert not any(x.requires_grad for x in prepared.columns.values() if isinstance(x, torch.Tensor))


@pytest.mark.parametrize("bptt_steps", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_minibatches_are_disjoint_whole_sequences_with_the_same_outputs(policy, battles, bptt_steps, count):
    module, trajectory = policy(bptt_steps=bptt_steps), battles(LENGTHS)
    prepared = prepare_policy_batch(module, trajectory, trajectory.rewards, SETTINGS)
    whole = module.forward_train(prepared.columns)[Columns.ACTION_DIST_INPUTS].detach()
    # behavior_logp is different at every step, so it tells which step a row is.
    place = {value: i for i, value in enumerate(prepared.columns["behavior_logp"].tolist())}
    seen = []
    for batch in minibatches(prepared, count, torch.Generator().manual_seed(0)):
        rows = [place[value] for value in batch["behavior_logp"].tolist()]
        seen += rows
        logits = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].detach()
        torch.testing.assert_close(logits, whole[rows], rtol=1e-5, atol=1e-5)
        losses = ppo_losses(logits, batch["old_values"], PPOBatch.from_columns(batch), SETTINGS)
        assert losses["total_loss"].isfinite()
    assert sorted(seen) == list(range(len(place)))


def test_gradients_do_not_depend_on_the_order_of_battles(policy, battles):
    trajectory = battles(LENGTHS)
    order = [3, 0, 4, 2, 1]
    reordered = trajectory.select(np.array(order))
    gradients = []
    for one in (trajectory, reordered):
        module = policy()
        prepared = prepare_policy_batch(module, one, one.rewards, SETTINGS)
        output = module.forward_train(prepared.columns)
        batch = PPOBatch.from_columns(prepared.columns)
        ppo_losses(output[Columns.ACTION_DIST_INPUTS], output["values"], batch, SETTINGS)["total_loss"].backward()
        gradients.append([p.grad for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_steps_of_the_dead_move_the_critic_only(policy, battles):
    trajectory = battles(LENGTHS)
    trajectory = dataclasses.replace(trajectory, alive=np.zeros_like(trajectory.alive))
    module = policy()
    prepared = prepare_policy_batch(module, trajectory, trajectory.rewards, SETTINGS)
    output = module.forward_train(prepared.columns)
    batch = PPOBatch.from_columns(prepared.columns)
    ppo_losses(output[Columns.ACTION_DIST_INPUTS], output["values"], batch, SETTINGS)["total_loss"].backward()
    assert all((p.grad == 0).all() for p in module.actor.parameters())
    assert any((p.grad != 0).any() for p in module.critic.parameters())


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
def test_rewards_by_padding_rule(discriminator, battles, padding):
    trajectory, horizon, gamma, c = battles([2, 4, 3], seed=1), 6, 0.5, 0.3
    assert trajectory.terminated.tolist() != [True] * 3
    module = discriminator(padding=padding)
    visited = discriminator_inputs(trajectory.observations, trajectory.episode_lengths, padding, horizon)
    rewards, statistics = learning_rewards(
        trajectory, module, visited, MatchingSettings(coefficient=c, padding=padding), horizon, gamma
    )

    def logit(row: np.ndarray) -> float:
        return module.forward_inference({Columns.OBS: torch.tensor(row[None], dtype=torch.float32)})["logits"].item()

    indicator = [0.0] if padding == "absorbing" else []
    expected = [
        trajectory.rewards[row] + c * logit(np.append(trajectory.observations[row], indicator))
        for row in range(trajectory.num_steps)
    ]
    if padding != "masked":
        after = logit(np.append(np.zeros(6), [1.0] if padding == "absorbing" else []))
        assert statistics["padding_reward"] == pytest.approx(after, abs=1e-6)
        for e, last in enumerate(trajectory.last_rows):
            if trajectory.terminated[e]:
                expected[last] += c * sum(after * gamma**k for k in range(1, horizon - [2, 4, 3][e] + 1))
    np.testing.assert_allclose(rewards.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert 0 < statistics["matching_reward_share"] < 1 and not rewards.requires_grad


def test_preparing_twice_gives_the_same_bits_and_leaves_the_trajectory_alone(policy, battles):
    trajectory = battles(LENGTHS)
    for array in trajectory.to_arrays().values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    one, two = (prepare_policy_batch(policy(), trajectory, trajectory.rewards, SETTINGS) for _ in range(2))
    for name, column in one.columns.items():
        torch.testing.assert_close(column, two.columns[name], rtol=0, atol=0)
