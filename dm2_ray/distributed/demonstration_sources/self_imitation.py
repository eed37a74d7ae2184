"""Self-imitation: the team's own best battles so far stand in for experts.

    absorb(store_i, agent, iteration, *trajectory_i)  ──►  store'_i, demonstration_i, report

An iteration's battles are absorbed before its draw. The stores lie in the object store and their references with the
driver; the processes keep nothing. A call is a pure function of its arguments, so one that is lost with its process is
done again. Every agent's store is made of that agent's trajectories alone; that all hold the same joint episodes
follows from the reward, which is the team's (see best_episodes.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.best_episodes import BestEpisodes
from dm2_ray.distributed.demonstration_sources.self_imitation_actor import SelfImitationActor
from dm2_ray.distributed.demonstration_sources.server_pool import (
    ActorOptions,
    Call,
    EpisodeServerPool,
)
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource
from dm2_ray.distributed.errors import ExpertsLost, RolloutDataLost
from dm2_ray.distributed.object_refs import get_if_ref


class SelfImitation(DemonstrationSource):
    """The agents' stores and who works on them."""

    def __init__(
        self,
        settings: DemonstrationSettings,
        *,
        seed: int,
        gamma: float,
        num_agents: int,
        where: ActorOptions,
    ) -> None:
        """
        Args:
            settings: How many episodes to keep and to draw, how many processes (0: all in this one).
            seed: The experiment's seed.
            gamma: Discount of rewards.
            num_agents: N.
            where: The processes go, how long a lost one is waited for, and who is told of losses.
        """
        arguments = {"settings": settings, "seed": seed, "gamma": gamma, "num_agents": num_agents}
        processes = EpisodeServerPool(SelfImitationActor, arguments, settings, where=where)
        super().__init__(processes, num_agents)
        self._before: list[Any] = [None] * num_agents
        self._after = self._before
        self._pinned: list[Any] = []
        """The stores of `_after` themselves: while they are held, this node keeps a copy, whatever other nodes do."""
        self._iteration: int | None = None
        """Whose battles `_after` has absorbed and `_before` has not."""

    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]]) -> list[Any]:
        """As DemonstrationSource's; asked for again with other references (the battles were lost and played again), it
        starts from the stores of the iteration before.

        Raises:
            RolloutDataLost: Trajectories are gone.
            ExpertsLost: The stores are gone with a node, or a process did not come back.
            DemonstrationError: There are not yet enough battles for the draw.
        """
        if iteration != self._iteration:
            self._before, self._iteration = self._after, iteration
        calls = {
            agent: Call(
                turn=iteration + agent,
                method="absorb",
                arguments=[self._before[agent], agent, iteration, *trajectories[agent]],
            )
            for agent in range(self._num_agents)
        }
        try:
            answers = self.processes.answers(calls, 3)
        except ray.exceptions.RayError as error:
            loss = _what_was_lost(error, self._before)
            # An exception that is its own cause would send Ray's error handling into an endless recursion.
            raise loss from (None if loss is error else error)
        self._after = [
            # All agents' stores change in the same iterations.
            store if answers[agent][2]["episodes_new"] else self._before[agent]
            for agent, (store, _, _) in sorted(answers.items())
        ]
        self._pinned = [get_if_ref(store) for store in self._after]
        self._report = answers[0][2]
        return [demonstration for _, (_, demonstration, _) in sorted(answers.items())]

    def state(self) -> dict[str, dict[str, Any]] | None:
        stores = [get_if_ref(store) for store in self._after]
        if any(store is None for store in stores):
            return None
        return {f"agent_{index}": store.to_arrays() for index, store in enumerate(stores)}

    def restore(self, state: Mapping[str, Mapping[str, Any]] | None) -> None:
        """
        Raises:
            ValueError: It is the state of another team.
        """
        self._iteration = None
        self._after = [None] * self._num_agents
        if state is None:
            return
        agents = [f"agent_{index}" for index in range(self._num_agents)]
        if set(state) != set(agents):
            raise ValueError(f"the state holds the best episodes of {sorted(state)}, this team has {agents}")
        stores = [BestEpisodes.from_arrays(state[agent]) for agent in agents]
        self._after = [ray.put(store) for store in stores] if len(self.processes) else stores


def _what_was_lost(error: ray.exceptions.RayError, stores: Sequence[Any]) -> Exception:
    cause = getattr(error, "cause", None) or error
    if not isinstance(cause, ray.exceptions.ObjectLostError):
        return error
    if cause.object_ref_hex in {store.hex() for store in stores if isinstance(store, ray.ObjectRef)}:
        return ExpertsLost("the best battles so far died with their node; go on from the last checkpoint (dm2 resume)")
    return RolloutDataLost("rollout data died with their node")
