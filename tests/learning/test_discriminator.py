"""The penalty against autograd, the losses by hand, and the log-ratio it is there to learn."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config.schema import DiscriminatorSettings
from dm2_ray.learning.discriminator import (
    discriminator_batch,
    discriminator_losses,
    gradient_penalty,
    interpolate,
)
from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import discriminator_inputs

SETTINGS = DiscriminatorSettings(gradient_penalty=10.0)


def penalized_losses(module, expert_rows, agent_rows, interpolates):
    is_expert = torch.arange(len(expert_rows) + len(agent_rows)) < len(expert_rows)
    output = module.forward_train({Columns.OBS: torch.cat([expert_rows, agent_rows]), "interpolates": interpolates})
    return discriminator_losses(output["logits"], is_expert, output["gradient_norms"], module.settings)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
def test_written_out_input_gradient_equals_autograd(discriminator, hidden_layers, spectral_norm):
    module = discriminator(hidden_layers=hidden_layers, hidden_size=16, spectral_norm=spectral_norm)
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


def test_penalty_and_its_gradient_of_a_known_network(discriminator):
    # logit = b tanh(a x) with a = 2, b = 3, at x = 0 and x = 1/2. With t = tanh(a x) and g = a b (1 - t^2) > 0:
    #   penalty mean (g - 1)^2;  dg/db = a (1 - t^2);  dg/da = b (1 - t^2) - 2 a b x t (1 - t^2)
    a, b = 2.0, 3.0
    module = discriminator(observation_size=1, hidden_layers=1, hidden_size=1)
    with torch.no_grad():
        module.hidden[0].weight.fill_(a)
        module.head.weight.fill_(b)
        for linear in (module.hidden[0], module.head):
            linear.bias.zero_()
    points = (0.0, 0.5)
    x = torch.tensor(points).unsqueeze(-1)
    penalty = gradient_penalty(module.forward_train({Columns.OBS: x, "interpolates": x})["gradient_norms"])
    penalty.backward()

    t = [math.tanh(a * p) for p in points]
    g = [a * b * (1 - u * u) for u in t]
    by_a = [b * (1 - u * u) * (1 - 2 * a * p * u) for p, u in zip(points, t, strict=True)]
    by_b = [a * (1 - u * u) for u in t]
    assert g[0] == 6.0 and penalty.item() == pytest.approx(((g[0] - 1) ** 2 + (g[1] - 1) ** 2) / 2, rel=1e-5)
    for parameter, slopes in ((module.hidden[0].weight, by_a), (module.head.weight, by_b)):
        expected = sum(2 * (one - 1) * slope for one, slope in zip(g, slopes, strict=True)) / 2
        assert parameter.grad.item() == pytest.approx(expected, rel=1e-4)


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
    entropies = [nll(d(x)) * d(x) + nll(1 - d(x)) * (1 - d(x)) for x in logits.tolist()]
    entropy = (np.mean(entropies[:2]) + np.mean(entropies[2:])) / 2
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


def test_a_row_with_a_weight_counts_as_so_many_rows():
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0])
    is_expert = torch.tensor([True, True, False, False])
    weights = torch.tensor([0.75, 0.25, 0.2, 0.8])
    repeats = torch.tensor([3, 1, 1, 4])
    norms = torch.tensor([3.0, 1.0])
    weighted = discriminator_losses(logits, is_expert, norms, SETTINGS, weights)
    repeated = discriminator_losses(
        logits.repeat_interleave(repeats), is_expert.repeat_interleave(repeats), norms, SETTINGS
    )
    for name, value in weighted.items():
        torch.testing.assert_close(value, repeated[name])


def test_smoothed_labels_by_hand():
    # e = 0.1; D = 3/4 for the one expert row, 1/2 and 1/5 for the agent's.
    logits = torch.tensor([math.log(3), 0.0, -math.log(4)], requires_grad=True)
    is_expert = torch.tensor([True, False, False])
    smooth = DiscriminatorSettings(gradient_penalty=0.0, label_smoothing=0.1)
    losses = discriminator_losses(logits, is_expert, torch.ones(1), smooth)
    expert = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    agent = (-0.9 * math.log(1 / 2) - 0.1 * math.log(1 / 2) - 0.9 * math.log(4 / 5) - 0.1 * math.log(1 / 5)) / 2
    assert losses["expert_loss"].item() == pytest.approx(expert, rel=1e-5)
    assert losses["agent_loss"].item() == pytest.approx(agent, rel=1e-5)
    losses["total_loss"].backward()
    # d loss / d logit = (D - label) / rows of the side
    assert logits.grad.tolist() == pytest.approx([0.75 - 0.9, (0.5 - 0.1) / 2, (0.2 - 0.1) / 2], abs=1e-6)


def test_confident_logits_do_not_overflow():
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    losses = discriminator_losses(logits, torch.tensor([True, False]), torch.ones(1), SETTINGS)
    losses["total_loss"].backward()
    assert losses["expert_loss"].item() == pytest.approx(200) and losses["entropy"].item() == 0
    assert logits.grad.tolist() == [-1.0, 1.0]


def test_interpolates_lie_on_the_lines_between_the_pairs():
    expert, agent = torch.ones(50, 3), torch.zeros(50, 3)
    mixed = interpolate(expert, agent, torch.Generator().manual_seed(0))
    assert mixed.shape == (50, 3)
    assert (mixed == mixed[:, :1]).all() and mixed.min() >= 0 and mixed.max() <= 1
    assert mixed[:, 0].std() > 0.2
    torch.testing.assert_close(mixed, interpolate(expert, agent, torch.Generator().manual_seed(0)), rtol=0, atol=0)


def test_a_batch_holds_both_sides_and_only_the_generator_decides_which_rows():
    expert = discriminator_inputs(np.ones((30, 2), dtype=np.float32), np.array([10, 20]), "masked", 20)
    agent = discriminator_inputs(np.zeros((8, 2), dtype=np.float32), np.array([8]), "masked", 20)
    settings = DiscriminatorSettings(penalty_rows=5)

    def batch() -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        return discriminator_batch(UniqueRows(expert, generator), UniqueRows(agent, generator), 12, settings, generator)

    one, two = batch(), batch()
    assert one[Columns.OBS].tolist() == [[1, 1], [0, 0]] and one["interpolates"].shape == (5, 2)
    assert one["is_expert"].tolist() == [True, False] and one["weights"].tolist() == [1, 1]
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
    module = discriminator(observation_size=4, gradient_penalty=0.0, updates=300)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    statistics = train_discriminator(module, optimizer, expert, agent, torch.Generator().manual_seed(0), owner="me")
    logits = module.forward_inference({Columns.OBS: torch.from_numpy(states)})["logits"]
    np.testing.assert_allclose(logits.numpy(), np.log(p_expert / p_agent), atol=0.15)
    # The best possible accuracies here: rows 0 | 1, 2 undecided | 3.
    assert statistics["discriminator_logit_gap"] == pytest.approx(0.6 * math.log(4), abs=0.15)


def test_the_penalty_holds_the_gradient_near_one(discriminator):
    torch.manual_seed(0)
    expert_rows, agent_rows = torch.randn(200, 6) + 2, torch.randn(200, 6) - 2
    norms = {}
    for coefficient in (0.0, 10.0):
        module = discriminator(gradient_penalty=coefficient)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            losses = penalized_losses(module, expert_rows, agent_rows, interpolate(expert_rows, agent_rows, generator))
            optimizer.zero_grad()
            losses["total_loss"].backward()
            optimizer.step()
        norms[coefficient] = losses["gradient_norm"].item()
    assert abs(norms[10.0] - 1) < 0.15 < abs(norms[0.0] - 1)


@pytest.mark.parametrize(
    ("kind", "padding", "width"),
    [
        ("state", "masked", 6),
        ("state", "absorbing", 6 + 1),
        ("state_action", "paper", 6 + 4),
        ("state_action", "absorbing", 6 + 4 + 1),
        ("state_next_state", "masked", 6 + 6),
        ("state_next_state", "absorbing", 6 + 6 + 2),
    ],
)
def test_the_input_is_as_wide_as_the_rows(discriminator, kind, padding, width):
    assert discriminator(input=kind, padding=padding).hidden[0].in_features == width


def test_actions_must_be_discrete_to_be_looked_at(discriminator):
    with pytest.raises(ValueError, match="action_space must be Discrete for input state_action, found Box"):
        discriminator(action_space=gymnasium.spaces.Box(-1.0, 1.0, (2,)), input="state_action")


class TestSpectralNorm:
    def trained(self, module, steps: int, seed: int = 0) -> None:
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(seed)
        expert_rows, agent_rows = torch.randn(100, 6, generator=generator) + 2, torch.randn(100, 6, generator=generator)
        for _ in range(steps):
            losses = penalized_losses(module, expert_rows, agent_rows, interpolate(expert_rows, agent_rows, generator))
            optimizer.zero_grad()
            losses["total_loss"].backward()
            optimizer.step()

    def test_no_layer_stretches_anything(self, discriminator):
        module, plain = (discriminator(spectral_norm=on, gradient_penalty=0.0) for on in (True, False))
        for one in (module, plain):
            self.trained(one, 150)
        largest = [torch.linalg.matrix_norm(layer.weight, 2).item() for layer in (*module.hidden, module.head)]
        assert largest == pytest.approx([1.0] * 3, abs=0.02)
        x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
        norms = {
            one: one.forward_train({Columns.OBS: x, "interpolates": x})["gradient_norms"] for one in (module, plain)
        }
        assert norms[module].max() < 1.05 < norms[plain].max()

    def test_only_gradient_steps_change_the_estimate(self, discriminator):
        module = discriminator(spectral_norm=True)
        x = torch.randn(5, 6)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        first = module.forward_train({Columns.OBS: x})["logits"]
        module.forward_inference({Columns.OBS: x})
        second = module.forward_train({Columns.OBS: x})["logits"]
        assert torch.equal(first, second)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        module.forward_train({Columns.OBS: x, "interpolates": x})
        assert any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())

    def test_training_goes_on_from_the_saved_estimate_bit_for_bit(self, discriminator):
        module, restored = discriminator(spectral_norm=True), discriminator(spectral_norm=True, seed=1)
        self.trained(module, 5)
        restored.load_state_dict(module.state_dict())
        for one in (module, restored):
            self.trained(one, 5, seed=1)
        for one, other in zip(module.state_dict().values(), restored.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)

    def test_the_start_is_a_function_of_the_seed(self, discriminator):
        states = []
        for torch_seed in (1, 2):
            torch.manual_seed(torch_seed)
            states.append(discriminator(spectral_norm=True).state_dict())
        for one, other in zip(*(state.values() for state in states), strict=True):
            assert torch.equal(one, other)


def test_weights_are_a_function_of_the_seed(discriminator):
    one, two, three = (discriminator(seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
