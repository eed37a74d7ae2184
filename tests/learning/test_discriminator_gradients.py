"""The written-out gradient against automatic differentiation of the very loss it is the gradient of."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import DiscriminatorSettings
from dm2_ray.learning.discriminator import Discriminator, discriminator_losses
from dm2_ray.learning.discriminator_gradients import set_gradients

FEATURES = 7


def build(**changed: object) -> Discriminator:
    module = RLModuleSpec(
        Discriminator,
        gymnasium.spaces.Box(-1, 1, (FEATURES,), np.float32),
        gymnasium.spaces.Discrete(3),
        learner_only=True,
        model_config={
            "discriminator": DiscriminatorSettings(hidden_size=9, **changed).model_dump(),  # type: ignore[arg-type]
            "padding": "masked",
            "seed": 5,
        },
    ).build()
    assert isinstance(module, Discriminator)
    return module.double()


def automatic(module: Discriminator, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    module.zero_grad()
    output = module.forward_train(batch)
    losses = discriminator_losses(
        output["logits"], batch["is_expert"], output["gradient_norms"], module.settings, batch["weights"]
    )
    losses["total_loss"].backward()
    return [parameter.grad.clone() for parameter in module.parameters()]  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    layers=st.integers(1, 3),
    experts=st.integers(1, 6),
    agents=st.integers(1, 6),
    interpolates=st.integers(1, 5),
    smoothing=st.sampled_from([0.0, 0.1, 0.4]),
    penalty=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_equals_automatic_differentiation(
    seed: int, layers: int, experts: int, agents: int, interpolates: int, smoothing: float, penalty: float
) -> None:
    module = build(hidden_layers=layers, label_smoothing=smoothing, gradient_penalty=penalty)
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = [torch.rand(count, generator=generator, dtype=torch.float64) + 0.1 for count in (experts, agents)]
    batch = {
        "obs": draw(experts + agents, FEATURES),
        "is_expert": torch.arange(experts + agents) < experts,
        "weights": torch.cat([side / side.sum() for side in weights]),
        "interpolates": draw(interpolates, FEATURES),
    }
    expected = automatic(module, batch)
    output = module.forward_train(batch)

    logits, norms = set_gradients(module, batch["obs"], batch["is_expert"], batch["weights"], batch["interpolates"])

    torch.testing.assert_close(logits, output["logits"].detach())
    torch.testing.assert_close(norms, output["gradient_norms"].detach())
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def test_spectrally_normalized_weights_are_refused() -> None:
    module = build(spectral_norm=True)
    rows = torch.zeros(2, FEATURES, dtype=torch.float64)
    with pytest.raises(ValueError, match="automatic differentiation"):
        set_gradients(module, rows, torch.tensor([True, False]), torch.ones(2).double(), rows)
