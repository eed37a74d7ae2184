"""The packed GRU is torch's GRU: outputs, gradients, start states, all lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence

from dm2_ray.learning.packed_gru import packed_gru
from dm2_ray.learning.sequences import PackedLayout

INPUTS, HIDDEN = 3, 4


def problem(lengths: list[int], seed: int):
    torch.manual_seed(seed)
    gru = torch.nn.GRU(INPUTS, HIDDEN).double()
    layout = PackedLayout.from_lengths(np.array(lengths))
    inputs = torch.randn(sum(lengths), INPUTS, dtype=torch.float64, requires_grad=True)
    state = torch.randn(len(lengths), HIDDEN, dtype=torch.float64, requires_grad=True)
    return gru, inputs, layout.batch_sizes, state


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=6), seed=st.integers(0, 99), with_state=st.booleans())
def test_outputs_and_all_gradients_equal_torchs(lengths, seed, with_state):
    gru, inputs, batch_sizes, state = problem(lengths, seed)
    ours = packed_gru(gru, inputs, batch_sizes, state if with_state else None)
    reference = gru(PackedSequence(inputs, batch_sizes), state.unsqueeze(0) if with_state else None)[0].data
    torch.testing.assert_close(ours, reference)
    weights = torch.randn_like(reference)
    leaves = [inputs, *gru.parameters(), *([state] if with_state else [])]
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), leaves),
        torch.autograd.grad((reference * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradients_equal_finite_differences():
    gru, inputs, batch_sizes, state = problem([3, 1, 2], seed=0)
    assert torch.autograd.gradcheck(lambda x, h: packed_gru(gru, x, batch_sizes, h), (inputs, state))


def test_inputs_and_weights_are_left_alone_and_backward_can_be_repeated():
    gru, inputs, batch_sizes, state = problem([3, 2], seed=1)
    before = [x.detach().clone() for x in (inputs, state, *gru.parameters())]
    output = packed_gru(gru, inputs, batch_sizes, state)
    first = torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)[0]
    second = torch.autograd.grad(output.square().sum(), inputs)[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    for one, other in zip(before, (inputs, state, *gru.parameters()), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_works_without_gradients(frozen):
    gru, inputs, batch_sizes, state = problem([2, 2], seed=2)
    with torch.set_grad_enabled(not frozen):
        assert packed_gru(gru, inputs, batch_sizes, state).requires_grad == (not frozen)
