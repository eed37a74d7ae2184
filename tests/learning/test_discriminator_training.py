"""An iteration of gradient steps: how many, on what, and what is told of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.gradients import LearningDiverged
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs


def rows_around(center: float, seed: int) -> VisitedRows:
    generator = torch.Generator().manual_seed(seed)
    return discriminator_inputs(torch.randn(60, 6, generator=generator) + center, np.full(6, 10), "masked", 10)


def trained(module, *, lr: float = 1e-2, expert: float = 1.0, agent: float = -1.0) -> dict[str, float]:
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    return train_discriminator(module, optimizer, rows_around(expert, 1), rows_around(agent, 2), generator, owner="me")


def test_takes_the_steps_that_are_asked_for_and_tells_of_the_last(discriminator):
    statistics = trained(discriminator(updates=25, minibatch_episodes=4))
    assert statistics["discriminator_updates"] == 25
    names = {"expert_accuracy", "agent_accuracy", "logit_gap", "entropy", "gradient_norm", "grad_norm", "total_loss"}
    assert {f"discriminator_{name}" for name in names} <= set(statistics)
    assert all(math.isfinite(value) for value in statistics.values())
    assert statistics["discriminator_logit_gap"] > 0.5


def test_no_steps_leave_the_weights_alone(discriminator):
    module = discriminator(updates=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert trained(module) == {"discriminator_updates": 0.0}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_stops_with_the_step_whose_minibatch_is_told_apart_well_enough(discriminator):
    settings = {"updates": 200, "minibatch_episodes": 4, "gradient_penalty": 0.0}
    statistics = trained(discriminator(stop_at_accuracy=0.9, **settings))
    steps = int(statistics["discriminator_updates"])
    assert 1 < steps < 200
    assert min(statistics["discriminator_expert_accuracy"], statistics["discriminator_agent_accuracy"]) >= 0.9
    # One step fewer was not enough on one of the sides.
    fewer = trained(discriminator(**{**settings, "updates": steps - 1}))
    assert min(fewer["discriminator_expert_accuracy"], fewer["discriminator_agent_accuracy"]) < 0.9
    # And up to there it is the same training.
    same = trained(discriminator(**{**settings, "updates": steps}))
    assert same == statistics


def test_who_cannot_be_told_apart_is_not_stopped(discriminator):
    module = discriminator(updates=30, minibatch_episodes=6, stop_at_accuracy=0.9)
    assert trained(module, expert=0.0, agent=0.0)["discriminator_updates"] == 30


def test_smoothed_labels_bound_the_logit(discriminator):
    largest = {}
    for smoothing in (0.0, 0.2):
        module = discriminator(updates=300, minibatch_episodes=6, gradient_penalty=0.0, label_smoothing=smoothing)
        trained(module, expert=3.0, agent=-3.0)
        rows = torch.cat([rows_around(3.0, 1).rows, rows_around(-3.0, 2).rows])
        largest[smoothing] = module.forward_inference({Columns.OBS: rows})["logits"].abs().mean().item()
    assert largest[0.2] == pytest.approx(math.log(0.8 / 0.2), abs=0.1)
    assert largest[0.0] > 3


def test_a_gradient_that_is_not_finite_is_named(discriminator):
    module = discriminator(updates=3)
    with torch.no_grad():
        module.head.weight.fill_(float("nan"))
    with pytest.raises(LearningDiverged, match="^me: the gradient is not finite") as raised:
        trained(module)
    assert "\n" not in str(raised.value)
