"""Whole battles played and laid end to end.

T time, B battles played side by side, N agents, O observation size, A actions, Z size of the global state, E episodes,
S steps of all episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.learning.agent_trajectory import AgentTrajectory
from dm2_ray.world.battles.backend import BattleBackend


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleQuota:
    """When a collection ends; every started battle is finished."""

    env_steps: int | None = None
    """Fewest env steps over all columns, or None."""
    episodes: int | None = None
    """Battles over all columns, exactly, or None."""

    def __post_init__(self) -> None:
        if (self.env_steps is None) == (self.episodes is None):
            raise ValueError("a quota is either env_steps or episodes")


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleStatistics:
    """What came of a collection's battles, in the order of its trajectories."""

    returns: np.ndarray
    """[E] float64, team return."""
    lengths: np.ndarray
    """[E] int64, env steps."""
    won: np.ndarray
    """[E] bool."""
    dropped: int = 0
    """Battles that were lost with their game; they are in nothing else here."""

    @property
    def episodes(self) -> int:
        return len(self.returns)

    @property
    def env_steps(self) -> int:
        return int(self.lengths.sum())

    @staticmethod
    def concatenate(parts: list[BattleStatistics]) -> BattleStatistics:
        return BattleStatistics(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            won=np.concatenate([part.won for part in parts]),
            dropped=sum(part.dropped for part in parts),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalStates:
    """What no agent sees: the states of a collection's battles, in the order of its trajectories."""

    states: np.ndarray
    """[S, Z] float32, before each step."""
    final_states: np.ndarray
    """[E, Z] float32, after each battle's last step."""


class BattleCollector:
    """Plays battles with N stacked policies and keeps what each agent alone saw and did.

    Args:
        battles: Are played.
        policies: Play.
        keep_states: For a centralized critic: `global_states` then holds the states of the last collection that kept
            its trajectories.
    """

    def __init__(self, battles: BattleBackend, policies: StackedPolicies, *, keep_states: bool = False) -> None:
        self.battles = battles
        self.policies = policies
        self.global_states: GlobalStates | None = None
        self._keep_states = keep_states
        self._capacity = 0
        self._columns: dict[str, np.ndarray] = {}

    def collect(
        self, quota: BattleQuota, *, battle_seed: int, action_seed: int, policy_version: int = 0, keep: bool = True
    ) -> tuple[list[AgentTrajectory], BattleStatistics]:
        """Starts fresh battles and plays until the quota is met and no battle is under way.

        Over the embedded engine the result is a pure function of the policies' weights and the arguments. Over a
        backend that may lose battles, those count for nothing: not for the quota, the statistics or the trajectories.

        Args:
            quota: How much to play.
            battle_seed: Seed of the battles' own randomness.
            action_seed: Seed of the action noise.
            policy_version: Stamped on the trajectories.
            keep: False plays for the statistics alone and returns no trajectories.

        Returns:
            One trajectory per agent, and the battles' outcome.
        """
        battles, policies = self.battles, self.policies
        battles.reset(seed=battle_seed, first_battle=0)
        policies.begin(battles, seed=action_seed)
        columns = battles.num_battles
        steps_left, episodes_left = self._shares(quota)
        running = (steps_left > 0) & (episodes_left > 0)
        started_at = np.zeros(columns, np.int64)
        episode_return = np.zeros(columns)
        outcomes: list[tuple[int, int, int, float, bool, bool]] = []
        finals: list[np.ndarray] = []
        final_states: list[np.ndarray] = []
        time = dropped = 0
        while running.any():
            actions, logp = policies.act_with_logp(battles.observations, battles.action_mask)
            joint_actions = actions.T.contiguous().numpy()
            if keep:
                self._reserve(time)
                self._columns["observations"][time] = battles.observations
                self._columns["action_mask"][time] = battles.action_mask
                self._columns["alive"][time] = battles.alive
                self._columns["actions"][time] = joint_actions
                self._columns["behavior_logp"][time] = logp.T
                if self._keep_states:
                    self._columns["states"][time] = battles.state
            battles.step(joint_actions, running)
            if keep:
                self._columns["rewards"][time] = battles.rewards
            episode_return += battles.rewards
            time += 1
            steps_left -= running
            lost = battles.dropped & running
            if lost.any():
                dropped += int(lost.sum())
                steps_left += np.where(lost, time - started_at, 0)
                policies.battles_ended(lost)
                started_at[lost] = time
                episode_return[lost] = 0.0
            ended = (battles.terminated | battles.truncated) & running
            if ended.any():
                for column in np.flatnonzero(ended):
                    outcomes.append((int(column), int(started_at[column]), time, float(episode_return[column]),
                                     bool(battles.battle_won[column]), bool(battles.terminated[column])))  # fmt: skip
                    if keep:
                        finals.append(battles.final_observations[column].copy())
                        if self._keep_states:
                            final_states.append(battles.final_state[column].copy())
                policies.battles_ended(ended)
                started_at[ended] = time
                episode_return[ended] = 0.0
                episodes_left -= ended
                running &= ~(ended & ((steps_left <= 0) | (episodes_left <= 0)))
        # A column plays without a pause, so its battles lie one behind the other (with gaps where one was dropped):
        # order by column, then by time.
        order = sorted(range(len(outcomes)), key=lambda k: outcomes[k][:2])
        outcomes = [outcomes[k] for k in order]
        statistics = BattleStatistics(
            returns=np.array([outcome[3] for outcome in outcomes]),
            lengths=np.array([outcome[2] - outcome[1] for outcome in outcomes], np.int64),
            won=np.array([outcome[4] for outcome in outcomes], bool),
            dropped=dropped,
        )
        if not keep:
            return [], statistics
        terminated = np.array([outcome[5] for outcome in outcomes], bool)
        final_observations = np.stack([finals[k] for k in order])
        rows = np.concatenate([np.arange(start, end) * columns + column for column, start, end, *_ in outcomes])
        flat = {name: array[:time].reshape(time * columns, *array.shape[2:]) for name, array in self._columns.items()}
        rewards = flat["rewards"][rows]
        if self._keep_states:
            self.global_states = GlobalStates(
                states=flat["states"][rows], final_states=np.stack([final_states[k] for k in order])
            )
        trajectories = [
            AgentTrajectory(
                observations=flat["observations"][rows, agent],
                action_mask=flat["action_mask"][rows, agent],
                actions=flat["actions"][rows, agent],
                behavior_logp=flat["behavior_logp"][rows, agent],
                rewards=rewards,
                alive=flat["alive"][rows, agent],
                episode_lengths=statistics.lengths,
                terminated=terminated,
                final_observations=final_observations[:, agent].copy(),
                policy_version=policy_version,
            )
            for agent in range(battles.num_agents)
        ]
        return trajectories, statistics

    def _shares(self, quota: BattleQuota) -> tuple[np.ndarray, np.ndarray]:
        """What each column is to play: fewest steps `[B]` and most battles `[B]`."""
        columns = self.battles.num_battles
        unlimited = np.full(columns, np.iinfo(np.int64).max)
        if quota.env_steps is not None:
            return np.full(columns, -(-quota.env_steps // columns)), unlimited
        assert quota.episodes is not None
        return unlimited.copy(), quota.episodes // columns + (np.arange(columns) < quota.episodes % columns)

    def _reserve(self, time: int) -> None:
        if time < self._capacity:
            return
        battles = self.battles
        capacity = max(64, 2 * self._capacity)
        lead = (capacity, battles.num_battles)
        agents = (*lead, battles.num_agents)
        grown = {
            "observations": np.empty((*agents, battles.obs_size), np.float32),
            "action_mask": np.empty((*agents, battles.num_actions), bool),
            "alive": np.empty(agents, bool),
            "actions": np.empty(agents, np.int64),
            "behavior_logp": np.empty(agents, np.float32),
            "rewards": np.empty(lead, np.float32),
        }
        if self._keep_states:
            grown["states"] = np.empty((*lead, battles.state_size), np.float32)
        for name, array in self._columns.items():
            grown[name][: self._capacity] = array
        self._columns, self._capacity = grown, capacity
