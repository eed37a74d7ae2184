"""Packing is a permutation that torch's own PackedSequence agrees with, whatever the lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence

from dm2_ray.learning.sequences import PackedLayout

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=15)


def sequences_of(flat: torch.Tensor, lengths: list[int], bptt_steps: int) -> list[torch.Tensor]:
    """Independent reference: cut the flat tensor into episodes, and those into chunks."""
    episodes = torch.split(flat, lengths)
    if bptt_steps == 0:
        return list(episodes)
    return [chunk for episode in episodes for chunk in torch.split(episode, bptt_steps)]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, bptt_steps=st.integers(0, 5))
def test_layout_equals_torchs_packing_of_the_sorted_sequences(lengths, bptt_steps):
    flat = torch.arange(sum(lengths))
    layout = PackedLayout.from_lengths(np.array(lengths), bptt_steps)
    reference = pack_sequence(sorted(sequences_of(flat, lengths, bptt_steps), key=len, reverse=True))
    assert layout.batch_sizes.tolist() == reference.batch_sizes.tolist()
    torch.testing.assert_close(layout.pack(flat), reference.data)
    torch.testing.assert_close(layout.unpack(layout.pack(flat)), flat)
    torch.testing.assert_close(layout.pack(layout.unpack(flat)), flat)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, bptt_steps=st.integers(0, 5))
def test_start_states_are_zero_at_battle_starts_and_the_output_before_elsewhere(lengths, bptt_steps):
    layout = PackedLayout.from_lengths(np.array(lengths), bptt_steps)
    features = torch.arange(1.0, sum(lengths) + 1).unsqueeze(-1).requires_grad_()
    states = layout.start_states(features)
    battle_starts = set((np.cumsum(lengths) - lengths).tolist())
    for start, is_start, state in zip(
        layout.chunk_starts.tolist(), layout.is_episode_start.tolist(), states.squeeze(-1).tolist(), strict=True
    ):
        assert is_start == (start in battle_starts)
        assert state == (0.0 if is_start else start)
    assert not states.requires_grad


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, bptt_steps=st.integers(0, 5), seed=st.integers(0, 99), data=st.data())
def test_groups_are_disjoint_complete_balanced_layouts_of_whole_sequences(lengths, bptt_steps, seed, data):
    layout = PackedLayout.from_lengths(np.array(lengths), bptt_steps)
    count = data.draw(st.integers(1, layout.num_sequences))
    groups = layout.split(count, torch.Generator().manual_seed(seed))
    assert len(groups) == count
    assert sorted(torch.cat([g.rows for g in groups]).tolist()) == list(range(sum(lengths)))
    sizes = [len(g.sequences) for g in groups]
    assert max(sizes) - min(sizes) <= 1
    # Neighbors in length are dealt out, so the numbers of steps differ by at most the longest sequence.
    steps = [len(g.rows) for g in groups]
    assert max(steps) - min(steps) <= int(layout.lengths.max())

    sequences = sorted(sequences_of(torch.arange(sum(lengths)), lengths, bptt_steps), key=len, reverse=True)
    for group in groups:
        reference = pack_sequence([sequences[i] for i in group.sequences.tolist()])
        assert group.batch_sizes.tolist() == reference.batch_sizes.tolist()
        torch.testing.assert_close(layout.order[group.rows], reference.data)


def test_groups_depend_on_the_generator_alone():
    layout = PackedLayout.from_lengths(np.full(40, 3))

    def deal(seed: int) -> list[list[int]]:
        return [g.sequences.tolist() for g in layout.split(4, torch.Generator().manual_seed(seed))]

    assert deal(1) == deal(1) != deal(2)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="positive"):
        PackedLayout.from_lengths(np.array([3, 0]))
    with pytest.raises(ValueError, match="positive"):
        PackedLayout.from_lengths(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="bptt_steps"):
        PackedLayout.from_lengths(np.array([3]), -1)
    with pytest.raises(ValueError, match="2 sequences into 3"):
        PackedLayout.from_lengths(np.array([3, 2])).split(3, torch.Generator())
