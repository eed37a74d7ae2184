"""What one agent lived through: whole battles, laid end to end.

Shapes: E episodes (whole battles), S steps of all episodes laid end to end, O observation size, A actions.

    episode 0            episode 1      ...   episode E-1
    |s0 s1 ... sL0-1|s0 s1 ... sL1-1|  ...  |s0 ... |          S = L0 + L1 + ...

There is no padding: a battle takes exactly as many rows as it lasted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

NO_ACTION = -1
"""The "last action" of a battle's first step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentTrajectory:
    """One agent's own view of whole battles; it holds nothing of any other agent.

    Raises ValueError when the arrays contradict each other, naming what was found and what was expected.
    """

    observations: npt.NDArray[np.float32]
    """[S, O] what the agent saw before acting; all zeros where it was dead."""
    action_mask: npt.NDArray[np.bool_]
    """[S, A] the actions that were available."""
    actions: npt.NDArray[np.int64]
    """[S] the action taken; always an available one."""
    behavior_logp: npt.NDArray[np.float32]
    """[S] log-probability of that action under the policy that took it."""
    rewards: npt.NDArray[np.float32]
    """[S] the team's reward for the step, the same for every agent."""
    alive: npt.NDArray[np.bool_]
    """[S] whether the agent was alive at the start of the step."""
    episode_lengths: npt.NDArray[np.int64]
    """[E] steps of each battle, at least 1; their sum is S."""
    terminated: npt.NDArray[np.bool_]
    """[E] True: the battle ended. False: the time limit cut it and the final observation's value is still to come."""
    final_observations: npt.NDArray[np.float32]
    """[E, O] what the agent saw after the battle's last step; used only where `terminated` is False."""
    policy_version: int
    """Number of policy updates behind the policy that acted."""

    def __post_init__(self) -> None:
        if self.observations.ndim != 2 or self.action_mask.ndim != 2 or self.episode_lengths.ndim != 1:
            raise ValueError(
                f"observations must be [S, O], action_mask [S, A], episode_lengths [E]; found shapes "
                f"{self.observations.shape}, {self.action_mask.shape}, {self.episode_lengths.shape}"
            )
        steps, observation_size = self.observations.shape
        episodes = len(self.episode_lengths)
        expected: dict[str, tuple[type, tuple[int, ...]]] = {
            "observations": (np.float32, (steps, observation_size)),
            "action_mask": (np.bool_, (steps, self.action_mask.shape[1])),
            "actions": (np.int64, (steps,)),
            "behavior_logp": (np.float32, (steps,)),
            "rewards": (np.float32, (steps,)),
            "alive": (np.bool_, (steps,)),
            "episode_lengths": (np.int64, (episodes,)),
            "terminated": (np.bool_, (episodes,)),
            "final_observations": (np.float32, (episodes, observation_size)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype)} {list(shape)}, found {array.dtype} {list(array.shape)}"
                )
        if episodes == 0:
            raise ValueError("a trajectory needs at least one episode")
        if self.episode_lengths.min() < 1 or int(self.episode_lengths.sum()) != steps:
            raise ValueError(
                f"episode_lengths must be positive and sum to the {steps} steps, found a sum of "
                f"{int(self.episode_lengths.sum())} and a minimum of {int(self.episode_lengths.min())}"
            )
        if self.actions.min() < 0 or self.actions.max() >= self.num_actions:
            raise ValueError(
                f"actions must lie in 0 ... {self.num_actions - 1}, found {self.actions.min()} ... {self.actions.max()}"
            )
        taken_available = self.action_mask[np.arange(steps), self.actions]
        if not taken_available.all():
            step = int(np.argmin(taken_available))
            raise ValueError(f"the action taken at step {step} ({self.actions[step]}) was not an available one")
        for name in ("observations", "behavior_logp", "rewards"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite, found NaN or infinity")

    @property
    def num_steps(self) -> int:
        return len(self.actions)

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

    @classmethod
    def concatenate(cls, parts: Sequence[AgentTrajectory]) -> AgentTrajectory:
        """Lay several trajectories of the same agent end to end; the oldest policy version is kept.

        Raises ValueError for an empty sequence and for parts of different observation or action sizes.
        """
        if not parts:
            raise ValueError("there is nothing to concatenate")
        sizes = {(part.observations.shape[1], part.num_actions) for part in parts}
        if len(sizes) > 1:
            raise ValueError(f"parts differ in (observation size, actions): {sorted(sizes)}")
        if len(parts) == 1:
            return parts[0]
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "policy_version"
        }
        return cls(**arrays, policy_version=min(part.policy_version for part in parts))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every field by name as an array (`policy_version` 0-dimensional), for the wire or `np.savez`."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays["policy_version"] = np.asarray(self.policy_version, dtype=np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> AgentTrajectory:
        """Inverse of `to_arrays`, without copies. Raises ValueError for a missing or an unknown name."""
        names = {field.name for field in fields(cls)}
        if set(arrays) != names:
            raise ValueError(
                f"missing arrays {sorted(names - set(arrays))}, unknown arrays {sorted(set(arrays) - names)}"
            )
        values: dict[str, Any] = dict(arrays)
        values["policy_version"] = int(values["policy_version"])
        return cls(**values)
