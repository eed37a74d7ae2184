"""Serves demonstration sets: one draw per iteration, one slice per agent.

    read(agent)             everything that one agent saw and did, once per run; whoever calls keeps it
    draw(iteration, *whole) the iteration's slices, from what `read` returned

A draw is handed the data with the call, so processes that share a memory share one copy of the set, however many of
them draw from it. Free of torch and Ray; who wants it in a process of its own makes it a remote actor.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.world.configured import ConfiguredWorld


class EpisodeServer:
    """Answers draws; it has no state that a draw changes."""

    def __init__(self, settings: DemonstrationSettings, world: ConfiguredWorld, seed: int) -> None:
        """
        Args:
            settings: which sets, how many episodes a draw, who gets which.
            world: what the sets have to fit.
            seed: the experiment's seed.
        """
        self._settings = settings
        self._world = world
        self._seed = seed
        self._sets: list[JointTrajectories] = []

    def read(self, agent_index: int) -> tuple[AgentDemonstration, int]:
        """All that agent `agent_index` may be shown, and how many episodes that is.

        Raises:
            DemonstrationError: as `open_experts`.
        """
        if not self._sets:
            self._sets = open_experts(self._settings, self._world)
        demonstrations = self._sets[agent_index if len(self._sets) > 1 else 0]
        return demonstrations.read_agent(agent_index), demonstrations.num_episodes

    def draw(self, iteration: int, *whole: AgentDemonstration) -> tuple[Any, ...]:
        """The iteration's demonstrations, entry i for agent i, and what there is to report of them (nothing); the same
        for equal (sets, settings, seed, iteration).

        Args:
            iteration: which draw.
            whole: what `read` returned, of every agent in order.
        """
        settings = self._settings
        places = draw_episodes(
            [demonstration.num_episodes for demonstration in whole],
            len(whole),
            settings.episodes_per_draw,
            self._seed,
            iteration,
            settings.sampling,
        )
        return (*(all_of_it.select(own) for all_of_it, own in zip(whole, places, strict=True)), {})


def expert_names(settings: DemonstrationSettings, num_agents: int) -> tuple[str, ...]:
    """The experts as the configuration names them: one joint team, or one team per agent.

    Raises:
        DemonstrationError: neither is named, both are, or there are not as many teams as agents.
    """
    if settings.path is not None and settings.paths_per_agent:
        raise DemonstrationError(
            "demonstrations.path (one joint team) and demonstrations.paths_per_agent (independent teams) are both "
            "given: set the other to null or []"
        )
    if settings.path is not None:
        return (settings.path,)
    if not settings.paths_per_agent:
        raise DemonstrationError(
            "matching and cloning need experts, but demonstrations.path is not set: record a set with "
            "`dm2 demos record`, or set matching.coefficient to 0 (IPPO)"
        )
    if len(settings.paths_per_agent) != num_agents:
        raise DemonstrationError(
            f"demonstrations.paths_per_agent names {len(settings.paths_per_agent)} teams, this run has {num_agents} "
            "agents: name one per agent, or one joint team as demonstrations.path"
        )
    return settings.paths_per_agent


def open_experts(settings: DemonstrationSettings, world: ConfiguredWorld) -> list[JointTrajectories]:
    """Opens the sets: one, or one per agent.

    Raises:
        DemonstrationError: a set is missing, damaged or of another world, or has too few episodes for the draw.
    """
    names = expert_names(settings, world.num_agents)
    # A set that several agents take from is opened once.
    opened = {name: JointTrajectories.open(name) for name in dict.fromkeys(names)}
    for demonstrations in opened.values():
        demonstrations.check_world(**asdict(world), other_engine=settings.other_engine)
        # Draws once from each, so that what is wrong with it is said of it, and now.
        try:
            draw_episodes(
                demonstrations.num_episodes, world.num_agents, settings.episodes_per_draw, 0, 0, settings.sampling
            )
        except ValueError as error:
            raise DemonstrationError(f"demonstration set {demonstrations.path}: {error}") from None
    return [opened[name] for name in names]
