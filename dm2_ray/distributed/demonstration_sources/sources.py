"""DemonstrationSource: whoever provides the agents' demonstrations, iteration by iteration.

    request(iteration)              work that can be done beforehand begins
    draw(iteration, trajectories)   per agent a reference to its slice

A draw is a pure function of what it is made of (sets, teams, the team's own battles), the seed and the iteration:
whichever process answers, and however often it was restarted, all agents get their slices of the same joint episodes.

    StoredDemonstrations   demonstration sets: read once, one copy in the memory of every node that draws from them
    LiveDemonstrations     teams that play fresh battles (live_experts.py)
    SelfImitation   the team's own best battles so far (self_imitation.py)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.episode_server import EpisodeServer
from dm2_ray.distributed.demonstration_sources.server_pool import (
    ActorOptions,
    Call,
    EpisodeServerPool,
)
from dm2_ray.distributed.errors import ExpertsLost
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.world.configured import ConfiguredWorld


class DemonstrationSource(ABC):
    """Where demonstrations come from."""

    def __init__(self, processes: EpisodeServerPool, num_agents: int) -> None:
        self.processes = processes
        self._num_agents = num_agents
        self._report: dict[str, float] = {}

    def wait_until_ready(self) -> None:
        """Returns once draws can be answered.

        Raises:
            DemonstrationError: They cannot.
            ExpertsLost: They cannot for so long that something must be wrong with the cluster.
        """
        return

    def request(self, iteration: int) -> None:
        """Lets work on an iteration's draw begin, as far as it does not need that iteration's battles."""
        return

    @abstractmethod
    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]]) -> list[Any]:
        """The iteration's joint draw.

        Args:
            iteration: Which; asked for again, it is the same.
            trajectories: Element i holds agent i's references to the iteration's own battles, one per rollout.

        Returns:
            Per agent a reference to its slice (the slice itself without processes).
        """

    def report(self) -> dict[str, float]:
        """What there is to tell of the last draw."""
        return dict(self._report)

    def state(self) -> dict[str, dict[str, Any]] | None:
        """Per agent, what later draws depend on besides seed and iteration; None where there is nothing of the kind."""
        return None

    def restore(self, state: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Inverse of `state`."""
        return

    @property
    def actors(self) -> list[Any]:
        """Handles of the processes."""
        return self.processes.actors

    def shutdown(self) -> None:
        """Ends the processes."""
        self.processes.shutdown()


class AsyncDemonstrationSource(DemonstrationSource):
    """Draws that depend on the iteration alone, so that they are begun before they are needed."""

    def __init__(self, processes: EpisodeServerPool, num_agents: int, *, ahead: int = 0) -> None:
        """
        Args:
            processes: Who draws.
            num_agents: Slices per draw.
            ahead: How many later draws are requested along with one.
        """
        super().__init__(processes, num_agents)
        self._ahead = ahead
        self._begun: dict[int, list[Any]] = {}

    def request(self, iteration: int) -> None:
        wanted = range(iteration, iteration + self._ahead + 1)
        self._begun = {k: answer for k, answer in self._begun.items() if k in wanted}
        for k in wanted:
            if k not in self._begun:
                self._begun[k] = self.processes.call(self._call(k), self._num_agents + 1)

    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]] = ()) -> list[Any]:
        # Taken out: whoever asks again has lost what came of it.
        begun = {k: answer for k, answer in self._begun.items() if k == iteration}
        self._begun.pop(iteration, None)
        answers = self.processes.answers({iteration: self._call(iteration)}, self._num_agents + 1, begun=begun)
        *slices, self._report = answers[iteration]
        return slices

    @abstractmethod
    def _call(self, iteration: int) -> Call:
        """What to ask a process for."""


class StoredDemonstrations(AsyncDemonstrationSource):
    """Demonstration sets. Each process reads some agents' parts; what it has read lies in the object store, where the
    processes of a node share it, and this object holds the references: a process that dies takes nothing along."""

    def __init__(
        self,
        settings: DemonstrationSettings,
        world: ConfiguredWorld,
        *,
        seed: int,
        where: ActorOptions,
    ) -> None:
        """
        Args:
            settings: Which sets, how many episodes a draw, how many processes (0: all in this one).
            world: What the sets have to fit.
            seed: The experiment's seed.
            where: The processes go, how long a lost one is waited for, and who is told of losses.
        """
        arguments = {"settings": settings, "world": world, "seed": seed}
        processes = EpisodeServerPool(EpisodeServer, arguments, settings, where=where, is_reconstructable=True)
        super().__init__(processes, world.num_agents)
        self._where = where
        read = [processes.call(Call(turn=i, method="read", arguments=[i]), 2) for i in range(world.num_agents)]
        self._whole = [whole for whole, *_ in read]
        self._num_episodes = [count for _, count, _ in read]

    def wait_until_ready(self) -> None:
        counts = [count for count in self._num_episodes if isinstance(count, ray.ObjectRef)]
        # All of them, though the first may be bad news: Ray complains of calls that are under way when a process ends.
        if counts:
            ready, waiting = ray.wait(counts, num_returns=len(counts), timeout=self._where.timeout_s)
            if waiting:
                raise ExpertsLost(
                    f"{len(waiting)} of {len(counts)} parts of the demonstrations were not read within "
                    f"{self._where.timeout_s:.0f} s; see `ray status` for the cluster's nodes and resources"
                )
        for count in counts:
            get_if_ref(count)  # the data themselves stay where they are

    def _call(self, iteration: int) -> Call:
        return Call(turn=iteration, method="draw", arguments=[iteration, *self._whole])
