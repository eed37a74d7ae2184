"""SelfImitationActor: what a process does for self-imitation; it loads neither torch nor RLlib for it."""

from __future__ import annotations

import numpy as np

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.best_episodes import BestEpisodes, discounted_returns
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory

EPISODES_PER_ITERATION = 2**32
"""Room between the ids of two iterations' episodes: an id says in which iteration a battle was played."""


class SelfImitationActor:
    """Keeps the best of what it is handed; it has no state."""

    def __init__(self, settings: DemonstrationSettings, seed: int, gamma: float, num_agents: int) -> None:
        """
        Args:
            settings: How many episodes to keep and to draw, who gets which.
            seed: The experiment's seed.
            gamma: Discount of rewards.
            num_agents: N.
        """
        self._settings = settings
        self._seed = seed
        self._gamma = gamma
        self._num_agents = num_agents

    def absorb(
        self, store: BestEpisodes | None, agent_index: int, iteration: int, *trajectories: AgentTrajectory
    ) -> tuple[BestEpisodes | None, AgentDemonstration, dict[str, float]]:
        """Adds an iteration's battles to an agent's store and draws from it.

        Args:
            store: The agent's store before; None if it is empty.
            agent_index: Whose.
            iteration: Which.
            trajectories: This agent's part of the iteration's rollouts, in the rollouts' order.

        Returns:
            The store after, or None if none of these battles is good enough; the agent's slice of the iteration's
            draw; and what there is to report.

        Raises:
            DemonstrationError: There are not yet enough battles for the draw.
        """
        new: list[BestEpisodes] = []
        first_id = iteration * EPISODES_PER_ITERATION
        for trajectory in trajectories:
            new.append(_ranked(trajectory, agent_index, first_id, self._gamma))
            first_id += trajectory.num_episodes
        best = BestEpisodes.top_k([*([] if store is None else [store]), *new], self._settings.store_episodes)
        try:
            places = draw_episodes(
                best.num_episodes,
                self._num_agents,
                self._settings.episodes_per_draw,
                self._seed,
                iteration,
                self._settings.sampling,
            )
        except ValueError as error:
            raise DemonstrationError(f"best own battles after iteration {iteration}: {error}") from None
        report = {
            "episodes": best.num_episodes,
            "episodes_new": int((best.episode_ids >= iteration * EPISODES_PER_ITERATION).sum()),
            "score_lowest": float(best.scores.min()),
            "score_mean": float(best.scores.mean()),
        }
        return (
            (None if best is store else best),
            AgentDemonstration.from_episodes(best).select(places[agent_index]),
            report,
        )


def _ranked(trajectory: AgentTrajectory, agent_index: int, first_id: int, gamma: float) -> BestEpisodes:
    """An agent's battles as episodes to keep; nothing is copied."""
    return BestEpisodes.from_episodes(
        trajectory,
        agent_index=agent_index,
        episode_ids=first_id + np.arange(trajectory.num_episodes),
        scores=discounted_returns(trajectory.rewards, trajectory.episode_lengths, gamma),
    )
