"""A trained team that acts from Python, without Ray: `dm2_ray.load_team(run).act(observations, action_mask)`.

Shapes: B battles side by side, N agents, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.checkpoints import Checkpoint, open_checkpoint
from dm2_ray.distributed.rollout.stacked_policies import load_policies
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.backend import BattleBackend


class Team:
    """The policies of a checkpoint, each agent's own, and their memory of the battles under way.

    A team acts in one battle or in several side by side. Its policies are recurrent, so it has to be told when a battle
    is over: `reset` forgets all battles, `reset_finished` some of them.
    """

    def __init__(self, checkpoint: Checkpoint, *, greedy: bool = True, seed: int = 0) -> None:
        """Use `load_team`.

        Args:
            checkpoint: Whose policies.
            greedy: Take the most probable action; otherwise actions are drawn.
            seed: Of the drawn actions.
        """
        self.checkpoint = checkpoint
        self.world = checkpoint.experiment().world
        """The settings of the world that the team was trained in."""
        self.map_name = checkpoint.map
        self.num_agents = checkpoint.num_agents
        self.obs_size = checkpoint.obs_size
        self.num_actions = checkpoint.num_actions
        self.agent_ids = tuple(f"agent_{index}" for index in range(checkpoint.num_agents))
        """Names of the agents, in the order of the axis N."""
        self._policies = load_policies(checkpoint, greedy=greedy, seed=seed)
        self._num_battles = 0

    def act(
        self, observations: npt.NDArray[np.floating], action_mask: npt.NDArray[np.bool_ | np.integer]
    ) -> npt.NDArray[np.int64]:
        """One step of all agents.

        Args:
            observations: [N, O] in one battle, or [B, N, O] in B battles. Zeros for dead agents.
            action_mask: [N, A] or [B, N, A], which actions are available: at least one for every agent.

        Returns:
            Actions [N] or [B, N].

        Raises:
            ValueError: A shape is wrong, no action is available, or B is not that of the battles under way.
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
            raise ValueError("action_mask must leave every agent an action, a dead one action 0")
        if self._num_battles == 0:
            self._policies.begin_battles(count)
            self._num_battles = count
        elif count != self._num_battles:
            raise ValueError(f"{self._num_battles} battles are under way, found {count}: reset() before others begin")
        actions, _ = self._policies.act_with_logp(observations, mask)
        joint_actions = actions.T.numpy().copy()
        return joint_actions[0] if is_single else joint_actions

    def act_by_agent(self, views: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> dict[str, int]:
        """`act` in one battle of the PettingZoo environment, `dm2_ray.world.parallel_env`.

        Args:
            views: By agent its "observation" [O] and "action_mask" [A]; agents that are missing are dead.

        Returns:
            The actions of these agents.
        """
        observations = np.zeros((self.num_agents, self.obs_size), np.float32)
        mask = np.zeros((self.num_agents, self.num_actions), np.bool_)
        mask[:, 0] = True  # all that a dead agent can do
        indices = {agent: self.agent_ids.index(agent) for agent in views}
        for agent, index in indices.items():
            observations[index], mask[index] = views[agent]["observation"], views[agent]["action_mask"]
        actions = self.act(observations, mask)
        return {agent: int(actions[index]) for agent, index in indices.items()}

    def reset(self, seed: int | None = None) -> None:
        """Forgets all battles; as many or as few as wanted can begin.

        Args:
            seed: Starts a new stream of drawn actions; None goes on with the present one.
        """
        self._num_battles = 0
        if seed is not None:
            self._policies.begin_battles(0, seed)

    def reset_finished(self, finished: npt.NDArray[np.bool_]) -> None:
        """Forgets the battles that ended, [B] bool; in their places others begin.

        Raises:
            ValueError: It is not one entry per battle under way.
        """
        finished = np.atleast_1d(np.asarray(finished, np.bool_))
        if finished.shape != (self._num_battles,):
            raise ValueError(f"finished must be [{self._num_battles}] bool, found {list(finished.shape)}")
        self._policies.reset_finished(finished)

    def build_battles(self, num_battles: int, seed: int = 0) -> BattleBackend:
        """Battles in the world that the team was trained in, its SMAC arguments and scenario included.

        Args:
            num_battles: How many are played side by side.
            seed: Of the battles' own randomness.
        """
        return build_battles(self.world, num_battles, seed)


def load_team(path: str | PathLike[str], *, best: bool = False, greedy: bool = True, seed: int = 0) -> Team:
    """The team in a checkpoint, DM2's, IPPO's or MAPPO's. Files are read without being trusted; no Ray is started.

    Args:
        path: A checkpoint, or a run directory: then its newest intact checkpoint.
        best: Of a run directory, the checkpoint of the highest win rate in evaluations instead of the newest.
        greedy: Take the most probable action, as evaluations do; otherwise actions are drawn.
        seed: Of the drawn actions.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    return Team(open_checkpoint(Path(path).expanduser(), best=best), greedy=greedy, seed=seed)
