"""What an agent, or its expert, visited: the rows the discriminator is trained on.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, A actions, F features of a row,
R rows of the visitation, padding included.

A row is one step, as `discriminator.input` says:
  state             what was seen.                                                          F = O
  state_action      with the action that was taken, one-hot.                                F = O + A
  state_next_state  with what was seen at the step after (Torabi et al. 2019, arXiv 1807.06158). After a battle's last
                    step comes the padding state: zeros, whatever the padding rule below.   F = 2 O

After a battle's end (`matching.padding`):
  masked     nothing is visited; the rows are the S real steps. A dead agent's all-zero observation inside a battle is
             a real step.
  absorbing  the battle is in an absorbing state until the horizon: a row of zeros whose indicator feature is 1 (it is
             0 in every real row), horizon - length times (Kostrikov et al. 2019, arXiv 1809.02925). Visitations of a
             battle then always have `horizon` rows, and how long battles last is part of what is matched. Every state
             of a row has its indicator, at the row's end: with state_next_state there are two, and a battle's last
             step leads from (., 0) to (zeros, 1).
  paper      the same with all-zero observations and no indicator, as in the runs published with DM2 (AAAI 2023): the
             discriminator cannot tell "over" from "dead".
There is no action in the padding state: its one-hot part is all zeros.

The padding rows are all equal, so one of them is stored; it counts as often as if all were there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["absorbing", "masked", "paper"]
RowKind = Literal["state", "state_action", "state_next_state"]


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
    episode_lengths: npt.NDArray[np.int64] | None = None
    """[E] real rows of each episode, sum S; None where it is not known which rows belong together."""

    @property
    def has_padding_row(self) -> bool:
        """Whether a padding row is stored (it may count zero times when every battle reached the horizon)."""
        return len(self.rows) > self.num_real

    @classmethod
    def concatenate(cls, parts: Sequence[VisitedRows]) -> VisitedRows:
        """The visitation of all parts' battles together, in which every row of every part counts once.

        The parts must be of one kind and padding rule. Raises ValueError for an empty sequence.
        """
        if not parts:
            raise ValueError("there is nothing to concatenate")
        if len(parts) == 1:
            return parts[0]
        last = parts[-1]
        lengths = [part.episode_lengths for part in parts if part.episode_lengths is not None]
        rows = [part.rows[: part.num_real] for part in parts] + [last.rows[last.num_real :]]
        return cls(
            rows=torch.cat(rows),
            num_real=sum(part.num_real for part in parts),
            num_rows=sum(part.num_rows for part in parts),
            num_episodes=sum(part.num_episodes for part in parts),
            episode_lengths=np.concatenate(lengths) if len(lengths) == len(parts) else None,
        )


def discriminator_features(
    observation_size: int, padding: Padding, kind: RowKind = "state", num_actions: int = 0
) -> int:
    """F: the width of the discriminator's input."""
    state = observation_size + (1 if padding == "absorbing" else 0)
    return {"state": state, "state_action": state + num_actions, "state_next_state": 2 * state}[kind]


def discriminator_inputs(
    observations: npt.NDArray[np.float32] | Tensor,
    episode_lengths: npt.NDArray[np.int64] | Tensor,
    padding: Padding,
    horizon: int,
    device: torch.device | str | None = None,
    *,
    kind: RowKind = "state",
    actions: npt.NDArray[np.int64] | Tensor | None = None,
    num_actions: int = 0,
) -> VisitedRows:
    """Build the rows of one side, the agent's or the expert's; once per iteration.

    Args:
        observations: [S, O] in flat order.
        episode_lengths: [E], sum S.
        horizon: steps at which a battle's visitation ends, the same on both sides: the battle's time limit. Not used
            by `masked`.
        kind: what a row consists of.
        actions: [S] the action taken at each step, below `num_actions`; used by `state_action` only.

    Raises:
        ValueError: lengths do not sum to S, a battle is longer than the horizon it is padded to, or actions are
            missing or out of range.
    """
    real = _tensor(observations).to(device, torch.float32)
    lengths = np.asarray(episode_lengths)
    steps, width = real.shape
    if int(lengths.sum()) != steps:
        raise ValueError(f"episode lengths sum to {int(lengths.sum())}, but there are {steps} observations")
    last_rows = torch.as_tensor(np.cumsum(lengths) - 1, device=real.device)
    if kind == "state_action":
        real = torch.cat([real, _one_hot(actions, steps, num_actions, real)], dim=1)
    elif kind == "state_next_state":
        following = real.roll(-1, dims=0).index_fill(0, last_rows, 0.0)
        real = torch.cat([real, following], dim=1)
    if padding == "masked":
        return VisitedRows(
            rows=real, num_real=steps, num_rows=steps, num_episodes=len(lengths), episode_lengths=lengths
        )
    if lengths.max() > horizon:
        raise ValueError(f"a battle of {int(lengths.max())} steps is longer than the horizon of {horizon}")
    rows = real.new_zeros(steps + 1, discriminator_features(width, padding, kind, num_actions))
    rows[:steps, : real.shape[1]] = real
    if padding == "absorbing":
        rows[steps, real.shape[1] :] = 1.0
        if kind == "state_next_state":
            rows[last_rows, -1] = 1.0
    return VisitedRows(
        rows=rows,
        num_real=steps,
        num_rows=horizon * len(lengths),
        num_episodes=len(lengths),
        episode_lengths=lengths,
    )


def minibatch_rows(expert: VisitedRows, minibatch_episodes: int) -> int:
    """Rows of one side of a minibatch: as many as `minibatch_episodes` demonstrations have on average."""
    return max(1, round(minibatch_episodes * expert.num_rows / expert.num_episodes))


def _one_hot(
    actions: npt.NDArray[np.int64] | Tensor | None, steps: int, num_actions: int, observations: Tensor
) -> Tensor:
    if actions is None:
        raise ValueError("rows of state and action need the actions")
    taken = _tensor(actions).long()
    if taken.shape != (steps,):
        raise ValueError(f"actions must be [{steps}], one for each observation, found {list(taken.shape)}")
    if taken.min() < 0 or taken.max() >= num_actions:
        raise ValueError(
            f"actions must lie in 0 ... {num_actions - 1}, found {int(taken.min())} ... {int(taken.max())}"
        )
    return functional.one_hot(taken, num_actions).to(observations)


def _tensor(array: npt.NDArray[np.float32] | npt.NDArray[np.int64] | Tensor) -> Tensor:
    """A copy where it is an array: what arrives from elsewhere is read-only, which a tensor cannot be."""
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
