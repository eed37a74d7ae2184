"""How joint episodes lie in Parquet: one row per env step, agents beside each other in columns of their own.

    episode  step  reward  battle_won  episode_return | observation_0 [O]  action_0  action_mask_0 [A]  alive_0 | ...

Whoever serves or learns agent i reads the columns of agent i and no others. Any Parquet reader understands the file.
What a set's manifest names as missing has no column: `action_mask` those of all agents, `rewards` reward and
episode_return, `battle_won` its own.

Shapes: S steps of all episodes laid end to end, L steps of one episode, N agents, O observation size, A actions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dm2_ray.arrays import check_arrays
from dm2_ray.demonstrations.manifest import MissingColumn

_AGENT_SUFFIX = re.compile(r"_\d+$")


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeRecord:
    """What is known of one battle: of our own recordings everything (`JointEpisode`), of imported ones less.

    Raises ValueError when the arrays contradict each other.
    """

    observations: npt.NDArray[np.float32]
    """[L, N, O] what every agent saw before acting."""
    actions: npt.NDArray[np.int64]
    """[L, N]."""
    alive: npt.NDArray[np.bool_]
    """[L, N] alive at the start of the step."""
    action_mask: npt.NDArray[np.bool_] | None
    """[L, N, A]; None where nobody recorded it, as below."""
    rewards: npt.NDArray[np.float64] | None
    """[L] the team's reward of the step."""
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
        check_arrays(self, expected)
        if length == 0:
            raise ValueError("an episode has at least one step")
        if not np.isfinite(self.observations).all() or not (self.rewards is None or np.isfinite(self.rewards).all()):
            raise ValueError("observations and rewards must be finite")
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
        """What is not known of it."""
        names: tuple[MissingColumn, ...] = get_args(MissingColumn)
        return [name for name in names if getattr(self, name) is None]


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEpisode(EpisodeRecord):
    """One battle as the whole team lived it. Raises ValueError when the arrays contradict each other."""

    action_mask: npt.NDArray[np.bool_]
    """[L, N, A]."""
    rewards: npt.NDArray[np.float64]
    """[L] the team's reward of the step."""
    battle_won: bool

    @property
    def team_return(self) -> float:
        """Undiscounted sum of the team's rewards."""
        return float(self.rewards.sum())


def agent_columns(agent_index: int, missing: Sequence[MissingColumn] = ()) -> list[str]:
    """Names of one agent's columns: observation, action, alive, and action_mask unless it is missing."""
    names = ["observation", "action", "alive"] + ["action_mask"] * ("action_mask" not in missing)
    return [f"{name}_{agent_index}" for name in names]


def team_columns(missing: Sequence[MissingColumn] = ()) -> list[str]:
    """Names of the columns that belong to no agent, but for episode and step."""
    rewards, won = "rewards" not in missing, "battle_won" not in missing
    return ["reward"] * rewards + ["battle_won"] * won + ["episode_return"] * rewards


def shard_schema(num_agents: int, obs_size: int, num_actions: int, missing: Sequence[MissingColumn] = ()) -> pa.Schema:
    """The Arrow schema of every shard of a set."""
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
    """Rows of consecutive episodes, numbered from `first_episode`; `schema` has columns for what they hold."""
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
        observations = np.concatenate([episode.observations[:, agent] for episode in episodes])
        actions = np.concatenate([episode.actions[:, agent] for episode in episodes])
        columns[f"observation_{agent}"] = _lists(observations)
        columns[f"action_{agent}"] = pa.array(actions.astype(np.int16))
        columns[f"alive_{agent}"] = pa.array(np.concatenate([episode.alive[:, agent] for episode in episodes]))
        masks = [episode.action_mask[:, agent] for episode in episodes if episode.action_mask is not None]
        if masks:
            columns[f"action_mask_{agent}"] = _lists(np.concatenate(masks))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def to_episodes(table: pa.Table, num_agents: int, missing: Sequence[MissingColumn] = ()) -> list[EpisodeRecord]:
    """The episodes that `to_table` laid into rows; JointEpisodes if nothing is missing.

    Raises:
        ValueError: the rows contradict each other.
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
    """A column as an array: [S], or [S, size] of a column of fixed-size lists."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy()


def _lists(rows: npt.NDArray[np.generic]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
