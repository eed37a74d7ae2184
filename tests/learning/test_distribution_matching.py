"""One agent's matching as a whole: what is paid for what, what may not matter, and what is remembered."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config.schema import Experiment
from dm2_ray.learning.discriminator import discriminator_losses
from dm2_ray.learning.distribution_matching import DistributionMatcher
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory
from dm2_ray.learning.ppo_batch import learning_rewards
from dm2_ray.learning.reward_scale import RewardScale
from dm2_ray.learning.rewards import matching_reward

HORIZON, NUM_ACTIONS = 6, 4
LENGTHS = [2, 6, 4, 3]
KINDS, PADDINGS = ["state", "state_action", "state_next_state"], ["masked", "absorbing", "paper"]
FORMS = ["airl", "gail", "log_d", "fairl", "bounded"]


def experiment(matching: dict[str, Any], **discriminator: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "matching": {"coefficient": 0.3, **matching},
            "discriminator": {"hidden_size": 8, "updates": 3, "minibatch_episodes": 2, **discriminator},
            "ppo": {"gamma": 0.5},
        }
    )


def demonstration_of(trajectory: AgentTrajectory) -> AgentDemonstration:
    ids = np.arange(trajectory.num_episodes)
    return AgentDemonstration.from_episodes(trajectory, agent_index=0, episode_ids=ids)


def reordered(trajectory: AgentTrajectory, order: list[int]) -> tuple[AgentTrajectory, np.ndarray]:
    """The same battles in another order, and where each of its steps was before."""
    rows = np.concatenate(
        [np.arange(trajectory.first_rows[e], trajectory.last_rows[e] + 1) for e in order], dtype=np.int64
    )
    by_episode = ("episode_lengths", "terminated", "final_observations")
    arrays = {
        name: x if name == "policy_version" else x[order if name in by_episode else rows]
        for name, x in trajectory.to_arrays().items()
    }
    return AgentTrajectory.from_arrays(arrays), rows


class Agent:
    """A discriminator with its optimizer and its matching."""

    def __init__(self, discriminator, settings: Experiment) -> None:
        self.module = discriminator(
            padding=settings.matching.padding, **settings.discriminator.model_dump(exclude={"seed"})
        )
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-2)
        self.matching = DistributionMatcher(settings, HORIZON, NUM_ACTIONS)

    def update(self, trajectory, demonstration, iteration: int = 0) -> tuple[torch.Tensor, dict[str, float]]:
        own, expert = self.matching.visited(trajectory, None), self.matching.visited(demonstration, None)
        generator = torch.Generator().manual_seed(iteration)
        return self.matching.update(
            self.module, self.optimizer, trajectory, own, expert, generator, iteration=iteration, owner="me"
        )

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        return self.module.forward_inference({Columns.OBS: rows})["logits"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["both", "matching", "task"])
def test_every_form_and_source_pays_real_steps_and_padding_alike(discriminator, battles, form, source):
    settings = experiment({"form": form, "reward": source, "padding": "absorbing"})
    agent, trajectory = Agent(discriminator, settings), battles(LENGTHS, seed=1)
    assert set(trajectory.terminated.tolist()) == {True, False}
    rewards, metrics = agent.update(trajectory, demonstration_of(battles(LENGTHS, seed=9)))

    rows = agent.matching.visited(trajectory, None).rows
    r_match = matching_reward(agent.logits(rows), form).numpy().astype(np.float64)
    expected = r_match[:-1].copy()
    for length, last, terminated in zip(LENGTHS, trajectory.last_rows, trajectory.terminated, strict=True):
        if terminated:
            expected[last] += r_match[-1] * sum(0.5**k for k in range(1, HORIZON - length + 1))
    assert metrics["matching_reward_mean"] == pytest.approx(expected.mean(), abs=1e-5)
    assert metrics["padding_reward"] == pytest.approx(r_match[-1], abs=1e-6)
    team = trajectory.rewards
    np.testing.assert_allclose(
        rewards.numpy(),
        {"both": team + 0.3 * expected, "matching": 0.3 * expected, "task": team}[source],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_battles_changes_neither_losses_nor_rewards(discriminator, battles, kind, padding):
    settings = experiment({"padding": padding, "form": "gail", "normalise": True}, input=kind)
    module = Agent(discriminator, settings).module
    trajectory, other = battles(LENGTHS, seed=1), battles([5, 1, 3], seed=9)
    again, rows = reordered(trajectory, [2, 0, 3, 1])
    matching = DistributionMatcher(settings, HORIZON, NUM_ACTIONS)

    def losses_and_rewards(one: AgentTrajectory) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        own, expert = matching.visited(one, None), matching.visited(demonstration_of(other), None)
        both = torch.cat([expert.rows, own.rows])
        output = module.forward_train({Columns.OBS: both, "interpolates": both})
        is_expert = torch.arange(len(both)) < len(expert.rows)
        losses = discriminator_losses(output["logits"], is_expert, output["gradient_norms"], module.settings)
        rewards, _ = learning_rewards(one, module, own, settings.matching, HORIZON, 0.5, RewardScale())
        return losses, rewards

    (losses, rewards), (losses_again, rewards_again) = losses_and_rewards(trajectory), losses_and_rewards(again)
    for name in losses:
        torch.testing.assert_close(losses[name], losses_again[name])
    torch.testing.assert_close(rewards[rows], rewards_again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_time_after_the_end_counts_only_where_there_is_padding(discriminator, battles, padding):
    """The horizon is what decides how much padding there is."""
    trajectory, expert = battles(LENGTHS, seed=1), demonstration_of(battles([1, 2, 1], seed=9))
    trained = []
    for horizon in (HORIZON, 5 * HORIZON):
        agent = Agent(discriminator, experiment({"padding": padding}))
        agent.matching = DistributionMatcher(experiment({"padding": padding}), horizon, NUM_ACTIONS)
        rewards, _ = agent.update(trajectory, expert)
        trained.append([rewards, *agent.module.state_dict().values()])
    same = all(torch.equal(one, two) for one, two in zip(*trained, strict=True))
    assert same == (padding == "masked")


def test_only_what_was_visited_gets_a_gradient(discriminator, battles):
    """The weights of a feature that is 0 in every row, the absorbing state's aside, do not move."""
    trajectory = battles(LENGTHS, seed=1)
    trajectory.observations[:, 2] = 0.0
    demonstration = demonstration_of(battles(LENGTHS, seed=9))
    demonstration.observations[:, 2] = 0.0
    agent = Agent(discriminator, experiment({"padding": "absorbing"}, gradient_penalty=0.0))
    before = agent.module.hidden[0].weight.detach().clone()
    agent.update(trajectory, demonstration)
    moved = (agent.module.hidden[0].weight != before).any(dim=0).tolist()
    assert moved == [True, True, False, True, True, True, True]


