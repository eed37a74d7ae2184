"""How joint episodes lie in Parquet: one row per env step, agents beside each other in columns of their own.

    episode  step  reward  battle_won  episode_return | observation_0 [O]  action_0  action_mask_0 [A]  alive_0 | ...

Whoever serves or learns agent i reads the columns of agent i and no others. Any Parquet reader understands the file.

Shapes: S steps of all episodes laid end to end, L steps of one episode, N agents, O observation size, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dm2_ray.array_contract import Expected, check_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEpisode:
    """One battle as the whole team lived it. Raises ValueError when the arrays contradict each other."""

    observations: npt.NDArray[np.float32]
    """[L, N, O] what every agent saw before acting."""
    actions: npt.NDArray[np.int64]
    """[L, N]."""
    action_mask: npt.NDArray[np.bool_]
    """[L, N, A]."""
    alive: npt.NDArray[np.bool_]
    """[L, N] alive at the start of the step."""
    rewards: npt.NDArray[np.float64]
    """[L] the team's reward of the step."""
    battle_won: bool

    def __post_init__(self) -> None:
        length, agents = self.actions.shape
        expected: Expected = {
            "observations": (np.float32, (length, agents, self.observations.shape[-1])),
            "actions": (np.int64, (length, agents)),
            "action_mask": (np.bool_, (length, agents, self.action_mask.shape[-1])),
            "alive": (np.bool_, (length, agents)),
            "rewards": (np.float64, (length,)),
        }
        check_arrays(self, expected)
        if length == 0:
            raise ValueError("an episode has at least one step")
        if not (np.isfinite(self.observations).all() and np.isfinite(self.rewards).all()):
            raise ValueError("observations and rewards must be finite")
        if not np.take_along_axis(self.action_mask, self.actions[..., None], axis=-1).all():
            raise ValueError("every action taken must have been available")

    @property
    def num_steps(self) -> int:
        return len(self.rewards)

    @property
    def team_return(self) -> float:
        """Undiscounted sum of the team's rewards."""
        return float(self.rewards.sum())


def agent_columns(agent_index: int) -> tuple[str, str, str, str]:
    """Names of one agent's columns."""
    return (f"observation_{agent_index}", f"action_{agent_index}", f"action_mask_{agent_index}", f"alive_{agent_index}")


def shard_schema(num_agents: int, obs_size: int, num_actions: int) -> pa.Schema:
    """The Arrow schema of every shard of a set."""
    fields = [
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("battle_won", pa.bool_(), nullable=False),
        pa.field("episode_return", pa.float64(), nullable=False),
    ]
    for agent_index in range(num_agents):
        observation, action, action_mask, alive = agent_columns(agent_index)
        fields += [
            pa.field(observation, pa.list_(pa.float32(), obs_size), nullable=False),
            pa.field(action, pa.int16(), nullable=False),
            pa.field(action_mask, pa.list_(pa.bool_(), num_actions), nullable=False),
            pa.field(alive, pa.bool_(), nullable=False),
        ]
    return pa.schema(fields)


def to_table(episodes: list[JointEpisode], first_episode: int, schema: pa.Schema) -> pa.Table:
    """Rows of consecutive episodes, numbered from `first_episode`."""
    lengths = np.array([episode.num_steps for episode in episodes])
    columns: list[pa.Array] = [
        pa.array(np.repeat(np.arange(first_episode, first_episode + len(episodes)), lengths), pa.int64()),
        pa.array(np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]), pa.int32()),
        pa.array(np.concatenate([episode.rewards for episode in episodes]), pa.float64()),
        pa.array(np.repeat([episode.battle_won for episode in episodes], lengths), pa.bool_()),
        pa.array(np.repeat([episode.team_return for episode in episodes], lengths), pa.float64()),
    ]
    for agent_index in range(episodes[0].actions.shape[1]):
        observations = np.concatenate([episode.observations[:, agent_index] for episode in episodes])
        action_mask = np.concatenate([episode.action_mask[:, agent_index] for episode in episodes])
        columns += [
            pa.FixedSizeListArray.from_arrays(pa.array(observations.ravel()), observations.shape[1]),
            pa.array(np.concatenate([episode.actions[:, agent_index] for episode in episodes]).astype(np.int16)),
            pa.FixedSizeListArray.from_arrays(pa.array(action_mask.ravel()), action_mask.shape[1]),
            pa.array(np.concatenate([episode.alive[:, agent_index] for episode in episodes])),
        ]
    return pa.Table.from_arrays(columns, schema=schema)


def to_numpy(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """A column as an array: [S], or [S, size] of a column of fixed-size lists."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy()
