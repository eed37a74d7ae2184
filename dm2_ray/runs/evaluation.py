"""Evaluates trained and scripted teams in this process, without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from dm2_ray.checkpoints import TrainedTeam
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
from dm2_ray.world import ScriptedTeam
from dm2_ray.world.backends import build_battles
from dm2_ray.world.scripted import check_scripted_team


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamResult:
    """The results of a team over a number of battles.

    Attributes:
        win_rate_interval: 95 % Wilson interval of the win rate.
        return_mean: Mean sum of the team reward per battle.
        episode_length_mean: Mean length of a battle in env steps.
    """

    episodes: int
    win_rate: float
    win_rate_interval: tuple[float, float]
    return_mean: float
    episode_length_mean: float

    @staticmethod
    def from_statistics(statistics: BattleStatistics) -> TeamResult:
        """The results in a collection's statistics."""
        rate = float(statistics.won.mean())
        return TeamResult(
            episodes=statistics.episodes,
            win_rate=rate,
            win_rate_interval=wilson_interval(rate, statistics.episodes),
            return_mean=float(statistics.returns.mean()),
            episode_length_mean=float(statistics.lengths.mean()),
        )


def evaluate_checkpoint(
    checkpoint: TrainedTeam, *, episodes: int, seed: int, greedy: bool = True, battles_at_once: int = 64
) -> TeamResult:
    """Plays exactly `episodes` battles with a trained team, with the seeds reserved for evaluations."""
    _, statistics = _play(checkpoint, episodes, seed, greedy, battles_at_once, keep=False)
    return TeamResult.from_statistics(statistics)


def evaluate_checkpoint_with_rollouts(
    checkpoint: TrainedTeam, *, episodes: int, seed: int, greedy: bool = True, battles_at_once: int = 64
) -> tuple[TeamResult, JointRollouts]:
    """Plays the same battles as `evaluate_checkpoint`, and also returns what every agent saw and did in them."""
    trajectories, statistics = _play(checkpoint, episodes, seed, greedy, battles_at_once, keep=True)
    return TeamResult.from_statistics(statistics), JointRollouts.from_trajectories(trajectories, statistics)


def _play(
    checkpoint: TrainedTeam, episodes: int, seed: int, greedy: bool, battles_at_once: int, *, keep: bool
) -> tuple[list[AgentTrajectory], BattleStatistics]:
    policies = load_policies(checkpoint, greedy=greedy)
    with closing(build_battles(checkpoint.experiment().world, min(episodes, battles_at_once), seed)) as battles:
        return BattleCollector(battles, policies).collect_battles(
            BattleQuota(episodes=episodes),
            battle_seed=derive_seed(seed, StreamRole.EVALUATION_BATTLES, 0),
            action_seed=derive_seed(seed, StreamRole.EVALUATION_ACTIONS, 0),
            keep=keep,
        )


def evaluate_script(
    name: str, world: WorldSettings, *, episodes: int, seed: int, battles_at_once: int = 64
) -> TeamResult:
    """Plays with a scripted team exactly the battles that `evaluate_checkpoint` plays with the same seed.

    Raises:
        ConfigError: There is no such team.
    """
    played = _play_script(name, world, episodes, seed, battles_at_once)
    return TeamResult.from_statistics(_statistics(played))


def evaluate_script_with_rollouts(
    name: str, world: WorldSettings, *, episodes: int, seed: int, battles_at_once: int = 64
) -> tuple[TeamResult, JointRollouts]:
    """Plays the same battles as `evaluate_script`, and also returns what every agent saw and did in them.

    Raises:
        ConfigError: There is no such team.
    """
    played = list(_play_script(name, world, episodes, seed, battles_at_once))
    return TeamResult.from_statistics(_statistics(played)), JointRollouts.from_episodes(played)


def _play_script(
    name: str, world: WorldSettings, episodes: int, seed: int, battles_at_once: int
) -> Iterator[JointEpisode]:
    check_scripted_team(name)
    with closing(build_battles(world, min(episodes, battles_at_once), seed)) as battles:
        team = ScriptedTeam(name, battles, seed=derive_seed(seed, StreamRole.EVALUATION_ACTIONS, 0))
        battle_seed = derive_seed(seed, StreamRole.EVALUATION_BATTLES, 0)
        yield from play_joint_episodes(team, battles, episodes, seed=battle_seed)


def _statistics(played: Iterable[JointEpisode]) -> BattleStatistics:
    outcomes = [(episode.team_return, episode.num_steps, episode.battle_won) for episode in played]
    returns, lengths, won = (np.array(column) for column in zip(*outcomes, strict=True))
    return BattleStatistics(returns=returns, lengths=lengths, won=won)


def result_record(result: TeamResult) -> dict[str, Any]:
    """A result under the names of metrics.jsonl."""
    return {
        "episodes": result.episodes,
        "win_rate": result.win_rate,
        "win_rate_low": result.win_rate_interval[0],
        "win_rate_high": result.win_rate_interval[1],
        "return_mean": result.return_mean,
        "episode_length_mean": result.episode_length_mean,
    }
