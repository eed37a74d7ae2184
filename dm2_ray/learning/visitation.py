"""What an agent, or its expert, visited: the rows the discriminator is trained on.

Shapes: E episodes, S steps of all episodes laid end to end, O observation size, A actions, F features of a row,
R rows of the visitation, padding included.

A row is one step, as `discriminator.input` says: one of DISCRIMINATOR_INPUTS below, or your own function as
`package.module:function` (dm2_ray/examples/new_discriminator_input.py shows one).

  state             what was seen.                                                          F = O
  state_action      with the action that was taken, one-hot.                                F = O + A
  state_next_state  with what was seen at the step after (Torabi et al. 2019, arXiv 1807.06158). After a battle's last
                    step comes the padding state: zeros, regardless of the padding rule below.   F = 2 O

After a battle's end (`matching.padding`):
  masked     there are no padding rows; the rows are the S real steps. A dead agent's all-zero observation inside a
             battle is a real step.
  absorbing  the battle is in an absorbing state until the horizon: a row of zeros whose indicator feature is 1 (it is
             0 in every real row), horizon - length times (Kostrikov et al. 2019, arXiv 1809.02925). Visitations of a
             battle then always have `horizon` rows, and how long battles last is part of what is matched. Every state
             of a row has its indicator, at the row's end: with state_next_state there are two, and a battle's last
             step leads from (., 0) to (zeros, 1).
  paper      the same with all-zero observations and no indicator, as in the runs published with DM2 (AAAI 2023): the
             discriminator cannot tell "over" from "dead".
There is no action in the padding state: its one-hot part is all zeros, and so is all that your own function adds.

The padding rows are all equal, so only one of them is stored; it counts as often as all of them would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dm2_ray.config.dotted_path import import_function

Padding = Literal["absorbing", "masked", "paper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """What a discriminator's input is computed from: steps of one agent only, or of its expert."""

    observations: Tensor
    """[S, O] float32, zeros where the agent was dead."""
    actions: Tensor | None
    """[S] int64; None where they are unknown."""
    num_actions: int
    """A."""
    episode_lengths: npt.NDArray[np.int64]
    """[E], sum S."""

    @property
    def last_rows(self) -> Tensor:
        """[E] row of each battle's last step."""
        return torch.as_tensor(np.cumsum(self.episode_lengths) - 1, device=self.observations.device)

    @property
    def times(self) -> Tensor:
        """[S] int64, steps since the battle began."""
        starts = np.cumsum(self.episode_lengths) - self.episode_lengths
        times = np.arange(len(self.observations)) - np.repeat(starts, self.episode_lengths)
        return torch.as_tensor(times, device=self.observations.device)

    def next_observations(self) -> Tensor:
        """[S, O] what was seen at the step after; zeros after a battle's last step."""
        return self.observations.roll(-1, dims=0).index_fill(0, self.last_rows, 0.0)

    def one_hot_actions(self) -> Tensor:
        """[S, A].

        Raises:
            ValueError: Actions are missing or out of range.
        """
        if self.actions is None:
            raise ValueError("rows of state and action need the actions")
        taken, steps = self.actions.long(), len(self.observations)
        if taken.shape != (steps,):
            raise ValueError(f"actions must be [{steps}], one for each observation, found {list(taken.shape)}")
        if taken.min() < 0 or taken.max() >= self.num_actions:
            raise ValueError(
                f"actions must lie in 0 ... {self.num_actions - 1}, found {int(taken.min())} ... {int(taken.max())}"
            )
        return functional.one_hot(taken, self.num_actions).to(self.observations)


DiscriminatorInput: TypeAlias = Callable[[Steps], Tensor]
"""Steps to rows [S, F], one row per step in the same order. F may depend on O and A only.

With padding `absorbing` the row gets an indicator of the padding state at its end. A function whose rows also hold
the next state sets an attribute `num_states = 2` and gets a second indicator, which is 1 at a battle's last step.
"""


def state(steps: Steps) -> Tensor:
    """[S, O] what was seen, as in the paper."""
    return steps.observations


def state_action(steps: Steps) -> Tensor:
    """[S, O + A] what was seen and the action taken, as in GAIL (Ho and Ermon 2016, arXiv 1606.03476)."""
    return torch.cat([steps.observations, steps.one_hot_actions()], dim=1)


def state_next_state(steps: Steps) -> Tensor:
    """[S, 2 O] what was seen, and what was seen next, for experts whose actions are unknown (Torabi et al. 2019)."""
    return torch.cat([steps.observations, steps.next_observations()], dim=1)


state_next_state.num_states = 2  # type: ignore[attr-defined]

