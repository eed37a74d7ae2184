"""The gradient of the discriminator's loss, written out.

An iteration takes a hundred gradient steps on thousands of short rows through a small network. There the bookkeeping
of automatic differentiation costs nearly as much as the products themselves, so the gradient of this one loss is
written out; a test compares it with automatic differentiation of `discriminator_losses`. One gradient on one CPU
thread, K = 128, H = 64, n = 2, best of seven rounds:

    R =   500, F = 31      autograd 0.85 ms      here 0.53 ms
    R = 3 000, F = 31      autograd 2.9 ms       here 1.8 ms
    R = 3 000, F = 99      autograd 3.8 ms       here 2.4 ms

Shapes: R rows, K interpolates, F features, H hidden size, n hidden layers.

    h_0 = x,   h_j = tanh(W_j h_(j-1) + b_j),   l = w h_n + c

Cross-entropy: with weights v (sum 1 on each side), labels y in {1 - e, e} and p = sigmoid(l), the gradient at the logit
is v (p - y), and goes back through the layers with s_j = 1 - h_j^2 = tanh'.

Gradient penalty: g_n = w, g_(j-1) = W_j' (s_j g_j) gives dl/dx = g_0; of lambda mean (||g_0|| - 1)^2 the gradient at
g_0 is (2 lambda / K) (1 - 1 / ||g_0||) g_0. It goes back through this recursion from j = 1 to n, leaves at every s_j a
gradient of h_j (ds_j/dh_j = -2 h_j), and these go back through the layers like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dm2_ray.learning.discriminator import Discriminator


@dataclass(frozen=True, slots=True)
class _Layers:
    """Parameters of a discriminator and, under the same names, where their gradients go."""

    weights: list[Tensor]
    biases: list[Tensor]
    head: Tensor
    offset: Tensor

    @classmethod
    def of(cls, module: Discriminator) -> tuple[_Layers, _Layers]:
        linears = [cast(nn.Linear, layer) for layer in module.hidden]
        parameters = cls([x.weight for x in linears], [x.bias for x in linears], module.head.weight, module.head.bias)
        for parameter in module.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()
        gradients = cls(
            [_gradient(weight) for weight in parameters.weights],
            [_gradient(bias) for bias in parameters.biases],
            _gradient(parameters.head),
            _gradient(parameters.offset),
        )
        return parameters, gradients

    def activations(self, x: Tensor) -> list[Tensor]:
        """h_0 ... h_n."""
        found = [x]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            # tanh(x) = 2 sigmoid(2 x) - 1, as in Discriminator.
            z = torch.addmm(bias, found[-1], weight.t())
            found.append(z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0))
        return found


@torch.no_grad()
def set_gradients(
    module: Discriminator,
    rows: Tensor,
    is_expert: Tensor,
    weights: Tensor,
    interpolates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sets `.grad` of every parameter to the gradient of `discriminator_losses(...)["total_loss"]`.

    Args:
        module: Without spectral normalization, whose weights are no parameters; ValueError otherwise.
        rows: [R, F].
        is_expert: [R] bool.
        weights: [R], sum 1 over the expert's rows and over the agent's.
        interpolates: [K, F].

    Returns:
        Logits [R] and the logit's gradient norms [K], without gradient.
    """
    settings = module.settings
    if settings.spectral_norm:
        raise ValueError("spectrally normalized weights need automatic differentiation")
    layers, gradients = _Layers.of(module)

    hidden = layers.activations(rows)
    logits = torch.addmm(layers.offset, hidden[-1], layers.head.t()).squeeze(1)
    # Labels 1 - e and e.
    labels = is_expert.to(logits.dtype) * (1.0 - 2.0 * settings.label_smoothing) + settings.label_smoothing
    at_logits = weights * (torch.sigmoid(logits) - labels)
    gradients.head.addmm_(at_logits.unsqueeze(0), hidden[-1])
    gradients.offset.add_(at_logits.sum())
    at_hidden = torch.outer(at_logits, layers.head[0])
    for j in range(len(layers.weights) - 1, -1, -1):
        at_linear = torch.addcmul(at_hidden, at_hidden * hidden[j + 1], hidden[j + 1], value=-1.0)
        gradients.weights[j].addmm_(at_linear.t(), hidden[j])
        gradients.biases[j].add_(at_linear.sum(0))
        if j > 0:
            at_hidden = at_linear @ layers.weights[j]

    return logits, _add_penalty(layers, gradients, interpolates, settings.gradient_penalty)


def _add_penalty(layers: _Layers, gradients: _Layers, interpolates: Tensor, coefficient: float) -> Tensor:
    """Adds the gradient of the penalty; returns ||g_0|| [K]."""
    hidden = layers.activations(interpolates)
    count, depth = len(interpolates), len(layers.weights)
    slopes = [1.0 - h.square() for h in hidden[1:]]  # s_1 ... s_n
    inward = [layers.head.expand(count, -1)]  # g_n ... g_0
    for weight, slope in zip(reversed(layers.weights), reversed(slopes), strict=True):
        inward.append((inward[-1] * slope) @ weight)
    norms = torch.linalg.vector_norm(inward[-1], dim=-1)
    factors = (2.0 * coefficient / count) * (1.0 - 1.0 / norms.clamp(min=torch.finfo(norms.dtype).tiny))
    at_inward = inward[-1] * factors.unsqueeze(1)

    at_hidden_by_slope = []
    for j in range(depth):
        outer = inward[depth - 1 - j]  # g_(j+1)
        at_product = at_inward @ layers.weights[j].t()
        gradients.weights[j].addmm_((outer * slopes[j]).t(), at_inward)
        at_hidden_by_slope.append(-2.0 * hidden[j + 1] * (at_product * outer))
        at_inward = at_product * slopes[j]
    gradients.head.add_(at_inward.sum(0, keepdim=True))

    at_hidden = at_hidden_by_slope[-1]
    for j in range(depth - 1, -1, -1):
        at_linear = at_hidden * slopes[j]
        gradients.weights[j].addmm_(at_linear.t(), hidden[j])
        gradients.biases[j].add_(at_linear.sum(0))
        if j > 0:
            at_hidden = at_linear @ layers.weights[j] + at_hidden_by_slope[j - 1]
    return norms


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
