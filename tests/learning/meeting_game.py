"""A world in which every answer can be computed: two agents who are paid for meeting at an end of a corridor.

Shapes: B corridors side by side, N = 2 agents, T = 6 steps, P = 5 places, O = P + T observation size, E episodes.

    0 . 1 . 2 . 3 . 4       A step leads one place to the left or to the right; walls hold. Both start at one place.

For every step that both begin at the left end the team is paid payoffs[0], at the right end payoffs[1], otherwise
nothing. Neither sees the other: an observation is the own place and the time, one-hot. Hence two equilibria, "both
left" and "both right", and nothing in an observation says which one the other agent is going for.

A memoryless policy is a table, `walk` [T, P]: the probability of a step to the right at each time and place. Given the
time the two agents are independent of each other, so visitations, returns and distances follow from the tables exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dm2_ray.learning.episodes import AgentDemonstration

N, T, P = 2, 6, 5
OBS_SIZE = P + T
LEFT, RIGHT = 0, 1
ENDS = (0, P - 1)

Floats = npt.NDArray[np.float64]
Walk = Floats
"""[T, P] probability of a step to the right."""
Team = tuple[Walk, Walk]


@dataclass(frozen=True, kw_only=True)
class MeetingGame:
    """The payoffs, where both agents start, and what follows from tables."""

    payoffs: tuple[float, float] = (0.25, 0.25)
    """For a step begun together at the left end, and at the right end."""
    start: int = 2
    """Place, 0 to P - 1. From the middle four of the steps can begin at an end."""

    def visitation(self, walk: Walk) -> Floats:
        """[T, P] probability of being at each place when each step begins; every row sums to 1."""
        places = np.zeros((T, P))
        places[0, self.start] = 1.0
        for t in range(T - 1):
            right = places[t] * walk[t]
            left = places[t] - right
            places[t + 1, 1:] += right[:-1]
            places[t + 1, -1] += right[-1]
            places[t + 1, :-1] += left[1:]
            places[t + 1, 0] += left[0]
        return places

    def time_at_ends(self, walk: Walk) -> Floats:
        """[2] expected steps of an episode that an agent begins at the left end, and at the right end."""
        time: Floats = self.visitation(walk)[:, ENDS].sum(axis=0)
        return time

    def meetings(self, team: Team) -> Floats:
        """[2] expected steps of an episode that both begin at the left end, and at the right end."""
        one, other = (self.visitation(walk)[:, ENDS] for walk in team)
        steps: Floats = (one * other).sum(axis=0)
        return steps

    def team_return(self, team: Team) -> float:
        """Expected and undiscounted."""
        return float(self.meetings(team) @ np.array(self.payoffs))

    def own_distances(self, team: Team, *experts: Team) -> Floats:
        """[N] total variation between each agent's visitation of (time, place) and its own expert's; with several
        expert teams, theirs who play equally often."""
        return np.array(
            [
                _total_variation(self.visitation(walk), np.mean([self.visitation(walks) for walks in own], axis=0))
                for walk, *own in zip(team, *experts, strict=True)
            ]
        )

    def joint_distance(self, team: Team, *experts: Team) -> float:
        """The same of the visitations of (time, place, other's place)."""
        return _total_variation(self._joint(team), np.mean([self._joint(expert) for expert in experts], axis=0))

    def _joint(self, team: Team) -> Floats:
        """[T, P, P]"""
        one, other = (self.visitation(walk) for walk in team)
        return one[:, :, None] * other[:, None, :]


class Corridors:
    """B corridors, stepped together: as much of a BattleBackend as the collector asks for."""

    num_agents, num_actions, obs_size, episode_limit = N, 2, OBS_SIZE, T

    def __init__(self, game: MeetingGame, num_battles: int) -> None:
        self.num_battles = num_battles
        self.action_mask = np.ones((num_battles, N, 2), bool)
        self.alive = np.ones((num_battles, N), bool)
        self.truncated = self.dropped = self.battle_won = np.zeros(num_battles, bool)
        self._payoffs = np.zeros((P, P))
        self._payoffs[ENDS, ENDS] = game.payoffs
        self._start = game.start
        self.reset()

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        self._places = np.full((self.num_battles, N), self._start)
        self._times = np.zeros((self.num_battles, 1), np.int64)
        self.observations = observe(self._places, self._times)

    def step(self, actions: npt.NDArray[np.int64], running: npt.NDArray[np.bool_] | None = None) -> None:
        self.rewards = self._payoffs[self._places[:, 0], self._places[:, 1]]
        self._places = np.clip(self._places + 2 * actions - 1, 0, P - 1)
        self._times = self._times + 1
        self.final_observations = observe(self._places, self._times)
        self.terminated = self._times[:, 0] == T
        self._places[self.terminated], self._times[self.terminated] = self._start, 0
        self.observations = observe(self._places, self._times)


def observe(places: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """[..., O]; at time T, when all is over, there is no time to be seen."""
    places, times = np.broadcast_arrays(places, times)
    return np.concatenate([np.eye(P)[places], np.eye(T + 1, T)[times]], axis=-1).astype(np.float32)


def walker(goal: int, slips: float = 0.1) -> Walk:
    """Goes to an end and stays there, but for a share of steps the wrong way."""
    return np.full((T, P), 1.0 - slips if goal == RIGHT else slips)


def recorded_walkers(
    game: MeetingGame, goals: Sequence[int], seed: int, slips: float = 0.1
) -> tuple[AgentDemonstration, ...]:
    """Each agent's slice of E joint episodes; in episode e both are walkers with `goals[e]`."""
    rng = np.random.default_rng(seed)
    corridors, ends = Corridors(game, len(goals)), np.array(goals)[:, None]
    observations, actions = np.empty((len(goals), T, N, OBS_SIZE), np.float32), np.empty((len(goals), T, N), np.int64)
    for t in range(T):
        observations[:, t] = corridors.observations
        actions[:, t] = np.where(rng.random((len(goals), N)) < slips, 1 - ends, ends)
        corridors.step(actions[:, t])
    steps = len(goals) * T
    return tuple(
        AgentDemonstration(
            agent_index=agent,
            observations=observations[:, :, agent].reshape(steps, OBS_SIZE),
            actions=actions[:, :, agent].reshape(steps),
            action_mask=np.ones((steps, 2), bool),
            alive=np.ones(steps, bool),
            episode_lengths=np.full(len(goals), T),
            episode_ids=np.arange(len(goals)),
        )
        for agent in range(N)
    )


def _total_variation(one: Floats, other: Floats) -> float:
    """Between visitations whose entries sum to T."""
    return float(np.abs(one - other).sum() / (2 * T))
