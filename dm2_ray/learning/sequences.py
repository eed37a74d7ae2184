"""Order of steps in which a recurrent network reads many sequences of different lengths without padding.

Shapes: E episodes, S steps of all episodes laid end to end, Q sequences (episodes, or chunks of them), T time steps
of the longest sequence, R rows of a group of sequences.

Two orders of the same S rows are used:
  flat    episode after episode, as in a trajectory;
  packed  time step after time step: first the first step of every sequence, longest sequence first, then the second
          step of every sequence that has one, ...   This is the data layout of torch's `PackedSequence`, and
          `batch_sizes[t]` is the number of sequences with more than t steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceGroup:
    """One minibatch: whole sequences of a layout, in packed order.

    Attributes:
        rows: [R] positions of the group's rows in the parent layout, listed in the packed order of the group.
        sequences: [q] indices of the sequences in the sequence order of the parent layout (selects their start states).
        batch_sizes: [T'] int64 on the CPU.
    """

    rows: Tensor
    sequences: Tensor
    batch_sizes: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedLayout:
    """The permutation between flat and packed order, and where each sequence begins.

    Sequences are ordered by length, longest first, ties in flat order. Start states are given in this order.

    Attributes:
        order: [S] flat row of each packed position.
        inverse: [S] packed position of each flat row.
        batch_sizes: [T] int64 on the CPU, as `PackedSequence` wants it.
        chunk_starts: [Q] flat row of each sequence's first step, in sequence order.
        is_episode_start: [Q] bool: whether that step is a battle's first; otherwise the sequence continues the flat
            row before it.
        lengths: [Q] int64 on the CPU: steps of each sequence, in sequence order (non-increasing).
    """

    order: Tensor
    inverse: Tensor
    batch_sizes: Tensor
    chunk_starts: Tensor
    is_episode_start: Tensor
    lengths: Tensor

    @classmethod
    def from_lengths(
        cls,
        episode_lengths: npt.NDArray[np.int64] | Tensor,
        bptt_steps: int = 0,
        device: torch.device | str | None = None,
    ) -> PackedLayout:
        """Layout of whole episodes, or, when `bptt_steps` > 0, of their chunks of at most that many steps.

        Raises:
            ValueError: A length is not positive, there are no lengths, or `bptt_steps` is negative.
        """
        episodes = np.asarray(episode_lengths, dtype=np.int64)
        if episodes.ndim != 1 or len(episodes) == 0 or episodes.min() < 1:
            raise ValueError(f"episode lengths must be a non-empty list of positive numbers, found {episodes}")
        if bptt_steps < 0:
            raise ValueError(f"bptt_steps must not be negative, found {bptt_steps}")
        episode_starts = np.cumsum(episodes) - episodes
        chunk = bptt_steps or int(episodes.max())
        chunks_per_episode = -(-episodes // chunk)
        chunk_number = _ranges(chunks_per_episode)
        offsets = chunk_number * chunk
        starts = np.repeat(episode_starts, chunks_per_episode) + offsets
        lengths = np.minimum(chunk, np.repeat(episodes, chunks_per_episode) - offsets)

        by_length = np.argsort(-lengths, kind="stable")
        starts, lengths, is_start = starts[by_length], lengths[by_length], chunk_number[by_length] == 0
        times = np.arange(lengths[0])
        # Lengths are non-increasing, so "how many are longer than t" is a search in the reversed list.
        batch_sizes = len(lengths) - np.searchsorted(lengths[::-1], times, side="right")
        order = starts[_ranges(batch_sizes)] + np.repeat(times, batch_sizes)
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return cls(
            order=torch.from_numpy(order).to(device),
            inverse=torch.from_numpy(inverse).to(device),
            batch_sizes=torch.from_numpy(batch_sizes),
            chunk_starts=torch.from_numpy(starts).to(device),
            is_episode_start=torch.from_numpy(is_start).to(device),
            lengths=torch.from_numpy(lengths),
        )

    def chunks(self, bptt_steps: int) -> PackedLayout:
        """The same whole episodes cut into chunks of at most `bptt_steps` > 0 steps, on the same device."""
        in_flat_order = torch.argsort(self.chunk_starts).cpu()
        return PackedLayout.from_lengths(self.lengths[in_flat_order], bptt_steps, device=self.order.device)

    @property
    def num_sequences(self) -> int:
        return len(self.lengths)

    def pack(self, flat: Tensor) -> Tensor:
        """[S, ...] flat order -> [S, ...] packed order."""
        return flat.index_select(0, self.order)

    def unpack(self, packed: Tensor) -> Tensor:
        """[S, ...] packed order -> [S, ...] flat order."""
        return packed.index_select(0, self.inverse)

    def start_states(self, flat_features: Tensor) -> Tensor:
        """State in which each sequence begins: [S, H] recurrent outputs in flat order -> [Q, H].

        Zero at a battle's first step, otherwise the output of the previous flat row; no gradient flows into it.
        """
        previous = (self.chunk_starts - 1).clamp(min=0)
        states = flat_features.detach().index_select(0, previous)
        return states.masked_fill(self.is_episode_start.unsqueeze(-1), 0.0)

    def split(self, num_groups: int, generator: torch.Generator) -> list[SequenceGroup]:
        """Splits whole sequences at random into disjoint groups of nearly equal numbers of sequences and of steps.

        Each group gets one of every `num_groups` neighbors in the order by length.

        Args:
            num_groups: Number of groups.
            generator: Draws the groups; a CPU generator.

        Raises:
            ValueError: There are fewer sequences than groups.
        """
        if not 1 <= num_groups <= self.num_sequences:
            raise ValueError(f"cannot split {self.num_sequences} sequences into {num_groups} groups")
        rounds = -(-self.num_sequences // num_groups)
        deal = torch.rand(rounds, num_groups, generator=generator).argsort(dim=1)
        # The last round may be incomplete: it goes to the groups that come first in its permutation.
        group_of_sequence = deal.flatten()[: self.num_sequences].numpy()
        batch_sizes = self.batch_sizes.numpy()
        group_of_row = group_of_sequence[_ranges(batch_sizes)]
        time_of_row = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
        groups = []
        for group in range(num_groups):
            rows = np.flatnonzero(group_of_row == group)
            groups.append(
                SequenceGroup(
                    rows=torch.from_numpy(rows).to(self.order.device),
                    sequences=torch.from_numpy(np.flatnonzero(group_of_sequence == group)).to(self.order.device),
                    batch_sizes=torch.from_numpy(np.bincount(time_of_row[rows])),
                )
            )
        return groups


def _ranges(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The ranges 0 ... counts[0]-1, 0 ... counts[1]-1, ... laid end to end."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