def test_normalized_rewards_are_divided_alike_and_by_what_was_seen(discriminator, battles):
    plain, scaled = (
        Agent(discriminator, experiment({"padding": "absorbing", "reward": "matching", "normalise": normalise}))
        for normalise in (False, True)
    )
    demonstration = demonstration_of(battles(LENGTHS, seed=9))
    sums = np.zeros(3)
    for iteration in range(3):
        trajectory = battles(LENGTHS, seed=iteration)
        rewards, metrics = plain.update(trajectory, demonstration, iteration)
        rewards_scaled, metrics_scaled = scaled.update(trajectory, demonstration, iteration)
        r_match = plain.logits(plain.matching.visited(trajectory, None).rows)[:-1].double().numpy()
        sums = 0.99 * sums + [1, r_match.mean(), (r_match**2).mean()]
        std = max(0.1, np.sqrt(sums[2] / sums[0] - (sums[1] / sums[0]) ** 2))
        assert metrics_scaled["matching_reward_scale"] == pytest.approx(std, rel=1e-3)
        torch.testing.assert_close(rewards_scaled, rewards / std, rtol=1e-3, atol=1e-5)
        assert metrics_scaled["padding_reward"] == pytest.approx(metrics["padding_reward"] / std, rel=1e-3)
    assert "matching_reward_scale" not in metrics


def test_replay_shows_the_discriminator_what_the_agent_no_longer_does(discriminator, battles):
    """An expert who stays where the agent was one iteration ago is told apart by memory only."""

    def at(place: float) -> AgentTrajectory:
        trajectory = battles(LENGTHS, seed=1)
        return dataclasses.replace(trajectory, observations=np.full_like(trajectory.observations, place))

    expert = demonstration_of(at(0.5))
    gaps = {}
    for iterations in (0, 1):
        settings = experiment({"padding": "masked"}, replay_iterations=iterations, updates=60, gradient_penalty=0.0)
        agent = Agent(discriminator, settings)
        agent.update(at(0.5), expert, 0)
        _, metrics = agent.update(at(-0.5), expert, 1)
        gaps[iterations] = metrics["discriminator_agent_accuracy"]
        assert ("replay_rows" in agent.matching.to_arrays()) == (iterations > 0)
    assert gaps[0] == 1.0
    assert gaps[1] == pytest.approx(0.5, abs=0.25)


def test_the_state_goes_on_bit_for_bit(discriminator, battles):
    settings = experiment(
        {"padding": "absorbing", "normalise": True, "form": "bounded"},
        input="state_next_state",
        replay_iterations=2,
        spectral_norm=True,
    )
    demonstration = demonstration_of(battles(LENGTHS, seed=9))
    original, restored = Agent(discriminator, settings), Agent(discriminator, settings)
    for iteration in range(3):
        original.update(battles(LENGTHS, seed=iteration), demonstration, iteration)
    restored.module.load_state_dict(original.module.state_dict())
    restored.optimizer.load_state_dict(copy.deepcopy(original.optimizer.state_dict()))
    restored.matching.load_arrays(original.matching.to_arrays(), None)
    for iteration in range(3, 6):
        trajectory = battles(LENGTHS, seed=iteration)
        one, two = (agent.update(trajectory, demonstration, iteration) for agent in (original, restored))
        assert torch.equal(one[0], two[0]) and one[1] == two[1]
    for name, array in original.matching.to_arrays().items():
        assert np.array_equal(array, restored.matching.to_arrays()[name])


def test_an_annealed_coefficient_is_that_of_the_iteration(discriminator, battles):
    agent = Agent(discriminator, experiment({"reward": "matching", "anneal_iterations": 4}))
    demonstration = demonstration_of(battles(LENGTHS, seed=9))
    found = [agent.update(battles(LENGTHS), demonstration, k)[1]["matching_coefficient"] for k in range(4)]
    assert found == pytest.approx([0.3, 0.225, 0.15, 0.075])
