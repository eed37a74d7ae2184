"""Teams that play without a cluster: checkpoints and scripts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dm2_ray.actors.backends import battles_of
from dm2_ray.actors.checkpoint import Checkpoint, CheckpointError
from dm2_ray.actors.collector import BattleCollector, BattleQuota, BattleStatistics
from dm2_ray.actors.stacked import StackedPolicies
from dm2_ray.actors.streams import Role, stream_seed
from dm2_ray.experiments.intervals import wilson_interval


def policies_of(checkpoint: Checkpoint, *, greedy: bool, seed: int = 0) -> StackedPolicies:
    """The checkpoint's team, ready to play.

    Raises:
        CheckpointError: The agents' files do not fit the checkpoint's own configuration.
    """
    policies = StackedPolicies(
        checkpoint.num_agents,
        checkpoint.obs_size,
        checkpoint.num_actions,
        checkpoint.experiment().policy,
        greedy=greedy,
        seed=seed,
    )
    states = [checkpoint.agent_state(index) for index in range(checkpoint.num_agents)]
    try:
        policies.load([state["modules"][f"agent_{index}"] for index, state in enumerate(states)])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit its own configuration ({error})") from error
    return policies


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
    policies = policies_of(checkpoint, greedy=greedy)
    with closing(battles_of(checkpoint.experiment().world, min(episodes, battles_at_once), seed)) as battles:
        _, statistics = BattleCollector(battles, policies).collect(
            BattleQuota(episodes=episodes),
            battle_seed=stream_seed(seed, Role.EVALUATION_BATTLES, 0),
            action_seed=stream_seed(seed, Role.EVALUATION_ACTIONS, 0),
            keep=False,
        )
    return TeamResult.of(statistics)


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