DISCRIMINATOR_INPUTS: dict[str, DiscriminatorInput] = {
    "state": state,
    "state_action": state_action,
    "state_next_state": state_next_state,
}
"""The built-in inputs, by their names in `discriminator.input`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VisitedRows:
    """A visitation: S real rows in flat order, then, where there is padding, the padding row.

    These are not episodes (`learning/episodes.py`) but the discriminator's inputs made of them: tensors of F features
    on the learner's device, with one padding row that stands for many, and replayed rows whose episodes are not known.
    """

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

        The parts must have the same kind and padding rule.

        Raises:
            ValueError: There are no parts.
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


def discriminator_features(observation_size: int, padding: Padding, kind: str = "state", num_actions: int = 0) -> int:
    """The width of the discriminator's input: F and, with padding `absorbing`, the indicators.

    Raises:
        ConfigError, ValueError: As `discriminator_inputs`.
    """
    probe = Steps(
        observations=torch.zeros(2, observation_size),
        actions=torch.zeros(2, dtype=torch.int64),
        num_actions=num_actions,
        episode_lengths=np.array([2]),
    )
    function = _input_function(kind)
    return _features(function, probe, kind).shape[1] + (_num_states(function) if padding == "absorbing" else 0)


def discriminator_inputs(
    observations: npt.NDArray[np.float32] | Tensor,
    episode_lengths: npt.NDArray[np.int64] | Tensor,
    padding: Padding,
    horizon: int,
    device: torch.device | str | None = None,
    *,
    kind: str = "state",
    actions: npt.NDArray[np.int64] | Tensor | None = None,
    num_actions: int = 0,
) -> VisitedRows:
    """Build the rows of one side, the agent's or the expert's; once per iteration.

    Args:
        observations: [S, O] in flat order.
        episode_lengths: [E], sum S.
        padding: What follows after a battle's end; see the top of this file.
        horizon: Steps at which a battle's visitation ends, the same on both sides: the battle's time limit. Not used
            by `masked`.
        device: Of the rows; None leaves them where the observations are.
        kind: What a row consists of: a name in DISCRIMINATOR_INPUTS, or `package.module:function`.
        actions: [S] the action taken at each step, below `num_actions`; needed only where the input has actions.
        num_actions: A.

    Raises:
        ConfigError: The function of the input cannot be imported.
        ValueError: Lengths do not sum to S, a battle is longer than the horizon it is padded to, actions are missing
            or out of range, or your own function does not return one row per step.
    """
    real = _tensor(observations).to(device, torch.float32)
    lengths = np.asarray(episode_lengths)
    num_steps = len(real)
    if int(lengths.sum()) != num_steps:
        raise ValueError(f"episode lengths sum to {int(lengths.sum())}, but there are {num_steps} observations")
    steps = Steps(
        observations=real,
        actions=None if actions is None else _tensor(actions).to(real.device),
        num_actions=num_actions,
        episode_lengths=lengths,
    )
    function = _input_function(kind)
    features = _features(function, steps, kind)
    if padding == "masked":
        return VisitedRows(
            rows=features, num_real=num_steps, num_rows=num_steps, num_episodes=len(lengths), episode_lengths=lengths
        )
    if lengths.max() > horizon:
        raise ValueError(f"a battle of {int(lengths.max())} steps is longer than the horizon of {horizon}")
    width = features.shape[1]
    indicators = _num_states(function) if padding == "absorbing" else 0
    rows = features.new_zeros(num_steps + 1, width + indicators)
    rows[:num_steps, :width] = features
    rows[num_steps, width:] = 1.0
    if indicators > 1:
        rows[steps.last_rows, -1] = 1.0
    return VisitedRows(
        rows=rows,
        num_real=num_steps,
        num_rows=horizon * len(lengths),
        num_episodes=len(lengths),
        episode_lengths=lengths,
    )


def minibatch_rows(expert: VisitedRows, minibatch_episodes: int) -> int:
    """Rows of one side of a minibatch: as many as `minibatch_episodes` demonstrations have on average."""
    return max(1, round(minibatch_episodes * expert.num_rows / expert.num_episodes))


def _input_function(kind: str) -> DiscriminatorInput:
    return DISCRIMINATOR_INPUTS[kind] if kind in DISCRIMINATOR_INPUTS else import_function(kind)


def _num_states(function: DiscriminatorInput) -> int:
    return int(getattr(function, "num_states", 1))


def _features(function: DiscriminatorInput, steps: Steps, kind: str) -> Tensor:
    """[S, F]."""
    features = function(steps)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(steps.observations):
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"discriminator.input {kind} must return a tensor [{len(steps.observations)}, F], one row per step; "
            f"found {found}"
        )
    return features.to(torch.float32)


def _tensor(array: npt.NDArray[np.float32] | npt.NDArray[np.int64] | Tensor) -> Tensor:
    """Copies arrays: those from Ray's object store are read-only, which a tensor cannot be."""
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
