"""A team whose agents sometimes take random actions: the epsilon-greedy noise of demonstrations.

Shapes: B battles, N agents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import TeamPolicy
from dm2_ray.world.scripted.scripted_kernels import mix_in_random


class EpsilonGreedy:
    """Plays as another team does, but each agent's action is replaced with probability epsilon by a uniformly random
    available one. Whether and by which one is a function of (seed, battle number, step, agent).

    Trained policies are told the action that was taken, so that the last action in their input is the true one.

    Args:
        team: The other team.
        epsilon: Probability of a random action, 0 to 1.
        seed: Seed of the random actions.
    """

    def __init__(self, team: TeamPolicy, epsilon: float, seed: int) -> None:
        self._team = team
        self._epsilon = float(epsilon)
        self._seed_word = np.uint64(seed)

    def reset_states(self, battles: BattleBackend) -> None:
        """All battles start."""
        self._team.reset_states(battles)

    def reset_finished(self, finished: NDArray[np.bool_]) -> None:
        """New battles have started in the columns where `finished` [B] is True."""
        self._team.reset_finished(finished)

    def act(self, battles: BattleBackend) -> NDArray[np.int64]:
        """Joint actions [B, N] for all battles as they are now."""
        actions = self._team.act(battles)
        mix_in_random(
            battles.action_mask, battles.battle_number, battles.battle_step, self._seed_word, self._epsilon, actions
        )
        if isinstance(self._team, StackedPolicies):
            self._team.remember_actions(actions)
        return actions
