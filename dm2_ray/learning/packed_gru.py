"""A GRU over packed sequences whose backward pass costs time in proportion to the number of steps.

Shapes: S steps in packed order (see sequences.py), T time steps, Q sequences, H hidden size, I input size.

torch's own GRU differentiates every time step's slice of the packed input by allocating, filling and adding a tensor
of all S rows: T * S work, which dominates for long battles. Here the recurrence is one autograd node: what does not
depend on the state is one matrix product over all steps before the loop, and the gradient of each weight is one matrix
product after it. Forward and backward on one CPU thread, I = H = 64:

    S =  7 411, T =  39      torch  30 ms      here 20 ms
    S =  6 711, T = 146      torch  55 ms      here 22 ms
    S = 27 320, T = 149      torch 280 ms      here 95 ms

With torch's parameters W_ih, W_hh [3 H, .] (gates r, z, n in this order) and x_t, h_t of one sequence:

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * m),  m = W_hn h + b_hn        h' = n + z * (h - n)

and, for a gradient d of the loss with respect to h', with a = (1 - z)(1 - n^2),

    pre-activation gradients   r: d a m r (1 - r)      z: d (h - n) z (1 - z)      n: d a      m: d a r

where the factors of d are computed for all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence


def packed_gru(gru: nn.GRU, inputs: Tensor, batch_sizes: Tensor, state: Tensor | None = None) -> Tensor:
    """Returns the outputs of a one-layer GRU, which are also its states after every step.

    On a GPU this uses torch's own kernel, which does not have this cost.

    Args:
        gru: Holds the parameters; one layer, one direction, with biases.
        inputs: [S, I] in packed order.
        batch_sizes: [T] int64 on the CPU.
        state: [Q, H] start states in sequence order; None is zeros.

    Returns:
        [S, H] in packed order; differentiable once with respect to inputs, state and parameters.
    """
    if inputs.is_cuda:
        packed, _ = gru(PackedSequence(inputs, batch_sizes), None if state is None else state.unsqueeze(0))
        outputs: Tensor = packed.data
        return outputs
    sizes = batch_sizes.tolist()
    if state is None:
        state = inputs.new_zeros(sizes[0], gru.hidden_size)
    result: Tensor = _PackedGRU.apply(
        inputs, state, gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0, sizes
    )
    return result


class _PackedGRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        state: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        sizes: list[int],
    ) -> Tensor:
        steps, hidden = len(inputs), weight_hh.shape[1]
        from_input = torch.addmm(bias_ih, inputs, weight_ih.t()).split([2 * hidden, hidden], dim=1)
        gates = inputs.new_empty(steps, 2 * hidden)
        candidates = inputs.new_empty(steps, hidden)
        recurrent_candidates = torch.empty_like(candidates)
        previous = torch.empty_like(candidates)
        outputs = torch.empty_like(candidates)
        transposed = weight_hh.t()
        last = state
        for x_gates, x_candidate, gate, candidate, m, before, output in zip(
            from_input[0].split(sizes),
            from_input[1].split(sizes),
            gates.split(sizes),
            candidates.split(sizes),
            recurrent_candidates.split(sizes),
            previous.split(sizes),
            outputs.split(sizes),
            strict=True,
        ):
            last = last[: len(output)]
            before.copy_(last)
            from_state = torch.addmm(bias_hh, last, transposed)
            torch.add(x_gates, from_state[:, : 2 * hidden], out=gate).sigmoid_()
            m.copy_(from_state[:, 2 * hidden :])
            torch.addcmul(x_candidate, gate[:, :hidden], m, out=candidate)
            # tanh(x) = 2 sigmoid(2 x) - 1: torch's CPU sigmoid is vectorized ten times better than its tanh.
            candidate.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
            torch.lerp(candidate, last, gate[:, hidden:], out=output)
            last = output
        ctx.sizes = sizes
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, candidates, recurrent_candidates, previous)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, gates, n, m, previous = ctx.saved_tensors
        sizes, hidden = ctx.sizes, weight_hh.shape[1]
        reset, update = gates.split(hidden, dim=1)
        candidate_factor = (1.0 - update) * (1.0 - n.square())
        # Factors of d in the gradients of the three recurrent pre-activations: r, z, m.
        factors = inputs.new_empty(len(inputs), 3, hidden)
        torch.mul(candidate_factor * m, reset - reset.square(), out=factors[:, 0])
        torch.mul(previous - n, update - update.square(), out=factors[:, 1])
        torch.mul(candidate_factor, reset, out=factors[:, 2])

        total = gradients[0].clone()
        from_state = torch.empty_like(factors)
        carried = total.new_zeros(0, hidden)
        for d, z, factor, gradient in zip(
            reversed(total.split(sizes)),
            reversed(update.split(sizes)),
            reversed(factors.split(sizes)),
            reversed(from_state.split(sizes)),
            strict=True,
        ):
            d[: len(carried)].add_(carried)
            torch.mul(factor, d.unsqueeze(1), out=gradient)
            carried = torch.addmm(d * z, gradient.view(len(d), 3 * hidden), weight_hh)
        flat = from_state.view(len(inputs), 3 * hidden)
        grad_weight_hh = flat.t() @ previous
        grad_bias_hh = flat.sum(0)
        # The candidate's input enters outside the reset gate: its gradient is d a, without the factor r.
        torch.mul(total, candidate_factor, out=from_state[:, 2])
        grad_inputs = flat @ weight_ih if ctx.needs_input_grad[0] else None
        return grad_inputs, carried, flat.t() @ inputs, grad_weight_hh, flat.sum(0), grad_bias_hh, None
