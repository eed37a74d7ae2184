"""A visitation as its distinct rows and how often each occurs, and minibatches of it.

Many rows of a visitation are equal: all padding rows, a dead agent's observations, the first steps of battles that
begin alike. A loss that is a mean over rows needs each of them once, with a weight.

Shapes: R rows of the visitation, U distinct rows, F features of a row, m rows that a minibatch stands for.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dm2_ray.learning.visitation import VisitedRows


class UniqueRows:
    """The distinct rows of one side, the agent's or the expert's, ordered by falling count.

    A minibatch stands for m of the R rows, a share q = m / R. A row that occurs at least 1/q times is in every
    minibatch, with its count. The other rows alternate: each pass over the data shuffles them and gives each minibatch
    its share, so that each is seen once per pass, also with its count. Weights are normalized to sum 1. This is the
    mean over m rows drawn without replacement, with less variance and fewer rows to compute.
    """

    def __init__(self, visited: VisitedRows, generator: torch.Generator) -> None:
        """`generator` draws all minibatches; it must be a CPU generator."""
        rows = visited.rows.cpu().numpy()
        counts = np.ones(len(rows), np.int64)
        if visited.has_padding_row:
            counts[-1] = visited.num_rows - visited.num_real
        occurring = counts > 0
        rows, counts = np.ascontiguousarray(rows[occurring]), counts[occurring]
        # Rows compared as bytes: equal bytes are equal rows; rows that differ only in the sign of a zero count as two.
        as_bytes = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
        _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
        totals = np.bincount(group, weights=counts).astype(np.int64)
        order = np.lexsort((first, -totals))
        device = visited.rows.device
        self.rows = torch.from_numpy(rows[first[order]]).to(device)
        """[U, F]."""
        self.counts = torch.from_numpy(totals[order]).to(device, torch.float32)
        """[U] how often each occurs; their sum is R."""
        self.num_rows = visited.num_rows
        """R."""
        self._generator = generator
        self._up_to = self.counts.cumsum(0, dtype=torch.float64)
        self._unused = torch.empty(0, dtype=torch.int64)

    def minibatch(self, size: int) -> tuple[Tensor, Tensor]:
        """Rows [., F] of a minibatch that stands for `size` rows, and their weights, with sum 1; all rows if there are
        no more than that."""
        share = size / self.num_rows
        if share >= 1.0:
            return self.rows, self.counts / self.counts.sum()
        always = int((self.counts * share >= 1.0).sum())
        turns = max(0 if always else 1, round(share * (len(self.rows) - always)))
        if len(self._unused) < turns:
            self._unused = always + torch.randperm(len(self.rows) - always, generator=self._generator)
        chosen, self._unused = self._unused[:turns], self._unused[turns:]
        places = torch.cat([torch.arange(always), chosen]).to(self.rows.device)
        weights = self.counts.index_select(0, places)
        weights[:always] *= share
        return self.rows.index_select(0, places), weights / weights.sum()

    def draw(self, size: int) -> Tensor:
        """[size, F] rows drawn with replacement, each as often as it occurs."""
        marks = torch.rand(size, generator=self._generator, dtype=torch.float64) * self.num_rows
        places = torch.searchsorted(self._up_to, marks.to(self._up_to.device), right=True)
        return self.rows.index_select(0, places.clamp_(max=len(self.rows) - 1))
