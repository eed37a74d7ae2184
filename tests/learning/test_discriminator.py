"""The penalty against autograd, the losses by hand, and the log-ratio it is there to learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config import DiscriminatorSettings
from dm2_ray.learning.discriminator import (
    discriminator_batch,
    discriminator_losses,
    gradient_penalty,
    interpolate,
)
from dm2_ray.learning.visitation import discriminator_inputs

SETTINGS = DiscriminatorSettings(gradient_penalty=10.0)


def penalised_losses(module, expert_rows, agent_rows, interpolates):
    is_expert = torch.arange(len(expert_rows) + len(agent_rows)) < len(expert_rows)
    output = module.forward_train({Columns.OBS: torch.cat([expert_rows, agent_rows]), "interpolates": interpolates})
    return discriminator_losses(output["logits"], is_expert, output["gradient_norms"], module.settings)


@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
def test_written_out_input_gradient_equals_autograd(discriminator, hidden_layers):
    module = discriminator(hidden_layers=hidden_layers, hidden_size=16)
    torch.manual_seed(0)
    x = torch.randn(20, 6)
    norms = module.forward_train({Columns.OBS: x, "interpolates": x})["gradient_norms"]
    probe = x.clone().requires_grad_()
    logits = module.forward_train({Columns.OBS: probe})["logits"]
    (gradient,) = torch.autograd.grad(logits.sum(), probe, create_graph=True)
    torch.testing.assert_close(norms, gradient.norm(dim=-1))

    # And its own gradient, the second derivative, equals double back-propagation.
    ours = torch.autograd.grad(gradient_penalty(norms), list(module.parameters()), allow_unused=True)
    reference = torch.autograd.grad(gradient_penalty(gradient.norm(dim=-1)), module.parameters(), allow_unused=True)
    for one, other in zip(ours, reference, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        else:
            assert other is None or (other == 0).all()


def test_input_gradient_of_a_known_network(discriminator):
    # logit = 2 tanh(3 x): gradient 6 (1 - tanh^2(3 x)).
    module = discriminator(observation_size=1, hidden_layers=1, hidden_size=1)
    with torch.no_grad():
        module.hidden[0].weight.fill_(3.0)
        module.head.weight.fill_(2.0)
        for linear in (module.hidden[0], module.head):
            linear.bias.zero_()
    x = torch.tensor([[-0.5], [0.0], [0.1]])
    output = module.forward_train({Columns.OBS: x, "interpolates": x})
    torch.testing.assert_close(output["logits"], 2 * torch.tanh(3 * x.squeeze(-1)))
    torch.testing.assert_close(output["gradient_norms"], 6 * (1 - torch.tanh(3 * x.squeeze(-1)) ** 2))


def test_penalty_by_hand():
    assert gradient_penalty(torch.tensor([1.0, 3.0, 0.0])).item() == pytest.approx((0 + 4 + 1) / 3)


def test_losses_and_statistics_by_hand():
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0, 1.0], requires_grad=True)
    is_expert = torch.tensor([True, True, False, False, False])
    losses = discriminator_losses(logits, is_expert, torch.tensor([3.0, 1.0]), SETTINGS)

    def nll(probability):
        return -math.log(probability)

    def d(logit):
        return 1 / (1 + math.exp(-logit))

    expert = (nll(d(2.0)) + nll(d(-1.0))) / 2
    agent = (nll(1 - d(0.5)) + nll(1 - d(-3.0)) + nll(1 - d(1.0))) / 3
    entropy = np.mean([nll(d(x)) * d(x) + nll(1 - d(x)) * (1 - d(x)) for x in logits.tolist()])
    expected = {
        "expert_loss": expert,
        "agent_loss": agent,
        "gradient_penalty": 2.0,
        "total_loss": expert + agent + 20.0,
        "expert_accuracy": 1 / 2,
        "agent_accuracy": 1 / 3,
        "logit_gap": 0.5 - (-1.5 / 3),
        "entropy": entropy,
        "gradient_norm": 2.0,
    }
    assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-5)


def test_confident_logits_do_not_overflow():
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    losses = discriminator_losses(logits, torch.tensor([True, False]), torch.ones(1), SETTINGS)
    losses["total_loss"].backward()
    assert losses["expert_loss"].item() == pytest.approx(200) and losses["entropy"].item() == 0
    assert logits.grad.tolist() == [-1.0, 1.0]


def test_interpolates_lie_on_the_lines_between_the_pairs():
    expert, agent = torch.ones(50, 3), torch.zeros(70, 3)
    mixed = interpolate(expert, agent, torch.Generator().manual_seed(0))
    assert mixed.shape == (50, 3)
    assert (mixed == mixed[:, :1]).all() and mixed.min() >= 0 and mixed.max() <= 1
    assert mixed[:, 0].std() > 0.2
    torch.testing.assert_close(mixed, interpolate(expert, agent, torch.Generator().manual_seed(0)), rtol=0, atol=0)


def test_a_batch_holds_both_sides_and_only_the_generator_decides_which_rows():
    expert = discriminator_inputs(np.ones((30, 2), dtype=np.float32), np.array([10, 20]), "masked", 20)
    agent = discriminator_inputs(np.zeros((8, 2), dtype=np.float32), np.array([8]), "masked", 20)
    one, two = (discriminator_batch(expert, agent, 12, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one[Columns.OBS].shape == (12 + 8, 2) and one["interpolates"].shape == (8, 2)
    assert (one[Columns.OBS][:, 0] == one["is_expert"]).all()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)


def test_learns_the_log_ratio_of_two_visitations(discriminator):
    # Four states, one-hot; no penalty, so that the optimum log p_E - log p_A is within reach.
    p_expert, p_agent = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.3, 0.2, 0.4])
    steps = 1000
    states = np.eye(4, dtype=np.float32)
    expert, agent = (
        discriminator_inputs(np.repeat(states, (p * steps).astype(int), axis=0), np.array([steps]), "masked", steps)
        for p in (p_expert, p_agent)
    )
    module = discriminator(observation_size=4, gradient_penalty=0.0)
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        batch = discriminator_batch(expert, agent, 500, generator)
        output = module.forward_train(batch)
        losses = discriminator_losses(output["logits"], batch["is_expert"], output["gradient_norms"], module.settings)
        optimiser.zero_grad()
        losses["total_loss"].backward()
        optimiser.step()
    logits = module.forward_inference({Columns.OBS: torch.from_numpy(states)})["logits"]
    np.testing.assert_allclose(logits.numpy(), np.log(p_expert / p_agent), atol=0.15)
    # The best possible accuracies here: rows 0 | 1, 2 undecided | 3.
    assert losses["logit_gap"].item() == pytest.approx(0.6 * math.log(4), abs=0.15)


def test_the_penalty_holds_the_gradient_near_one(discriminator):
    torch.manual_seed(0)
    expert_rows, agent_rows = torch.randn(200, 6) + 2, torch.randn(200, 6) - 2
    norms = {}
    for coefficient in (0.0, 10.0):
        module = discriminator(gradient_penalty=coefficient)
        optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            losses = penalised_losses(module, expert_rows, agent_rows, interpolate(expert_rows, agent_rows, generator))
            optimiser.zero_grad()
            losses["total_loss"].backward()
            optimiser.step()
        norms[coefficient] = losses["gradient_norm"].item()
    assert abs(norms[10.0] - 1) < 0.15 < abs(norms[0.0] - 1)


def test_the_indicator_feature_widens_the_input(discriminator):
    assert discriminator(padding="absorbing").hidden[0].in_features == 7
    assert discriminator(padding="masked").hidden[0].in_features == 6


def test_weights_are_a_function_of_the_seed(discriminator):
    one, two, three = (discriminator(seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
