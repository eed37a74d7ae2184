"""DemonstrationSource: what the driver draws the agents' demonstrations from, iteration by iteration.

    prefetch(iteration)             work that can be done beforehand begins
    draw(iteration, trajectories)   per agent a reference to its slice

A draw is a pure function of its inputs (sets, teams, the team's own battles), the seed and the iteration: whichever
process answers, and however often it was restarted, all agents get their slices of the same joint episodes.

    StoredDemonstrations   demonstration sets, read once; one copy in the memory of every node that draws from them
    LiveDemonstrations     teams that play fresh battles (live.py)
    SelfImitation          the team's own best battles so far (self_imitation.py)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.episode_server import EpisodeServer
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions, EpisodeServerPool, Request
from dm2_ray.distributed.errors import ExpertsLost
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.world.configured import ConfiguredWorld


class DemonstrationSource(ABC):
    """Where demonstrations come from.

    Args:
        pool: The processes that do the work.
        num_agents: Slices per draw.
    """

    def __init__(self, pool: EpisodeServerPool, num_agents: int) -> None:
        self._pool = pool
        self._num_agents = num_agents
        self._report: dict[str, float] = {}

    def wait_until_ready(self) -> None:
        """Returns once draws can be answered.

        Raises:
            DemonstrationError: The demonstrations cannot be read.
            ExpertsLost: Nothing was ready in time: something must be wrong with the cluster.
        """
        return

    def prefetch(self, iteration: int) -> None:
        """Begins the work on an iteration's draw, as far as it does not need that iteration's battles."""
        return

    @abstractmethod
    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]]) -> list[Any]:
        """Returns the iteration's joint draw.

        Args:
            iteration: Which; a second draw for the same iteration returns the same.
            trajectories: Element i holds agent i's references to the iteration's own battles, one per rollout.

        Returns:
            Per agent a reference to its slice (the slice itself without processes).
        """

    def report(self) -> dict[str, float]:
        """Returns what the last draw reported about its episodes."""
        return dict(self._report)

    def state(self) -> dict[str, dict[str, Any]] | None:
        """Returns, per agent, what later draws depend on besides seed and iteration; None where there is nothing."""
        return None

    def restore(self, state: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Inverse of `state`."""
        return

    @property
    def actors(self) -> list[Any]:
        """Handles of the processes."""
        return list(self._pool.actors)

    def shutdown(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


class StoredDemonstrations(DemonstrationSource):
    """Demonstration sets on disk.

    Each process reads some agents' parts. What it has read lies in Ray's object store, where the processes of a node
    share it, and this object holds the references: nothing is lost with a process.
    """

    def __init__(
        self, settings: DemonstrationSettings, world: ConfiguredWorld, *, seed: int, options: ActorOptions
    ) -> None:
        """
        Args:
            settings: Which sets, how many episodes a draw, how many processes (0: all in this one).
            world: What the sets have to fit.
            seed: The experiment's seed.
            options: Where the processes go, how long a lost one is waited for, and where losses are logged.
        """
        arguments = {"settings": settings, "world": world, "seed": seed}
        super().__init__(
            EpisodeServerPool(EpisodeServer, arguments, settings, options=options, is_reconstructable=True),
            world.num_agents,
        )
        read = [
            self._pool.submit(Request(turn=agent, method="read", arguments=[agent], parts=2))
            for agent in range(world.num_agents)
        ]
        self._episodes = [episodes for episodes, *_ in read]
        """Per agent, all that it may be shown."""
        self._num_episodes = [count for _, count, _ in read]

    def wait_until_ready(self) -> None:
        counts = [count for count in self._num_episodes if isinstance(count, ray.ObjectRef)]
        # Waits for all, although the first may have failed: Ray logs an error for each call that is running when a
        # process is ended.
        if counts:
            timeout_s = self._pool.options.timeout_s
            _, waiting = ray.wait(counts, num_returns=len(counts), timeout=timeout_s)
            if waiting:
                raise ExpertsLost(
                    f"{len(waiting)} of {len(counts)} parts of the demonstrations were not read within "
                    f"{timeout_s:.0f} s; see `ray status` for the cluster's nodes and resources"
                )
        for count in counts:
            get_if_ref(count)  # the episodes themselves stay where they are

    def prefetch(self, iteration: int) -> None:
        self._pool.prefetch({iteration: self._request(iteration)})

    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]] = ()) -> list[Any]:
        answers = self._pool.answers({iteration: self._request(iteration)})
        *slices, self._report = answers[iteration]
        return slices

    def _request(self, iteration: int) -> Request:
        return Request(
            turn=iteration, method="draw", arguments=[iteration, *self._episodes], parts=self._num_agents + 1
        )
