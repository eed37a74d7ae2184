"""What an agent, or its expert, visited: the rows the discriminator is trained on.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, F features of a row
(O, or O + 1 with the absorbing-state indicator), R rows of the visitation, padding included.

After a battle's end (`matching.padding`):
  masked     nothing is visited; the rows are the S real steps. A dead agent's all-zero observation inside a battle is
             a real step.
  absorbing  the battle is in an absorbing state until the horizon: a row of zeros whose indicator feature is 1 (it is
             0 in every real row), horizon - length times (Kostrikov et al. 2019, arXiv 1809.02925). Visitations of a
             battle then always have `horizon` rows, and how long battles last is part of what is matched.
  paper      the same with all-zero observations and no indicator, as in the runs published with DM2 (AAAI 2023): the
             discriminator cannot tell "over" from "dead".

The padding rows are all equal, so one of them is stored, and sampled as often as if all were there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Padding = Literal["absorbing", "masked", "paper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VisitedRows:
    """A visitation: S real rows in flat order, then, where there is padding, the padding row."""

    rows: Tensor
    """[S, F] or, with padding, [S + 1, F]: the padding row is the last."""
    num_real: int
    """S."""
    num_rows: int
    """R: S and as many padding rows as the battles were short of the horizon."""
    num_episodes: int
    """E."""

    @property
    def has_padding_row(self) -> bool:
        """Whether a padding row is stored (it may count zero times when every battle reached the horizon)."""
        return len(self.rows) > self.num_real


def discriminator_features(observation_size: int, padding: Padding) -> int:
    """F: the width of the discriminator's input."""
    return observation_size + (1 if padding == "absorbing" else 0)


def discriminator_inputs(
    observations: npt.NDArray[np.float32] | Tensor,
    episode_lengths: npt.NDArray[np.int64] | Tensor,
    padding: Padding,
    horizon: int,
    device: torch.device | str | None = None,
) -> VisitedRows:
    """Build the rows of one side, the agent's or the expert's; once per iteration.

    Args:
        observations: [S, O] in flat order.
        episode_lengths: [E], sum S.
        horizon: steps at which a battle's visitation ends, the same on both sides: the battle's time limit. Not used
            by `masked`.

    Raises:
        ValueError: lengths do not sum to S, or a battle is longer than the horizon it is padded to.
    """
    real = torch.as_tensor(np.array(observations), dtype=torch.float32).to(device)
    lengths = np.asarray(episode_lengths)
    steps = len(real)
    if int(lengths.sum()) != steps:
        raise ValueError(f"episode lengths sum to {int(lengths.sum())}, but there are {steps} observations")
    if padding == "masked":
        return VisitedRows(rows=real, num_real=steps, num_rows=steps, num_episodes=len(lengths))
    if lengths.max() > horizon:
        raise ValueError(f"a battle of {int(lengths.max())} steps is longer than the horizon of {horizon}")
    rows = real.new_zeros(steps + 1, discriminator_features(real.shape[1], padding))
    rows[:steps, : real.shape[1]] = real
    if padding == "absorbing":
        rows[steps, -1] = 1.0
    return VisitedRows(rows=rows, num_real=steps, num_rows=horizon * len(lengths), num_episodes=len(lengths))


def minibatch_rows(expert: VisitedRows, minibatch_episodes: int) -> int:
    """Rows of one side of a minibatch: as many as `minibatch_episodes` demonstrations have on average."""
    return max(1, round(minibatch_episodes * expert.num_rows / expert.num_episodes))


def sample_rows(visited: VisitedRows, size: int, generator: torch.Generator) -> Tensor:
    """[size, F] rows drawn uniformly from the visitation, none twice within a draw; all of them if there are fewer.

    `generator` must be a CPU generator.
    """
    drawn = torch.randperm(visited.num_rows, generator=generator)[:size]
    if visited.has_padding_row:
        drawn.clamp_(max=visited.num_real)
    return visited.rows.index_select(0, drawn.to(visited.rows.device))
