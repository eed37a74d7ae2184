"""EpisodeServer: serves demonstration sets, one draw per iteration and one slice per agent.

    read(agent)                 everything that one agent saw and did, once per run; the caller keeps it
    draw(iteration, *episodes)  the iteration's slices, taken from what `read` returned

The data are an argument of `draw`, so the processes of a node share one copy of the set in shared memory, however many
of them draw from it. This module needs neither torch nor Ray; to serve from a separate process, create an EpisodeServer
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
    """Serves draws; a draw does not change its state.

    Args:
        settings: Which sets, how many episodes per draw, which agent gets which.
        world: The world that the sets have to match.
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
            DemonstrationError: See `open_sets`.
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
