"""Can an agent's visitation be told from its expert's? A classifier two-sample test.

A classifier is fitted to some battles of both sides and tested on others (Lopez-Paz and Oquab 2017, arXiv
1610.06545). It is a separate network that shares nothing with the discriminator, so it measures how similar the agent
is to its expert and not how well the discriminator is trained.

Shapes: R rows, F features of a row, G equal blocks of features, H hidden size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dm2_ray.learning.held_out_test import Classifier, EpisodeFeatures, Fold, Split, score, split_episodes
from dm2_ray.learning.visitation import VisitedRows

HIDDEN_SIZE = 64
STEPS = 200
_ROWS_PER_SIDE = 128
"""Rows of each side in a minibatch."""
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-2
_VALIDATION_CHECKS = 10
"""How often the network is scored on the validation episodes."""
_SCALES = (1.0, 0.75, 0.5, 0.25)
_LARGEST_LOGIT = 5.0
"""Logits are clipped here: one unusual battle must not outweigh the rest. Costs at most 0.007 nats."""


def visitation_divergence(own: VisitedRows, expert: VisitedRows, generator: torch.Generator) -> dict[str, float]:
    """How different an agent's visitation is from its expert's, measured on episodes the classifier has not seen.

    Returns:
        `divergence_accuracy`: balanced accuracy; 0.5 means that the two cannot be told apart, 1 that they always can.
        `divergence_js`: a lower bound, in expectation, of their Jensen-Shannon divergence in nats, cut off at 0; log 2
        = 0.69 at most. Padding counts as often as it occurs in the visitation.
        Empty when a side has fewer than four different episodes.
    """
    split = split_episodes(own, expert, generator)
    if split is None:
        return {}
    scores = score(fit_classifier(split, generator), split.held_out)
    return {"divergence_accuracy": scores.accuracy, "divergence_js": max(0.0, scores.js)}


def fit_classifier(
    split: Split, generator: torch.Generator, *, blocks: int = 1, base: Classifier | None = None, steps: int = STEPS
) -> Classifier:
    """Fits a network to the training episodes; the validation episodes choose when to stop and the scale s.

    The logit is base(x) + s * sum over blocks g of f_g(x_g), where f_g is a linear function plus one hidden layer of
    ReLU units and x_g the g-th of `blocks` equal parts of the features. f starts as 0, s lies between 0 and 1: where
    nothing can be learned, `base` is the result. Otherwise the logit is limited to +-5.

    Args:
        split: The folds; the held-out fold is not used.
        generator: Draws initial weights and minibatches; a CPU generator.
        blocks: G; with more than 1 the network cannot use combinations of features of different blocks.
        base: Logits to start from; None is 0.
        steps: Number of gradient steps, at least 10.
    """
    sides = (split.training.own, split.training.expert)
    scaling = _Scaling(sides)
    parameters = _initial_parameters(sides[0].rows.shape[1], blocks, generator)
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    rows = torch.cat([scaling(side.rows) for side in sides])
    offsets = torch.cat([_base_logits(base, side.rows) for side in sides])
    own, expert = (
        torch.multinomial(side.weights, steps * _ROWS_PER_SIDE, replacement=True, generator=generator) for side in sides
    )
    minibatches = torch.cat([own.view(steps, -1), expert.view(steps, -1) + len(sides[0].rows)], dim=1)
    is_expert = torch.zeros(2 * _ROWS_PER_SIDE)
    is_expert[_ROWS_PER_SIDE:] = 1.0
    stopping = _EarlyStopping(split.validation, scaling, base)
    for step, places in enumerate(minibatches):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1.0 - step / steps)
        optimizer.zero_grad()
        logits = offsets[places] + _logits(rows[places], parameters)
        functional.binary_cross_entropy_with_logits(logits, is_expert).backward()
        optimizer.step()
        if (step + 1) % (steps // _VALIDATION_CHECKS) == 0:
            stopping.update(parameters)
    return stopping.classifier


class _Scaling:
    """Scales features to mean 0 and variance 1 over both sides; a constant feature becomes 0."""

    def __init__(self, sides: tuple[EpisodeFeatures, EpisodeFeatures]) -> None:
        own, expert = sides
        share = torch.cat([own.weights / own.weights.sum(), expert.weights / expert.weights.sum()]) / 2
        rows = torch.cat([own.rows, expert.rows])
        self._mean = share @ rows
        deviation = (share @ (rows - self._mean).square()).sqrt()
        self._factor = torch.where(deviation > 1e-6, 1.0 / deviation.clamp(min=1e-6), 0.0)

    def __call__(self, rows: Tensor) -> Tensor:
        # A feature that rarely varies in the training rows may have extreme values in others.
        return ((rows - self._mean) * self._factor).clamp_(-10.0, 10.0)


def _initial_parameters(features: int, blocks: int, generator: torch.Generator) -> list[Tensor]:
    """Parameters of `_logits` for which all logits are 0."""
    width = features // blocks
    bound = 1.0 / math.sqrt(width)
    hidden = torch.empty(blocks, width, HIDDEN_SIZE).uniform_(-bound, bound, generator=generator)
    hidden_bias = torch.empty(blocks, 1, HIDDEN_SIZE).uniform_(-bound, bound, generator=generator)
    head, linear, bias = torch.zeros(blocks, HIDDEN_SIZE, 1), torch.zeros(features), torch.zeros(1)
    return [values.requires_grad_() for values in (hidden, hidden_bias, head, linear, bias)]


def _logits(rows: Tensor, parameters: list[Tensor]) -> Tensor:
    """Logits [R] of rows [R, F], without `base`."""
    hidden, hidden_bias, head, linear, bias = parameters
    by_block = rows.view(len(rows), hidden.shape[0], hidden.shape[1]).transpose(0, 1)
    activations = torch.relu(torch.baddbmm(hidden_bias, by_block, hidden))
    return torch.bmm(activations, head).sum(0).squeeze(-1) + rows @ linear + bias


def _clipped_logits(logits: Tensor) -> Tensor:
    return logits.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)


def _base_logits(base: Classifier | None, rows: Tensor) -> Tensor:
    return torch.zeros(len(rows)) if base is None else base(rows)


class _EarlyStopping:
    """Keeps the network and scale with the lowest cross-entropy on the validation episodes; at first no network."""

    def __init__(self, validation: Fold, scaling: _Scaling, base: Classifier | None) -> None:
        self._scaling, self._base = scaling, base
        self._sides = (validation.own, validation.expert)
        self._rows = [scaling(side.rows) for side in self._sides]
        self._offsets = [_base_logits(base, side.rows) for side in self._sides]
        self._parameters: list[Tensor] | None = None
        self._scale = 0.0
        self._lowest = self._mean_cross_entropy(self._offsets)

    @torch.no_grad()
    def update(self, parameters: list[Tensor]) -> None:
        logits = [_logits(rows, parameters) for rows in self._rows]
        for scale in _SCALES:
            scaled = [_clipped_logits(o + scale * side) for o, side in zip(self._offsets, logits, strict=True)]
            cross_entropy = self._mean_cross_entropy(scaled)
            if cross_entropy < self._lowest:
                self._lowest, self._scale = cross_entropy, scale
                self._parameters = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def classifier(self, rows: Tensor) -> Tensor:
        """Logits [R] of unscaled rows [R, F]."""
        logits = _base_logits(self._base, rows)
        if self._parameters is None:
            return logits
        return _clipped_logits(logits + self._scale * _logits(self._scaling(rows), self._parameters))

    def _mean_cross_entropy(self, logits: list[Tensor]) -> float:
        cross_entropies = [
            side.weights @ functional.softplus(sign * values) / side.weights.sum()
            for side, values, sign in zip(self._sides, logits, (1.0, -1.0), strict=True)
        ]
        return float(sum(cross_entropies)) / 2
