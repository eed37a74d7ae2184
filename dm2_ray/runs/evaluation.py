"""Teams that play without a cluster: checkpoints and scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from dm2_ray.checkpoints import Checkpoint
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import JointEpisode
from dm2_ray.demonstrations.episode_player import play_joint_episodes
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.battle_collector import BattleCollector, BattleStatistics
from dm2_ray.distributed.rollout.stacked_policies import load_policies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.statistics import wilson_interval
from dm2_ray.world import SCRIPTED_TEAMS, ScriptedTeam
from dm2_ray.world.backends import build_battles


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamResult:
    """How a team did over N battles."""

    episodes: int
    win_rate: float
    win_rate_interval: tuple[float, float]
    """95 % Wilson interval."""
    return_mean: float
    episode_length_mean: float

    @staticmethod
    def of(statistics: BattleStatistics) -> TeamResult:
        rate = float(statistics.won.mean())
        return TeamResult(
            episodes=statistics.episodes,
            win_rate=rate,
            win_rate_interval=wilson_interval(rate, statistics.episodes),
            return_mean=float(statistics.returns.mean()),
            episode_length_mean=float(statistics.lengths.mean()),
        )


def evaluate_checkpoint(
    checkpoint: Checkpoint, *, episodes: int, seed: int, greedy: bool = True, battles_at_once: int = 64
) -> TeamResult:
    """Plays exactly `episodes` battles with the checkpoint's team, on the evaluation's own seeds."""
    _, statistics = _play(checkpoint, episodes, seed, greedy, battles_at_once, keep=False)
    return TeamResult.of(statistics)


def evaluate_checkpoint_with_rollouts(
    checkpoint: Checkpoint, *, episodes: int, seed: int, greedy: bool = True, battles_at_once: int = 64
) -> tuple[TeamResult, JointRollouts]:
    """The same battles as `evaluate_checkpoint` plays, and all that happened in them."""
    trajectories, statistics = _play(checkpoint, episodes, seed, greedy, battles_at_once, keep=True)
    return TeamResult.of(statistics), JointRollouts.from_trajectories(trajectories, statistics)


def _play(
    checkpoint: Checkpoint, episodes: int, seed: int, greedy: bool, battles_at_once: int, *, keep: bool
) -> tuple[list[AgentTrajectory], BattleStatistics]:
    policies = load_policies(checkpoint, greedy=greedy)
    with closing(build_battles(checkpoint.experiment().world, min(episodes, battles_at_once), seed)) as battles:
        return BattleCollector(battles, policies).collect(
            BattleQuota(episodes=episodes),
            battle_seed=derive_seed(seed, StreamRole.EVALUATION_BATTLES, 0),
            action_seed=derive_seed(seed, StreamRole.EVALUATION_ACTIONS, 0),
            keep=keep,
        )


def evaluate_script(
    name: str, world: WorldSettings, *, episodes: int, seed: int, battles_at_once: int = 64
) -> TeamResult:
    """Plays exactly `episodes` battles with a scripted team: those that `evaluate_checkpoint` plays with this seed.

    Raises:
        ConfigError: There is no such team.
    """
    played = _play_script(name, world, episodes, seed, battles_at_once)
    return TeamResult.of(_statistics([(one.team_return, one.num_steps, one.battle_won) for one in played]))


def evaluate_script_with_rollouts(
    name: str, world: WorldSettings, *, episodes: int, seed: int, battles_at_once: int = 64
) -> tuple[TeamResult, JointRollouts]:
    """The same battles as `evaluate_script` plays, and all that happened in them; raises as it does."""
    played = list(_play_script(name, world, episodes, seed, battles_at_once))
    statistics = _statistics([(one.team_return, one.num_steps, one.battle_won) for one in played])
    return TeamResult.of(statistics), JointRollouts.from_episodes(played)


def _play_script(
    name: str, world: WorldSettings, episodes: int, seed: int, battles_at_once: int
) -> Iterator[JointEpisode]:
    if name not in SCRIPTED_TEAMS:
        raise ConfigError(f"unknown scripted team {name!r}; there are {', '.join(SCRIPTED_TEAMS)}")
    with closing(build_battles(world, min(episodes, battles_at_once), seed)) as battles:
        team = ScriptedTeam(name, battles, seed=derive_seed(seed, StreamRole.EVALUATION_ACTIONS, 0))
        battle_seed = derive_seed(seed, StreamRole.EVALUATION_BATTLES, 0)
        yield from play_joint_episodes(team, battles, episodes, seed=battle_seed)


def _statistics(outcomes: Sequence[tuple[float, int, bool]]) -> BattleStatistics:
    returns, lengths, won = (np.array(column) for column in zip(*outcomes, strict=True))
    return BattleStatistics(returns=returns, lengths=lengths, won=won)


def result_record(result: TeamResult) -> dict[str, Any]:
    """A result under the names used in metrics.jsonl."""
    return {
        "episodes": result.episodes,
        "win_rate": result.win_rate,
        "win_rate_low": result.win_rate_interval[0],
        "win_rate_high": result.win_rate_interval[1],
        "return_mean": result.return_mean,
        "episode_length_mean": result.episode_length_mean,
    }
