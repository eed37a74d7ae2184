"""One iteration of a discriminator's training, step by step.

repeat `updates` times:   rows of expert and agent ──► losses ──► gradient ──► Adam
                          (both accuracies reached `stop_at_accuracy`: that was the last step)
"""

from __future__ import annotations

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from dm2_ray.learning.discriminator import Discriminator, discriminator_batch, discriminator_losses
from dm2_ray.learning.discriminator_gradients import set_gradients
from dm2_ray.learning.gradients import clip_grad_norm_checked
from dm2_ray.learning.unique_rows import UniqueRows
from dm2_ray.learning.visitation import VisitedRows, minibatch_rows


def train_discriminator(
    module: Discriminator,
    optimizer: torch.optim.Optimizer,
    expert: VisitedRows,
    agent: VisitedRows,
    generator: torch.Generator,
    *,
    owner: str,
) -> dict[str, float]:
    """Takes the gradient steps that `module.settings` asks for.

    Args:
        module: Trained in place.
        optimizer: Over all of the module's parameters.
        expert: The side with label 1.
        agent: The side with label 0.
        generator: Draws all minibatches; a CPU generator.
        owner: Whose discriminator this is, for the error.

    Returns:
        Names as logged. Of the last step's minibatch, before that step: `discriminator_` and a name of
        `discriminator_losses`, and `discriminator_grad_norm`, the norm of the gradient with respect to the weights.
        `discriminator_updates`: steps taken.

    Raises:
        LearningDiverged: A gradient is not finite.
    """
    settings = module.settings
    if settings.updates == 0:
        return {"discriminator_updates": 0.0}
    rows = minibatch_rows(expert, settings.minibatch_episodes)
    sides = UniqueRows(expert, generator), UniqueRows(agent, generator)
    updates, is_good_enough = 0, False
    while updates < settings.updates and not is_good_enough:
        batch = discriminator_batch(*sides, rows, settings, generator)
        logits, norms = _gradient_step(module, optimizer, batch)
        updates += 1
        if settings.stop_at_accuracy is not None:
            is_good_enough = _lower_accuracy(logits, batch) >= settings.stop_at_accuracy
    # After a gradient that is not finite, all later ones are not finite either: checking the last one is enough.
    losses = discriminator_losses(logits, batch["is_expert"], norms, settings, batch["weights"])
    losses["grad_norm"] = clip_grad_norm_checked(module.parameters(), losses["total_loss"], owner=owner)
    values = {f"discriminator_{name}": float(value) for name, value in losses.items()}
    return {**values, "discriminator_updates": float(updates)}


def _gradient_step(
    module: Discriminator, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """One step; returns logits [R] and gradient norms [K] before it. The gradient stays in `.grad`."""
    if module.settings.spectral_norm:
        output = module.forward_train(batch)
        logits, norms = output["logits"], output["gradient_norms"]
        losses = discriminator_losses(logits, batch["is_expert"], norms, module.settings, batch["weights"])
        optimizer.zero_grad(set_to_none=True)
        losses["total_loss"].backward()
        logits, norms = logits.detach(), norms.detach()
    else:
        logits, norms = set_gradients(
            module, batch[Columns.OBS], batch["is_expert"], batch["weights"], batch["interpolates"]
        )
    optimizer.step()
    return logits, norms


def _lower_accuracy(logits: Tensor, batch: dict[str, Tensor]) -> float:
    """Of the two sides' accuracies in a minibatch, the lower one."""
    is_right = ((logits > 0) == batch["is_expert"]).to(logits.dtype) * batch["weights"]
    expert = is_right[batch["is_expert"]].sum()
    return float(torch.minimum(expert, is_right.sum() - expert))
