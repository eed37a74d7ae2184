"""Episodes (whole battles) laid end to end: the containers of everything that is rolled out, demonstrated and learned.

    AgentEpisodes              what one agent saw and did
    ├── AgentTrajectory        its own rollouts: with log-probabilities, rewards, and how the battles ended
    └── AgentDemonstration     its slice of joint demonstrations: with the ids of the episodes
        └── BestEpisodes       those with the best scores (demonstrations/best_episodes.py)
    JointEpisodes              the same battles as all N agents saw them: a tuple of the above
    ├── JointRollouts          with returns and outcomes, for analysis (runs/joint_rollouts.py)
    └── JointBattles           with global states, for a centralized critic (algorithms/mappo/joint_battles.py)

One battle of the whole team, as it is written to disk, is a `JointEpisode` (demonstrations/joint_episode.py).

Shapes: E episodes, S steps of all episodes laid end to end, N agents, O observation size, A actions.

    episode 0            episode 1      ...   episode E-1
    |s0 s1 ... sL0-1|s0 s1 ... sL1-1|  ...  |s0 ... |          S = L0 + L1 + ...

There is no padding: a battle takes exactly as many rows as it lasted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dm2_ray.arrays import check_fields, check_finite_fields

if TYPE_CHECKING:
    from typing_extensions import Self

NO_ACTION = -1
"""The "last action" of a battle's first step."""


