"""The measurement of joint divergence on teams with known joint distributions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dm2_ray.analysis.joint_divergence import JointComparison, measure_joint_divergence
from dm2_ray.learning.episodes import AgentEpisodes
from dm2_ray.runs.joint_rollouts import JointRollouts

LENGTH, STEPS = 10, 4000
GRADIENT_STEPS = 150
# Divergence of a fair coin from a copy of another one, given that other one: 1/2 log 4/3 + 1/4 log 2/3 + 1/4 log 2.
COPIED = 0.5 * (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def team(signals: np.ndarray, rng: np.random.Generator) -> JointRollouts:
    """Battles of LENGTH steps in which agent i observes signals[:, i] and two numbers of noise."""
    steps, agents = signals.shape
    observations = [np.c_[signals[:, agent], rng.normal(size=(steps, 2))].astype(np.float32) for agent in range(agents)]
    views = [
        AgentEpisodes(
            observations=own,
            actions=np.zeros(steps, np.int64),
            action_mask=np.ones((steps, 1), bool),
            alive=np.ones(steps, bool),
            episode_lengths=np.full(steps // LENGTH, LENGTH),
        )
        for own in observations
    ]
    return JointRollouts(agents=tuple(views), returns=None, won=None)


def compared(
    of_team: Callable[[np.random.Generator], np.ndarray], of_experts: Callable[[np.random.Generator], np.ndarray]
) -> JointComparison:
    rng = np.random.default_rng(0)
    comparison = measure_joint_divergence(
        team(of_team(rng), rng), team(of_experts(rng), rng), seed=0, steps=GRADIENT_STEPS
    )
    assert comparison is not None
    return comparison


def coins(rng: np.random.Generator, agents: int = 3) -> np.ndarray:
    return rng.choice([-1.0, 1.0], size=(STEPS, agents))


def parity(rng: np.random.Generator) -> np.ndarray:
    """Any two agents' coins are independent; the three together are not."""
    signals = coins(rng)
    signals[:, 2] = signals[:, 0] * signals[:, 1]
    return signals


def copied(rng: np.random.Generator) -> np.ndarray:
    signals = coins(rng)
    signals[:, 1] = signals[:, 0]
    return signals


def test_equal_joints_show_nothing_whether_agents_depend_on_each_other_or_not():
    for of_both, dependence in ((coins, 0.0), (copied, COPIED)):
        comparison = compared(of_both, of_both)
        assert not comparison.misses_marginals and not comparison.joint_only_divergence
        assert comparison.joint.js.value < 0.005 and abs(comparison.excess.value) < 0.005
        for side in (comparison.team_dependence, comparison.expert_dependence):
            assert side is not None and side.js.value == pytest.approx(dependence, abs=0.03)


@pytest.mark.parametrize("of_experts", [copied, parity])
def test_equal_marginals_and_another_joint_are_a_mismatch(of_experts):
    comparison = compared(coins, of_experts)
    assert not comparison.misses_marginals and comparison.joint_only_divergence
    assert max(agent.js.value for agent in comparison.agents) < 0.01 and comparison.marginals.js.value < 0.01
    assert all(abs(agent.accuracy.value - 0.5) < 0.05 for agent in comparison.agents)
    # An estimate from below: so few gradient steps do not learn a parity completely.
    assert COPIED - 0.07 < comparison.joint.js.value < COPIED + 0.02
    assert COPIED - 0.07 < comparison.excess.value < COPIED + 0.02
    assert comparison.joint.accuracy.value == pytest.approx(0.75, abs=0.04)
    # The team's agents are independent of each other, the experts' are not.
    assert comparison.team_dependence.js.value < 0.01
    assert COPIED - 0.07 < comparison.expert_dependence.js.value < COPIED + 0.02


def test_independent_agents_that_differ_one_by_one_do_not_miss_a_joint():
    comparison = compared(lambda rng: rng.normal(size=(STEPS, 3)), lambda rng: rng.normal(size=(STEPS, 3)) + 1.0)
    assert comparison.misses_marginals and not comparison.joint_only_divergence
    # By numerical integration: 0.1114 for the shift of one agent, 1, and 0.2753 for that of all three, sqrt 3.
    assert all(agent.js.value == pytest.approx(0.1114, abs=0.03) for agent in comparison.agents)
    assert comparison.marginals.js.value == pytest.approx(0.2753, abs=0.03)
    assert abs(comparison.excess.value) < 0.01


def test_both_can_be_missed():
    def of_experts(rng: np.random.Generator) -> np.ndarray:
        signals = rng.normal(size=(STEPS, 3))
        signals[:, 1] = 0.9 * signals[:, 0] + math.sqrt(1 - 0.81) * signals[:, 1]
        signals[:, 2] += 1.5
        return signals

    comparison = compared(lambda rng: rng.normal(size=(STEPS, 3)), of_experts)
    assert comparison.misses_marginals and comparison.joint_only_divergence
    assert [agent.js.low > 0 for agent in comparison.agents] == [False, False, True]
    assert comparison.joint.js.value > max(agent.js.value for agent in comparison.agents)


def test_one_agent_has_no_joint_to_miss():
    def of(shift: float) -> Callable[[np.random.Generator], np.ndarray]:
        return lambda rng: rng.normal(size=(STEPS, 1)) + shift

    comparison = compared(of(0.0), of(1.0))
    assert comparison.misses_marginals and not comparison.joint_only_divergence
    assert comparison.team_dependence.js.value < 0.01


def test_it_is_a_function_of_its_arguments_and_needs_enough_battles():
    rng = np.random.default_rng(1)
    own, experts = team(coins(rng)[:400], rng), team(copied(rng)[:400], rng)
    assert measure_joint_divergence(own, experts, seed=5, steps=50) == measure_joint_divergence(
        own, experts, seed=5, steps=50
    )
    four = measure_joint_divergence(own, team(coins(rng)[: 4 * LENGTH], rng), seed=0, steps=50)
    # Four battles can be split into folds; their rows cannot be combined, as the validation fold has only one battle.
    assert four is not None and four.team_dependence is not None and four.expert_dependence is None
    few = team(coins(rng)[: 3 * LENGTH], rng)
    assert measure_joint_divergence(own, few, seed=0) is None and measure_joint_divergence(few, own, seed=0) is None
