"""EpisodeServer: serves demonstration sets, one draw per iteration and one slice per agent.

    read(agent)                 everything that one agent saw and did, once per run; the caller keeps it
    draw(iteration, *episodes)  the iteration's slices, taken from what `read` returned

A draw is given the data with the call, so processes that share a memory share one copy of the set, however many of
them draw from it. This module needs neither torch nor Ray; to serve from a process of its own, host an EpisodeServer
in a remote actor.
"""

from __future__ import annotations

from typing import Any

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.demonstrations.source_checks import open_sets
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.world.configured import ConfiguredWorld


class EpisodeServer:
    """Answers draws; no draw changes its state.

    Args:
        settings: Which sets, how many episodes a draw, which agent gets which.
        world: What the sets have to fit.
        seed: The experiment's seed.
    """

    def __init__(self, settings: DemonstrationSettings, world: ConfiguredWorld, seed: int) -> None:
        self._settings = settings
        self._world = world
        self._seed = seed
        self._sets: list[JointTrajectories] = []

    def read(self, agent_index: int) -> tuple[AgentDemonstration, int]:
        """Returns all episodes that agent `agent_index` may be shown, and their number.

        Raises:
            DemonstrationError: As `open_sets`.
        """
        if not self._sets:
            self._sets = open_sets(self._settings, self._world)
        demonstrations = self._sets[agent_index if len(self._sets) > 1 else 0]
        return demonstrations.read_agent(agent_index), demonstrations.num_episodes

    def draw(self, iteration: int, *episodes: AgentDemonstration) -> tuple[Any, ...]:
        """Returns the iteration's demonstrations, entry i for agent i, and a report (empty). The answer is the same for
        equal (sets, settings, seed, iteration).

        Args:
            iteration: Which draw.
            episodes: What `read` returned for every agent, in order.
        """
        settings = self._settings
        positions = draw_episodes(
            [own.num_episodes for own in episodes],
            len(episodes),
            settings.episodes_per_draw,
            self._seed,
            iteration,
            settings.sampling,
        )
        return (*(own.select(drawn) for own, drawn in zip(episodes, positions, strict=True)), {})