def axes(dtype: npt.DTypeLike, *names: str) -> dict[str, Any]:
    """Metadata of an array field: its type, and its axes by the letters at the head of this file."""
    return {"dtype": dtype, "axes": names}


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentEpisodes:
    """What one agent saw and did in whole battles; nothing of any other agent.

    A subclass adds its own array fields with `axes` as metadata; checking, `select`, `concatenate` and the conversion
    to arrays then include them. Its other fields must be integers.

    Raises:
        ValueError: The arrays contradict each other; the message has the values found and expected.
    """

    observations: npt.NDArray[np.float32] = field(metadata=axes(np.float32, "S", "O"))
    """[S, O] what the agent saw before acting; all zeros where it was dead."""
    actions: npt.NDArray[np.int64] = field(metadata=axes(np.int64, "S"))
    """[S] the action taken."""
    action_mask: npt.NDArray[np.bool_] = field(metadata=axes(np.bool_, "S", "A"))
    """[S, A] the actions that were available."""
    alive: npt.NDArray[np.bool_] = field(metadata=axes(np.bool_, "S"))
    """[S] whether the agent was alive at the start of the step."""
    episode_lengths: npt.NDArray[np.int64] = field(metadata=axes(np.int64, "E"))
    """[E] steps of each battle, at least 1; their sum is S."""

    def __post_init__(self) -> None:
        if self.observations.ndim != 2 or self.action_mask.ndim != 2 or self.episode_lengths.ndim != 1:
            raise ValueError(
                f"observations must be [S, O], action_mask [S, A], episode_lengths [E]; found shapes "
                f"{self.observations.shape}, {self.action_mask.shape}, {self.episode_lengths.shape}"
            )
        steps, observation_size = self.observations.shape
        sizes = {"S": steps, "O": observation_size, "A": self.num_actions, "E": self.num_episodes}
        shapes = {
            name: (dtype, tuple(sizes[letter] for letter in letters))
            for name, (dtype, letters) in self._array_fields().items()
        }
        check_fields(self, shapes)
        if self.num_episodes == 0:
            raise ValueError("there must be at least one episode, found none")
        if self.episode_lengths.min() < 1 or int(self.episode_lengths.sum()) != steps:
            raise ValueError(
                f"episode_lengths must be positive and sum to the {steps} steps, found a sum of "
                f"{int(self.episode_lengths.sum())} and a minimum of {int(self.episode_lengths.min())}"
            )

    @classmethod
    def _array_fields(cls) -> dict[str, tuple[npt.DTypeLike, tuple[str, ...]]]:
        """Type and axes of each array field."""
        return {f.name: (f.metadata["dtype"], f.metadata["axes"]) for f in fields(cls) if f.metadata}

    @property
    def num_steps(self) -> int:
        return len(self.observations)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_lengths)

    @property
    def num_actions(self) -> int:
        return int(self.action_mask.shape[1])

    @cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """[E] row of each battle's first step."""
        return np.cumsum(self.episode_lengths) - self.episode_lengths

    @cached_property
    def last_rows(self) -> npt.NDArray[np.int64]:
        """[E] row of each battle's last step."""
        return np.cumsum(self.episode_lengths) - 1

    @cached_property
    def last_actions(self) -> npt.NDArray[np.int64]:
        """[S] the agent's own action of the step before; NO_ACTION at a battle's first step, exactly as when acting."""
        previous = np.empty_like(self.actions)
        previous[1:] = self.actions[:-1]
        previous[self.first_rows] = NO_ACTION
        return previous

    def select(self, places: npt.NDArray[np.int64]) -> Self:
        """A copy of the episodes at the given places, in that order.

        Args:
            places: [k] each in 0 ... E - 1, at least one; a place may occur repeatedly.

        Raises:
            IndexError: There is no place, or one that is out of range.
        """
        if places.size == 0 or places.min() < 0 or places.max() >= self.num_episodes:
            raise IndexError(f"places must be 0 to {self.num_episodes - 1}, at least one: {places}")
        lengths = self.episode_lengths[places]
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(self.first_rows[places] - starts, lengths)
        chosen = {
            name: getattr(self, name).take(rows if letters[0] == "S" else places, 0)
            for name, (_, letters) in self._array_fields().items()
        }
        return replace(self, **chosen)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Episodes of the same agent laid end to end; a single part is returned as it is.

        Raises:
            ValueError: There are none, or they are of different agents or of different observation or action sizes.
        """
        if not parts:
            raise ValueError("there is nothing to concatenate")
        sizes = {(part.observations.shape[1], part.num_actions) for part in parts}
        if len(sizes) > 1:
            raise ValueError(f"parts differ in (observation size, actions): {sorted(sizes)}")
        if len(parts) == 1:
            return parts[0]
        merged: dict[str, Any] = dict(cls._shared(parts))
        for name in cls._array_fields():
            merged[name] = np.concatenate([getattr(part, name) for part in parts])
        return cls(**merged)

    @classmethod
    def _shared(cls, parts: Sequence[Self]) -> dict[str, int]:
        """The fields that are no arrays, for all parts together."""
        return {}

    @classmethod
    def from_episodes(cls, episodes: AgentEpisodes, **others: Any) -> Self:
        """The given episodes with the fields of this class; nothing is copied.

        Args:
            episodes: Gives the fields that it has.
            others: The fields that it does not have.
        """
        shared = {f.name for f in fields(cls)} & {f.name for f in fields(episodes)}
        return cls(**{name: getattr(episodes, name) for name in shared}, **others)

    def to_arrays(self) -> dict[str, Any]:
        """Every field by name: arrays and integers, for a checkpoint or `np.savez`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Inverse of `to_arrays`, without copies.

        Raises:
            ValueError: A name is missing or unknown, or the arrays contradict each other.
        """
        names = {f.name for f in fields(cls)}
        if set(arrays) != names:
            raise ValueError(
                f"missing arrays {sorted(names - set(arrays))}, unknown arrays {sorted(set(arrays) - names)}"
            )
        of_arrays = cls._array_fields()
        values: dict[str, Any] = {name: np.asarray(x) if name in of_arrays else int(x) for name, x in arrays.items()}
        return cls(**values)


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentTrajectory(AgentEpisodes):
    """One agent's own rollouts. Every action was an available one, and all numbers are finite."""

    behavior_logp: npt.NDArray[np.float32] = field(metadata=axes(np.float32, "S"))
    """[S] log-probability of the action under the policy that took it."""
    rewards: npt.NDArray[np.float32] = field(metadata=axes(np.float32, "S"))
    """[S] the team's reward for the step, the same for every agent."""
    terminated: npt.NDArray[np.bool_] = field(metadata=axes(np.bool_, "E"))
    """[E] True: the battle ended. False: the time limit cut it and the final observation's value is still to come."""
    final_observations: npt.NDArray[np.float32] = field(metadata=axes(np.float32, "E", "O"))
    """[E, O] what the agent saw after the battle's last step; used only where `terminated` is False."""
    policy_version: int
    """Number of policy updates behind the policy that acted; after concatenation the smallest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.actions.min() < 0 or self.actions.max() >= self.num_actions:
            raise ValueError(
                f"actions must lie in 0 ... {self.num_actions - 1}, found {self.actions.min()} ... {self.actions.max()}"
            )
        taken_available = self.action_mask[np.arange(self.num_steps), self.actions]
        if not taken_available.all():
            step = int(np.argmin(taken_available))
            raise ValueError(f"the action taken at step {step} ({self.actions[step]}) was not an available one")
        check_finite_fields(self, "observations", "behavior_logp", "rewards")

    @classmethod
    def _shared(cls, parts: Sequence[Self]) -> dict[str, int]:
        return {"policy_version": min(part.policy_version for part in parts)}


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentDemonstration(AgentEpisodes):
    """One agent's slice of joint demonstrations. An imported set may hold actions that were not available."""

    agent_index: int
    episode_ids: npt.NDArray[np.int64] = field(metadata=axes(np.int64, "E"))
    """[E] which joint episodes of the set these are: equal ids at two agents are the same battle."""

    @classmethod
    def _shared(cls, parts: Sequence[Self]) -> dict[str, int]:
        agents = {part.agent_index for part in parts}
        if len(agents) != 1:
            raise ValueError(f"need demonstrations of one agent, got those of agents {sorted(agents)}")
        return {"agent_index": agents.pop()}


Episodes = TypeVar("Episodes", bound=AgentEpisodes)


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEpisodes(Generic[Episodes]):
    """The same battles as every agent of a team saw them. A decentralized learner never holds one: it is sent its own
    agent's part.

    Raises:
        ValueError: The parts are not of the same battles.
    """

    agents: tuple[Episodes, ...]
    """[N] agent 0 first; the same battles in the same order."""

    def __post_init__(self) -> None:
        for agent, own in enumerate(self.agents):
            if not np.array_equal(own.episode_lengths, self.episode_lengths):
                raise ValueError(f"agents 0 and {agent} have not seen the same battles: their lengths differ")

    @property
    def num_agents(self) -> int:
        return len(self.agents)

    @property
    def num_steps(self) -> int:
        return self.agents[0].num_steps

    @property
    def num_episodes(self) -> int:
        return self.agents[0].num_episodes

    @property
    def num_actions(self) -> int:
        return self.agents[0].num_actions

    @property
    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """[E]."""
        return self.agents[0].episode_lengths

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """[S] each row's step within its battle, from 0."""
        return np.arange(self.num_steps) - np.repeat(self.agents[0].first_rows, self.episode_lengths)
