"""Plays whole battles with stacked policies and lays what each agent saw and did end to end.

Shapes: T steps of the collection, B battles side by side, N agents, O observation size, A actions, Z size of the
global state, E episodes (whole battles), S steps of all episodes.

    time   column 0      column 1                    battles of column 0, then of column 1, ...
      0    battle 0      battle 1                    |0 0 0|2 2 2 2|1 1|3 3 3 3|
      1       0             1             collect    `rows`: where they are in the [T, B] arrays
      2       0             3            ────────►
      3       2             3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import PlayedStep, play_battles


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleStatistics:
    """Results of a collection's battles, in the order of its trajectories."""

    returns: np.ndarray
    """[E] float64, team return."""
    lengths: np.ndarray
    """[E] int64, env steps."""
    won: np.ndarray
    """[E] bool."""
    dropped: int = 0
    """Battles that were lost with their game; nothing else here counts them."""

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
    """Global states of a collection's battles, in the order of its trajectories; no agent sees them."""

    states: np.ndarray
    """[S, Z] float32, before each step."""
    final_states: np.ndarray
    """[E, Z] float32, after each battle's last step."""


class BattleCollector:
    """Plays battles with N stacked policies and keeps what each agent alone saw and did.

    Args:
        battles: The battles to play.
        policies: The policies that play them.
        keep_states: For a centralized critic: `global_states` then holds the states of the last collection that kept
            its trajectories.
    """

    def __init__(self, battles: BattleBackend, policies: StackedPolicies, *, keep_states: bool = False) -> None:
        self.battles = battles
        self.policies = policies
        self.global_states: GlobalStates | None = None
        self._buffer = _StepBuffer(battles, policies, keep_states)

    def collect_battles(
        self, quota: BattleQuota, *, battle_seed: int, action_seed: int, policy_version: int = 0, keep: bool = True
    ) -> tuple[list[AgentTrajectory], BattleStatistics]:
        """Starts new battles and plays until the quota is met and no battle is unfinished.

        Over the embedded engine the result is a pure function of the policies' weights and the arguments. A backend
        may lose battles; those do not count for the quota, the statistics or the trajectories.

        Args:
            quota: How much to play.
            battle_seed: Seed of the battles' own randomness.
            action_seed: Seed of the action noise.
            policy_version: Written into the trajectories.
            keep: False plays for the statistics alone and returns no trajectories.

        Returns:
            One trajectory per agent, and the battles' results.
        """
        self.battles.reset(seed=battle_seed, first_battle=0)
        self.policies.reset_states(self.battles, seed=action_seed)
        tally = _Tally(self.battles, quota)
        buffer = self._buffer if keep else None
        if buffer is not None:
            buffer.clear()
        before_step = None if buffer is None else buffer.before_step
        for step in play_battles(self.battles, self.policies, running=lambda: tally.running, before_step=before_step):
            tally.count(step)
            if buffer is not None:
                buffer.after_step(step)
        # A column plays without a pause, so its battles lie one behind the other (with gaps where one was dropped):
        # order by column, then by time.
        order = sorted(range(len(tally.results)), key=lambda k: tally.results[k][:2])
        results = [tally.results[k] for k in order]
        statistics = BattleStatistics(
            returns=np.array([result.team_return for result in results]),
            lengths=np.array([result.end - result.start for result in results], np.int64),
            won=np.array([result.won for result in results], bool),
            dropped=tally.dropped,
        )
        if buffer is None:
            return [], statistics
        trajectories, self.global_states = buffer.lay_out(results, order, policy_version)
        return trajectories, statistics


class _Result(NamedTuple):
    """One battle that was played to its end."""

    column: int
    start: int
    """Time of its first step."""
    end: int
    """Time after its last step."""
    team_return: float
    won: bool
    terminated: bool


