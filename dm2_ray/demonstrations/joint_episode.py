"""One battle of the whole team, and one agent's slice of several battles.

Shapes: E episodes, S steps of all episodes laid end to end, L steps of one episode, N agents, O observation size,
A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import check_fields, check_finite_fields
from dm2_ray.demonstrations.manifest import MissingColumn
from dm2_ray.learning.episodes import AgentDemonstration


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeRecord:
    """What is known about one battle: everything if this package recorded it (`JointEpisode`), less if it was imported.

    Attributes:
        observations: [L, N, O] what every agent saw before acting.
        actions: [L, N] what every agent did.
        alive: [L, N] whether the agent was alive at the start of the step.
        action_mask: [L, N, A] which actions were available; None, here and below: not recorded.
        rewards: [L] the team's reward of the step.
        battle_won: Whether the team won.

    Raises:
        ValueError: The arrays contradict each other.
    """

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.int64]
    alive: npt.NDArray[np.bool_]
    action_mask: npt.NDArray[np.bool_] | None
    rewards: npt.NDArray[np.float64] | None
    battle_won: bool | None

    def __post_init__(self) -> None:
        length, agents = self.actions.shape
        expected: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
            "observations": (np.float32, (length, agents, self.observations.shape[-1])),
            "actions": (np.int64, (length, agents)),
            "alive": (np.bool_, (length, agents)),
        }
        if self.action_mask is not None:
            expected["action_mask"] = (np.bool_, (length, agents, self.action_mask.shape[-1]))
        if self.rewards is not None:
            expected["rewards"] = (np.float64, (length,))
        check_fields(self, expected)
        if length == 0:
            raise ValueError("an episode needs at least one step")
        check_finite_fields(self, "observations", *["rewards"] * (self.rewards is not None))
        if self.action_mask is not None:
            if self.actions.min() < 0 or self.actions.max() >= self.action_mask.shape[-1]:
                raise ValueError(f"actions must be 0 to {self.action_mask.shape[-1] - 1}")
            if not np.take_along_axis(self.action_mask, self.actions[..., None], axis=-1).all():
                raise ValueError("every action taken must have been available")

    @property
    def num_steps(self) -> int:
        return len(self.actions)

    @property
    def missing(self) -> list[MissingColumn]:
        """Names of the fields that were not recorded."""
        names: tuple[MissingColumn, ...] = get_args(MissingColumn)
        return [name for name in names if getattr(self, name) is None]


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEpisode(EpisodeRecord):
    """One battle, completely recorded: no field is None."""

    action_mask: npt.NDArray[np.bool_]
    rewards: npt.NDArray[np.float64]
    battle_won: bool

    @property
    def team_return(self) -> float:
        """Undiscounted sum of the team's rewards."""
        return float(self.rewards.sum())


def agent_rows(
    episodes: Sequence[EpisodeRecord],
    name: Literal["observations", "actions", "action_mask", "alive"],
    agent_index: int,
) -> npt.NDArray[Any]:
    """Returns one agent's part of an array of joint episodes, laid end to end, [S, ...]."""
    return np.concatenate([getattr(episode, name)[:, agent_index] for episode in episodes])


def agent_demonstration(
    episodes: Sequence[JointEpisode], agent_index: int, episode_ids: npt.NDArray[np.int64]
) -> AgentDemonstration:
    """Returns one agent's slice of joint episodes, which get the ids [E]."""
    return AgentDemonstration(
        agent_index=agent_index,
        observations=agent_rows(episodes, "observations", agent_index),
        actions=agent_rows(episodes, "actions", agent_index),
        action_mask=agent_rows(episodes, "action_mask", agent_index),
        alive=agent_rows(episodes, "alive", agent_index),
        episode_lengths=np.array([episode.num_steps for episode in episodes], np.int64),
        episode_ids=episode_ids,
    )
