"""Serves a demonstration set: one draw per iteration, one slice per agent.

Free of torch and Ray; who wants it in a process of its own makes it a remote actor.
"""

from __future__ import annotations

from pathlib import Path

from dm2_ray.config import DemonstrationSettings
from dm2_ray.demonstrations.agent_demonstration import AgentDemonstration
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.sampling import draw_episodes


class ExpertActor:
    """Holds one set in memory and answers draws; it has no state that a draw changes.

    Raises:
        DemonstrationError: the set cannot be opened, is of another number of agents, or has too few episodes.
    """

    def __init__(self, path: str | Path, settings: DemonstrationSettings, seed: int, num_agents: int) -> None:
        self._demonstrations = JointTrajectories.open(path)
        self._settings = settings
        self._seed = seed
        if num_agents != self._demonstrations.num_agents:
            raise DemonstrationError(
                f"demonstration set {path} has {self._demonstrations.num_agents} agents, this run has {num_agents}"
            )
        # Draws once, so that whatever is wrong with the data shows now and not in the middle of a run.
        self.draw(0)

    def draw(self, iteration: int) -> tuple[AgentDemonstration, ...]:
        """The iteration's demonstrations, entry i for agent i; the same for equal (set, settings, seed, iteration)."""
        try:
            episode_ids = draw_episodes(
                self._demonstrations.num_episodes,
                self._demonstrations.num_agents,
                self._settings.episodes_per_draw,
                self._seed,
                iteration,
                self._settings.sampling,
            )
        except ValueError as error:
            raise DemonstrationError(f"demonstration set {self._demonstrations.path}: {error}") from None
        return tuple(self._demonstrations.agent_slice(agent, ids) for agent, ids in enumerate(episode_ids))

    def ping(self) -> int:
        """Number of episodes held; answering at all says that the set has been read."""
        return self._demonstrations.num_episodes