class _Tally:
    """Counts steps and battles, and decides which columns play on."""

    def __init__(self, battles: BattleBackend, quota: BattleQuota) -> None:
        columns = battles.num_battles
        self._battles = battles
        unlimited = np.iinfo(np.int64).max
        self._steps_left = np.full(columns, unlimited)
        self._episodes_left = np.full(columns, unlimited)
        if quota.env_steps is not None:
            self._steps_left = np.full(columns, -(-quota.env_steps // columns))
        else:
            assert quota.episodes is not None
            self._episodes_left = quota.episodes // columns + (np.arange(columns) < quota.episodes % columns)
        self.running: np.ndarray = (self._steps_left > 0) & (self._episodes_left > 0)
        """[B] bool."""
        self.results: list[_Result] = []
        """In the order in which the battles ended."""
        self.dropped = 0
        self._time = 0
        self._started_at = np.zeros(columns, np.int64)
        self._returns = np.zeros(columns)

    def count(self, step: PlayedStep) -> None:
        """Takes in the step that was just played."""
        battles = self._battles
        self._returns += battles.rewards
        self._time += 1
        self._steps_left -= step.running
        if np.count_nonzero(step.dropped):
            self.dropped += int(step.dropped.sum())
            # What was played of a dropped battle is played again.
            self._steps_left += np.where(step.dropped, self._time - self._started_at, 0)
            self._start_again(step.dropped)
        if np.count_nonzero(step.finished):
            for column in np.flatnonzero(step.finished):
                self.results.append(
                    _Result(
                        column=int(column),
                        start=int(self._started_at[column]),
                        end=self._time,
                        team_return=float(self._returns[column]),
                        won=bool(battles.battle_won[column]),
                        terminated=bool(battles.terminated[column]),
                    )
                )
            self._start_again(step.finished)
            self._episodes_left -= step.finished
            is_done = (self._steps_left <= 0) | (self._episodes_left <= 0)
            self.running = self.running & ~(step.finished & is_done)

    def _start_again(self, columns: np.ndarray) -> None:
        self._started_at[columns] = self._time
        self._returns[columns] = 0.0


class _StepBuffer:
    """What was seen and done at every step of a collection, [T, B, ...]; its memory is kept for the next collection."""

    def __init__(self, battles: BattleBackend, policies: StackedPolicies, keep_states: bool) -> None:
        self._battles = battles
        self._policies = policies
        self._keep_states = keep_states
        self._arrays: dict[str, np.ndarray] = {}
        self._capacity = 0
        self.clear()

    def clear(self) -> None:
        """Starts a new collection."""
        self._time = 0
        # Of each finished battle, in the order in which they ended.
        self._final_observations: list[np.ndarray] = []
        self._final_states: list[np.ndarray] = []

    def before_step(self, actions: np.ndarray) -> None:
        """Keeps what the agents see, and the joint actions [B, N] that they take."""
        if self._time == self._capacity:
            self._grow()
        battles, arrays, time = self._battles, self._arrays, self._time
        arrays["observations"][time] = battles.observations
        arrays["action_mask"][time] = battles.action_mask
        arrays["alive"][time] = battles.alive
        arrays["actions"][time] = actions
        arrays["behavior_logp"][time] = self._policies.action_logp.T
        if self._keep_states:
            arrays["states"][time] = battles.state

    def after_step(self, step: PlayedStep) -> None:
        """Keeps the rewards of the step and the last views of the battles that it ended."""
        self._arrays["rewards"][self._time] = self._battles.rewards
        self._time += 1
        for column in step.finished.nonzero()[0]:
            self._final_observations.append(self._battles.final_observations[column].copy())
            if self._keep_states:
                self._final_states.append(self._battles.final_state[column].copy())

    def lay_out(
        self, results: list[_Result], order: list[int], policy_version: int
    ) -> tuple[list[AgentTrajectory], GlobalStates | None]:
        """The given battles end to end: one trajectory per agent, and their global states if those are kept.

        Args:
            results: The battles.
            order: [E] place of each of them in the order in which they ended.
            policy_version: Written into the trajectories.
        """
        battles, time = self._battles, self._time
        columns = battles.num_battles
        rows = np.concatenate([np.arange(result.start, result.end) * columns + result.column for result in results])
        flat = {name: array[:time].reshape(time * columns, *array.shape[2:]) for name, array in self._arrays.items()}
        rewards = flat["rewards"][rows]
        lengths = np.array([result.end - result.start for result in results], np.int64)
        terminated = np.array([result.terminated for result in results], bool)
        final_observations = np.stack([self._final_observations[k] for k in order])
        states = None
        if self._keep_states:
            states = GlobalStates(
                states=flat["states"][rows], final_states=np.stack([self._final_states[k] for k in order])
            )
        trajectories = [
            AgentTrajectory(
                observations=flat["observations"][rows, agent],
                action_mask=flat["action_mask"][rows, agent],
                actions=flat["actions"][rows, agent],
                behavior_logp=flat["behavior_logp"][rows, agent],
                rewards=rewards,
                alive=flat["alive"][rows, agent],
                episode_lengths=lengths,
                terminated=terminated,
                final_observations=final_observations[:, agent].copy(),
                policy_version=policy_version,
            )
            for agent in range(battles.num_agents)
        ]
        return trajectories, states

    def _grow(self) -> None:
        battles = self._battles
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
        for name, array in self._arrays.items():
            grown[name][: self._capacity] = array
        self._arrays, self._capacity = grown, capacity
