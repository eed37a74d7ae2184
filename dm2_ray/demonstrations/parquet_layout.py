"""The Parquet columns of joint episodes: one row per env step, each agent in its own columns.

    episode  step  reward  battle_won  episode_return | observation_0 [O]  action_0  action_mask_0 [A]  alive_0 | ...

Agent i's server and learner read the columns of agent i and no others. Any Parquet reader understands the file.
What a set's manifest lists as missing has no columns: `action_mask` means the masks of all agents, `rewards` means
reward and episode_return, and `battle_won` that one column.

Shapes: S steps of all episodes laid end to end, L steps of one episode, N agents, O observation size, A actions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dm2_ray.demonstrations.joint_episode import EpisodeRecord, JointEpisode, agent_rows
from dm2_ray.demonstrations.manifest import MissingColumn

_AGENT_SUFFIX = re.compile(r"_\d+$")


def agent_columns(agent_index: int, missing: Sequence[MissingColumn] = ()) -> list[str]:
    """Returns the names of one agent's columns: observation, action, alive, and action_mask unless it is missing."""
    names = ["observation", "action", "alive"] + ["action_mask"] * ("action_mask" not in missing)
    return [f"{name}_{agent_index}" for name in names]


def team_columns(missing: Sequence[MissingColumn] = ()) -> list[str]:
    """Returns the names of the columns that belong to no agent, except episode and step."""
    rewards, won = "rewards" not in missing, "battle_won" not in missing
    return ["reward"] * rewards + ["battle_won"] * won + ["episode_return"] * rewards


def shard_schema(num_agents: int, obs_size: int, num_actions: int, missing: Sequence[MissingColumn] = ()) -> pa.Schema:
    """Returns the Arrow schema that every shard of a set has."""
    types = {
        "episode": pa.int64(),
        "step": pa.int32(),
        "reward": pa.float64(),
        "battle_won": pa.bool_(),
        "episode_return": pa.float64(),
        "observation": pa.list_(pa.float32(), obs_size),
        "action": pa.int16(),
        "action_mask": pa.list_(pa.bool_(), num_actions),
        "alive": pa.bool_(),
    }
    names = ["episode", "step", *team_columns(missing)]
    for agent_index in range(num_agents):
        observation, action, alive, *action_mask = agent_columns(agent_index, missing)
        names += [observation, action, *action_mask, alive]
    return pa.schema([pa.field(name, types[_AGENT_SUFFIX.sub("", name)], nullable=False) for name in names])


def to_table(episodes: Sequence[EpisodeRecord], first_episode: int, schema: pa.Schema) -> pa.Table:
    """Returns the rows of consecutive episodes, numbered from `first_episode`; `schema` is as of `shard_schema`."""
    lengths = np.array([episode.num_steps for episode in episodes], np.int64)
    columns: dict[str, pa.Array] = {
        "episode": pa.array(np.repeat(np.arange(first_episode, first_episode + len(episodes)), lengths), pa.int64()),
        "step": pa.array(np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]), pa.int32()),
    }
    missing = episodes[0].missing
    if "rewards" not in missing:
        rewards = [episode.rewards for episode in episodes if episode.rewards is not None]
        columns["reward"] = pa.array(np.concatenate(rewards), pa.float64())
        columns["episode_return"] = pa.array(np.repeat([own.sum() for own in rewards], lengths), pa.float64())
    if "battle_won" not in missing:
        columns["battle_won"] = pa.array(np.repeat([episode.battle_won for episode in episodes], lengths), pa.bool_())
    for agent in range(episodes[0].actions.shape[1]):
        columns[f"observation_{agent}"] = _lists(agent_rows(episodes, "observations", agent))
        columns[f"action_{agent}"] = pa.array(agent_rows(episodes, "actions", agent).astype(np.int16))
        columns[f"alive_{agent}"] = pa.array(agent_rows(episodes, "alive", agent))
        if "action_mask" not in missing:
            columns[f"action_mask_{agent}"] = _lists(agent_rows(episodes, "action_mask", agent))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def to_episodes(table: pa.Table, num_agents: int, missing: Sequence[MissingColumn] = ()) -> list[EpisodeRecord]:
    """Returns the episodes that `to_table` wrote as rows, as JointEpisode if nothing is missing.

    Raises:
        ValueError: The rows contradict each other.
    """
    arrays = {name: to_numpy(table[name]) for name in table.column_names}

    def of_agents(name: str) -> npt.NDArray[np.generic]:
        return np.stack([arrays[f"{name}_{agent}"] for agent in range(num_agents)], axis=1)

    steps = {
        "observations": of_agents("observation"),
        "actions": of_agents("action").astype(np.int64),
        "alive": of_agents("alive"),
        "action_mask": None if "action_mask" in missing else of_agents("action_mask"),
        "rewards": arrays.get("reward"),
    }
    starts = np.flatnonzero(arrays["step"] == 0)
    ends = np.append(starts[1:], len(table))
    for name in ("battle_won", "episode_return"):
        if name in arrays and (arrays[name] != np.repeat(arrays[name][starts], ends - starts)).any():
            raise ValueError(f"{name} changes within an episode")
    if "reward" in arrays and not np.allclose(
        np.add.reduceat(arrays["reward"], starts), arrays["episode_return"][starts]
    ):
        raise ValueError("episode_return is not the sum of the episode's rewards")
    kind = EpisodeRecord if missing else JointEpisode
    episodes = []
    for start, end in zip(starts, ends, strict=True):
        own: dict[str, Any] = {name: None if rows is None else rows[start:end] for name, rows in steps.items()}
        own["battle_won"] = None if "battle_won" in missing else bool(arrays["battle_won"][start])
        episodes.append(kind(**own))
    return episodes


def to_numpy(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """Returns a column as an array: [S], or [S, size] for a column of fixed-size lists."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy()


def _lists(rows: npt.NDArray[np.generic]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
