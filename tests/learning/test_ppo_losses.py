"""Losses against numbers worked out by hand, masks that mask exactly, statistics that move."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from dm2_ray.config.schema import PPOSettings
from dm2_ray.learning.ppo import PPOBatch, ValueNormalizer, normalize_advantages, ppo_losses

SETTINGS = PPOSettings(clip=0.2, entropy_coef=0.01, value_coef=0.5, huber_delta=1.0)
ALL = torch.tensor([True, True, True, True])


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([[math.log(p), math.log(1 - p)] for p in probabilities])


def batch_of(**columns) -> PPOBatch:
    # The action is always 0; ratios are p / 0.5.
    defaults = {
        "actions": torch.zeros(4, dtype=torch.int64),
        "behavior_logp": torch.full((4,), math.log(0.5)),
        "advantages": torch.tensor([1.0, 1.0, -1.0, -1.0]),
        "alive": ALL,
        "old_values": torch.tensor([0.0, 0.0, 0.0, 0.0]),
        "value_targets": torch.tensor([0.5, 0.5, 3.0, -0.5]),
    }
    return PPOBatch(**{**defaults, **columns})


def test_policy_loss_by_hand():
    # ratios 0.8, 1.4, 0.6, 1.4; min(r A, clip(r) A): 0.8, 1.2 (clipped), -0.8 (clipped), -1.4
    losses = ppo_losses(logits_of(0.4, 0.7, 0.3, 0.7), torch.zeros(4), batch_of(), SETTINGS)
    assert losses["policy_loss"].item() == pytest.approx(-(0.8 + 1.2 - 0.8 - 1.4) / 4, rel=1e-5)
    assert losses["clip_fraction"].item() == pytest.approx(3 / 4)
    kl = sum(r - 1 - math.log(r) for r in (0.8, 1.4, 0.6, 1.4)) / 4
    assert losses["approx_kl"].item() == pytest.approx(kl, rel=1e-4)
    entropy = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.4, 0.7, 0.3, 0.7)) / 4
    assert losses["entropy"].item() == pytest.approx(entropy, rel=1e-5)


def test_a_dead_agents_steps_leave_the_policy_loss_but_not_the_value_loss():
    alive = torch.tensor([True, False, True, False])
    losses = ppo_losses(logits_of(0.4, 0.7, 0.3, 0.7), torch.zeros(4), batch_of(alive=alive), SETTINGS)
    assert losses["policy_loss"].item() == pytest.approx(-(0.8 - 0.8) / 2, abs=1e-6)
    assert losses["clip_fraction"].item() == pytest.approx(1 / 2)
    everyone = ppo_losses(logits_of(0.4, 0.7, 0.3, 0.7), torch.zeros(4), batch_of(), SETTINGS)
    assert losses["value_loss"] == everyone["value_loss"]


def test_value_loss_by_hand():
    # old values 0, clip 0.2, delta 1. Unclipped errors h(v - y), clipped errors h(clip(v) - y):
    #   v 0.5, y  0.5: 0       against 0.2 - 0.5 = -0.3: 0.045   -> 0.045 (moved far enough: no gradient)
    #   v 0.1, y  0.5: 0.08    against the same          0.08    -> 0.08
    #   v 1.0, y  3.0: 2 - .5  against 0.2 - 3   = -2.8: 2.3     -> 2.3   (linear part of Huber)
    #   v 0.5, y -0.5: 0.5     against 0.2 + 0.5 =  0.7: 0.245   -> 0.5   (moved the wrong way: full gradient)
    values = torch.tensor([0.5, 0.1, 1.0, 0.5], requires_grad=True)
    losses = ppo_losses(logits_of(0.5, 0.5, 0.5, 0.5), values, batch_of(), SETTINGS)
    assert losses["value_loss"].item() == pytest.approx((0.045 + 0.08 + 2.3 + 0.5) / 4, rel=1e-5)
    losses["value_loss"].backward()
    torch.testing.assert_close(values.grad, torch.tensor([0.0, -0.4, 0.0, 1.0]) / 4)

    unclipped = SETTINGS.model_copy(update={"clip_value_loss": False})
    losses = ppo_losses(logits_of(0.5, 0.5, 0.5, 0.5), values.detach(), batch_of(), unclipped)
    assert losses["value_loss"].item() == pytest.approx((0 + 0.08 + 1.5 + 0.5) / 4, rel=1e-5)


def test_total_loss_adds_up():
    losses = ppo_losses(logits_of(0.4, 0.7, 0.3, 0.7), torch.ones(4), batch_of(), SETTINGS)
    total = losses["policy_loss"] + 0.5 * losses["value_loss"] - 0.01 * losses["entropy"]
    torch.testing.assert_close(losses["total_loss"], total)
    assert {name for name, x in losses.items() if x.ndim} == set()


def test_gradient_flows_through_unclipped_ratios_only():
    logits = logits_of(0.4, 0.7, 0.3, 0.7).requires_grad_()
    settings = SETTINGS.model_copy(update={"entropy_coef": 0.0})
    ppo_losses(logits, torch.zeros(4), batch_of(), settings)["total_loss"].backward()
    # d(-r A / 4)/d logit_0 = -A r (1 - p) / 4 where min() takes the unclipped branch.
    expected = torch.tensor([-0.8 * 0.6, 0.0, 0.0, 1.4 * 0.3]) / 4
    torch.testing.assert_close(logits.grad[:, 0], expected)


def test_masked_steps_have_exactly_zero_gradient_even_with_absurd_numbers():
    torch.manual_seed(0)
    alive = torch.tensor([True, False, True, False])
    logits = torch.randn(4, 3, requires_grad=True)
    batch = batch_of(
        alive=alive,
        behavior_logp=torch.tensor([-1.0, -1e4, -1.0, float("nan")]),
        advantages=torch.tensor([1.0, float("inf"), -1.0, float("nan")]),
    )
    losses = ppo_losses(logits, torch.zeros(4), batch, SETTINGS)
    losses["total_loss"].backward()
    assert all(x.isfinite() for x in losses.values())
    assert (logits.grad[~alive] == 0).all()
    assert (logits.grad[alive] != 0).any()


def test_a_minibatch_of_the_dead_changes_nothing_but_the_critic():
    logits = torch.randn(4, 2, requires_grad=True)
    values = torch.zeros(4, requires_grad=True)
    losses = ppo_losses(logits, values, batch_of(alive=~ALL), SETTINGS)
    losses["total_loss"].backward()
    assert losses["policy_loss"] == 0 and (logits.grad == 0).all() and (values.grad != 0).all()


def test_the_order_of_steps_does_not_matter():
    torch.manual_seed(1)
    batch = PPOBatch(
        actions=torch.randint(3, (50,)),
        behavior_logp=torch.randn(50) - 1,
        advantages=torch.randn(50),
        alive=torch.rand(50) < 0.7,
        old_values=torch.randn(50),
        value_targets=torch.randn(50),
    )
    logits, values, order = torch.randn(50, 3), torch.randn(50), torch.randperm(50)
    shuffled = PPOBatch(**{f.name: getattr(batch, f.name)[order] for f in dataclasses.fields(batch)})
    one, two = ppo_losses(logits, values, batch, SETTINGS), ppo_losses(logits[order], values[order], shuffled, SETTINGS)
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_entropy_of_masked_actions_is_finite_and_theirs_alone():
    logits = torch.tensor([[0.0, 0.0, -1e9], [0.0, -1e9, -1e9]], requires_grad=True)
    batch = PPOBatch(
        actions=torch.tensor([0, 0]),
        behavior_logp=torch.tensor([math.log(0.5), 0.0]),
        advantages=torch.zeros(2),
        alive=torch.tensor([True, True]),
        old_values=torch.zeros(2),
        value_targets=torch.zeros(2),
    )
    losses = ppo_losses(logits, torch.zeros(2), batch, SETTINGS)
    losses["total_loss"].backward()
    assert losses["entropy"].item() == pytest.approx(math.log(2) / 2)
    assert logits.grad.isfinite().all()


def test_explained_variance():
    targets = torch.tensor([1.0, 2.0, 3.0, 4.0])
    logits = logits_of(0.5, 0.5, 0.5, 0.5)

    def explained(values: torch.Tensor, targets: torch.Tensor) -> float:
        return ppo_losses(logits, values, batch_of(value_targets=targets), SETTINGS)["explained_variance"].item()

    assert explained(targets, targets) == pytest.approx(1.0)
    assert explained(targets + 5, targets) == pytest.approx(1.0)
    assert explained(torch.zeros(4), targets) == pytest.approx(0.0)
    assert explained(-targets, targets) == pytest.approx(-3.0)
    assert explained(targets, torch.ones(4)) == 0.0


def test_advantages_are_normalized_over_the_living():
    mask = torch.tensor([True, True, False, True])
    result = normalize_advantages(torch.tensor([1.0, 2.0, 1e6, 6.0]), mask)
    torch.testing.assert_close(result, torch.tensor([-2.0, -1.0, 0.0, 3.0]) / math.sqrt(14 / 3), rtol=1e-4, atol=0)
    assert (normalize_advantages(torch.randn(4), ~ALL) == 0).all()
    assert (normalize_advantages(torch.full((4,), 3.0), ALL) == 0).all()


class TestValueNormalizer:
    def test_is_the_identity_before_its_first_update(self):
        x = torch.randn(5)
        torch.testing.assert_close(ValueNormalizer().normalize(x), x, rtol=0, atol=0)

    def test_takes_over_the_first_batch_whole(self):
        normalizer = ValueNormalizer()
        normalizer.update(torch.tensor([1.0, 3.0]))
        assert normalizer.mean.item() == pytest.approx(2.0) and normalizer.std.item() == pytest.approx(1.0)

    def test_equals_the_debiased_average_of_its_definition(self):
        torch.manual_seed(0)
        beta, normalizer = 0.9, ValueNormalizer(beta=0.9)
        batches = [torch.randn(20) * (j + 1) + 3 * j for j in range(8)]
        for batch in batches:
            normalizer.update(batch)
        weights = torch.tensor([(1 - beta) * beta ** (len(batches) - 1 - j) for j in range(len(batches))])
        weights /= weights.sum()
        mean = sum(w * b.mean() for w, b in zip(weights, batches, strict=True))
        square = sum(w * b.square().mean() for w, b in zip(weights, batches, strict=True))
        torch.testing.assert_close(normalizer.mean, mean)
        torch.testing.assert_close(normalizer.std, (square - mean**2).sqrt())

    def test_converges_to_a_drifting_target(self):
        generator = torch.Generator().manual_seed(0)
        normalizer = ValueNormalizer()
        for _ in range(50):
            normalizer.update(torch.randn(500, generator=generator))
        for _ in range(1200):
            normalizer.update(torch.randn(500, generator=generator) * 4 + 100)
        assert normalizer.mean.item() == pytest.approx(100, abs=0.5)
        assert normalizer.std.item() == pytest.approx(4, rel=0.05)

    def test_round_trip(self):
        normalizer = ValueNormalizer()
        normalizer.update(torch.randn(100) * 5 - 20)
        x = torch.linspace(-50, 50, 11)
        torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(x)), x)

    def test_masked_and_empty_updates(self):
        masked, plain = ValueNormalizer(), ValueNormalizer()
        masked.update(torch.tensor([1.0, 99.0, 3.0]), torch.tensor([True, False, True]))
        plain.update(torch.tensor([1.0, 3.0]))
        plain.update(torch.empty(0))
        for one, other in zip(masked.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)

    def test_constant_returns_do_not_blow_up(self):
        normalizer = ValueNormalizer()
        normalizer.update(torch.full((10,), 5.0))
        assert normalizer.normalize(torch.tensor(5.5)).item() == pytest.approx(5.0)
