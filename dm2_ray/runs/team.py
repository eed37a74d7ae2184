"""Lets a trained team act from Python, without Ray: `dm2_ray.load_team(name).act(observations, action_mask)`.

Shapes: B battles side by side, N agents, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.checkpoints import TrainedTeam
from dm2_ray.distributed.rollout.stacked_policies import load_policies
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.zoo import open_team


class Team:
    """The policies of a trained team, one per agent, and their memory of the current battles.

    A team acts in one battle or in several side by side. Its policies are recurrent, so call `reset` or
    `reset_finished` when battles end.

    Attributes:
        checkpoint: The checkpoint or packed team that the policies come from.
        world: Settings of the world that the team was trained in.
        agent_ids: Names of the agents, in the order of the axis N.
    """

    def __init__(self, checkpoint: TrainedTeam, *, greedy: bool = True, seed: int = 0) -> None:
        """Loads the policies; `load_team` is more convenient.

        Args:
            checkpoint: The checkpoint or packed team to load.
            greedy: Take the most probable actions; otherwise actions are sampled.
            seed: Seed of the sampled actions.
        """
        self.checkpoint = checkpoint
        self.world = checkpoint.experiment().world
        self.map_name = checkpoint.map
        self.num_agents = checkpoint.num_agents
        self.obs_size = checkpoint.obs_size
        self.num_actions = checkpoint.num_actions
        self.agent_ids = tuple(f"agent_{index}" for index in range(checkpoint.num_agents))
        self._policies = load_policies(checkpoint, greedy=greedy, seed=seed)
        self._num_battles = 0

    def act(
        self, observations: npt.NDArray[np.floating], action_mask: npt.NDArray[np.bool_ | np.integer]
    ) -> npt.NDArray[np.int64]:
        """One step of all agents.

        Args:
            observations: [N, O] in one battle, or [B, N, O] in B battles. Zeros for dead agents.
            action_mask: [N, A] or [B, N, A], True where an action is available; at least one for every agent.

        Returns:
            Actions [N] or [B, N].

        Raises:
            ValueError: A shape is wrong, an agent has no available action, or B is not the number of current battles.
        """
        observations, mask = np.asarray(observations, np.float32), np.asarray(action_mask).astype(np.bool_)
        is_single = observations.ndim == 2
        if is_single:
            observations, mask = observations[None], mask[None]
        count = len(observations)
        for name, found, size in (
            ("observations", observations, self.obs_size),
            ("action_mask", mask, self.num_actions),
        ):
            expected = (count, self.num_agents, size)
            if found.shape != expected:
                raise ValueError(
                    f"{name} must be {list(expected[is_single:])}, found {list(found.shape[is_single:])} "
                    f"({self.map_name}: {self.num_agents} agents, observations of {self.obs_size}, "
                    f"{self.num_actions} actions)"
                )
        if not mask.any(-1).all():
            raise ValueError("action_mask must allow every agent at least one action (action 0 for a dead agent)")
        if self._num_battles == 0:
            self._policies.begin_battles(count)
            self._num_battles = count
        elif count != self._num_battles:
            raise ValueError(
                f"expected {self._num_battles} battles, found {count}: call reset() before starting others"
            )
        actions, _ = self._policies.act_with_logp(observations, mask)
        joint_actions = actions.T.numpy().copy()
        return joint_actions[0] if is_single else joint_actions

    def act_by_agent(self, views: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> dict[str, int]:
        """`act` for one battle of the PettingZoo environment, `dm2_ray.world.parallel_env`.

        Args:
            views: Each agent's "observation" [O] and "action_mask" [A]; agents that are missing are dead.

        Returns:
            The actions of these agents.
        """
        observations = np.zeros((self.num_agents, self.obs_size), np.float32)
        mask = np.zeros((self.num_agents, self.num_actions), np.bool_)
        mask[:, 0] = True  # the only action of a dead agent
        indices = {agent: self.agent_ids.index(agent) for agent in views}
        for agent, index in indices.items():
            observations[index], mask[index] = views[agent]["observation"], views[agent]["action_mask"]
        actions = self.act(observations, mask)
        return {agent: int(actions[index]) for agent, index in indices.items()}

    def reset(self, seed: int | None = None) -> None:
        """Forgets all battles; the next `act` may have any number of them.

        Args:
            seed: Starts a new random stream for sampled actions; None continues the current one.
        """
        self._num_battles = 0
        if seed is not None:
            self._policies.begin_battles(0, seed)

    def reset_finished(self, finished: npt.NDArray[np.bool_]) -> None:
        """Forgets the battles that have ended; new ones start at their indices.

        Args:
            finished: [B] True where a battle has ended.

        Raises:
            ValueError: The shape is wrong.
        """
        finished = np.atleast_1d(np.asarray(finished, np.bool_))
        if finished.shape != (self._num_battles,):
            raise ValueError(f"finished must be [{self._num_battles}] bool, found {list(finished.shape)}")
        self._policies.reset_finished(finished)

    def build_battles(self, num_battles: int, seed: int = 0) -> BattleBackend:
        """Builds battles in the world that the team was trained in, with the same SMAC arguments and scenario.

        Args:
            num_battles: Number of battles played side by side.
            seed: Seed of the battles' randomness.
        """
        return build_battles(self.world, num_battles, seed)


def load_team(path: str | PathLike[str], *, best: bool = False, greedy: bool = True, seed: int = 0) -> Team:
    """Loads a trained team of DM2, IPPO or MAPPO, without trusting its files and without starting Ray.

    Args:
        path: `zoo:MAP/NAME`, one of the teams that are installed with the package; or the path of a packed team, of a
            checkpoint, or of a run directory, of which the newest intact checkpoint is loaded.
        best: Of a run directory, load the checkpoint with the highest win rate in an evaluation instead.
        greedy: Take the most probable actions, as evaluations do; otherwise actions are sampled.
        seed: Seed of the sampled actions.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        PackedTeamError: There is no such team in the zoo, or it is damaged.
    """
    return Team(open_team(path, best=best), greedy=greedy, seed=seed)
