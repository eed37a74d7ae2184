"""Plays whole battles with a team and records what every agent saw and did, one joint episode after the other.

Shapes: B battles side by side, N agents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.demonstrations.joint_episode import JointEpisode
from dm2_ray.demonstrations.manifest import Manifest, Provenance, RecordedWorld
from dm2_ray.demonstrations.writer import JointTrajectoryWriter
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import PlayedStep, TeamPolicy, play_battles
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.smac.options import SmacOptions


def play_joint_episodes(
    team: TeamPolicy,
    battles: BattleBackend,
    num_episodes: int,
    *,
    seed: int | None = None,
    first_battle: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[JointEpisode]:
    """Plays the battles numbered first_battle to first_battle + num_episodes - 1 and yields them in this order, each
    as soon as those before it have ended.

    With the embedded engine they do not depend on how many battles are played side by side, as long as the team's
    choice in a battle depends on nothing but that battle.

    Args:
        team: Chooses the actions.
        battles: The battles to play; they are reset here.
        num_episodes: At least 1.
        seed: Seed of the battles; None keeps the seed that they have.
        first_battle: Number of the first battle.
        progress: Called with (episodes played, num_episodes) whenever some have ended.

    Raises:
        ValueError: num_episodes is not positive.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes is {num_episodes}; it must be at least 1")
    buffer = _EpisodeBuffer(battles)
    waiting: dict[int, JointEpisode] = {}
    played, due, end = 0, first_battle, first_battle + num_episodes
    battles.reset(seed=seed, first_battle=first_battle)
    team.reset_states(battles)
    for step in play_battles(
        battles, team, running=lambda: battles.battle_number < end, before_step=buffer.before_step
    ):
        buffer.after_step(step)
        if step.finished.any():
            waiting.update(buffer.take_episodes(step.finished))
            played += int(step.finished.sum())
            if progress is not None:
                progress(played, num_episodes)
            # Columns run ahead of each other; the episodes are yielded in the order of battle numbers.
            while due in waiting:
                yield waiting.pop(due)
                due += 1


class _EpisodeBuffer:
    """Stores what was seen and done so far in the unfinished battles, column by column."""

    def __init__(self, battles: BattleBackend) -> None:
        columns, limit, agents = battles.num_battles, battles.episode_limit, battles.num_agents
        self._battles = battles
        self._columns = np.arange(columns)
        self._step = np.zeros(columns, np.int64)
        self._numbers = np.zeros(columns, np.int64)
        self._observations = np.empty((columns, limit, agents, battles.obs_size), np.float32)
        self._actions = np.empty((columns, limit, agents), np.int64)
        self._action_mask = np.empty((columns, limit, agents, battles.num_actions), np.bool_)
        self._alive = np.empty((columns, limit, agents), np.bool_)
        self._rewards = np.empty((columns, limit), np.float64)

    def before_step(self, actions: npt.NDArray[np.int64]) -> None:
        """Stores what the agents see, and the joint actions [B, N] that they take."""
        index = (self._columns, self._step)
        self._numbers[:] = self._battles.battle_number
        self._observations[index] = self._battles.observations
        self._actions[index] = actions
        self._action_mask[index] = self._battles.action_mask
        self._alive[index] = self._battles.alive

    def after_step(self, step: PlayedStep) -> None:
        """Stores the rewards, and discards the battles that were dropped."""
        self._rewards[self._columns, self._step] = self._battles.rewards
        # Columns that are not running stay at their step: they overwrite it and never run past the arrays' end.
        self._step += step.running
        self._step[step.dropped] = 0

    def take_episodes(self, finished: npt.NDArray[np.bool_]) -> Iterator[tuple[int, JointEpisode]]:
        """Yields number and episode of the battles that have just ended; their columns start anew."""
        for column in np.flatnonzero(finished):
            steps = slice(0, self._step[column])
            self._step[column] = 0
            yield (
                int(self._numbers[column]),
                JointEpisode(
                    observations=self._observations[column, steps].copy(),
                    actions=self._actions[column, steps].copy(),
                    action_mask=self._action_mask[column, steps].copy(),
                    alive=self._alive[column, steps].copy(),
                    rewards=self._rewards[column, steps].copy(),
                    battle_won=bool(self._battles.battle_won[column]),
                ),
            )


def write_played_episodes(
    team: TeamPolicy,
    battles: BattleBackend,
    num_episodes: int,
    writer: JointTrajectoryWriter,
    provenance: Provenance,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Plays the battles numbered 0 to num_episodes - 1 and writes the set.

    Episode k of the set is battle k, however many battles are played side by side. With the embedded engine the same
    team and seed give the same files again, as long as the team's choice in a battle depends on nothing but that
    battle.

    Args:
        team: Chooses the actions.
        battles: The battles to play; they are reset here.
        num_episodes: At least 1.
        writer: A new writer; it is finished here.
        provenance: Who plays, for the manifest.
        progress: Called with (episodes played, num_episodes) whenever some have ended.

    Raises:
        ValueError: num_episodes is not positive.
        DemonstrationError: The set cannot be written.
    """
    for episode in play_joint_episodes(team, battles, num_episodes, progress=progress):
        writer.append(episode)
    return writer.finish(recorded_world(battles), provenance)


def recorded_world(battles: BattleBackend) -> RecordedWorld:
    """Returns what a manifest says about the world of the battles."""
    return RecordedWorld(
        map=battles.map_name,
        scenario_hash=battles.map_spec.scenario_hash,
        backend=battles.backend,
        engine_version=battles.engine_version,
        engine=_changed(battles.engine_settings),
        smac=_changed(battles.options),
        num_agents=battles.num_agents,
        obs_size=battles.obs_size,
        num_actions=battles.num_actions,
    )


def _changed(settings: EngineSettings | SmacOptions) -> dict[str, Any]:
    """Returns names and values of the fields that differ from their defaults."""
    fields = dataclasses.fields(settings)
    return {f.name: value for f in fields if (value := getattr(settings, f.name)) != f.default}
