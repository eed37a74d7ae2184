"""Self-imitation: the team's own best battles so far take the place of an expert's.

    absorb(store_i, agent, iteration, *trajectory_i)  ──►  store'_i, demonstration_i, report

An iteration's battles are absorbed before its draw. The stores lie in Ray's object store and the driver holds their
references; the processes keep nothing. A call is a pure function of its arguments, so one that is lost with its process
is done again. Every agent's store is made of that agent's trajectories alone; that all hold the same joint episodes
follows from the reward, which is the team's (see best_episodes.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations.best_episodes import BestEpisodes, discounted_returns
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions, EpisodeServerPool, Request
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource
from dm2_ray.distributed.errors import ExpertsLost, RolloutDataLost
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.learning.episodes import AgentDemonstration, AgentTrajectory

EPISODES_PER_ITERATION = 2**32
"""Distance between the first ids of two iterations' episodes: an id says in which iteration a battle was played."""


class SelfImitation(DemonstrationSource):
    """The agents' stores of best episodes, and the processes that update them."""

    def __init__(
        self, settings: DemonstrationSettings, *, seed: int, gamma: float, num_agents: int, options: ActorOptions
    ) -> None:
        """
        Args:
            settings: How many episodes to keep and to draw, how many processes (0: all in this one).
            seed: The experiment's seed.
            gamma: Discount of rewards.
            num_agents: N.
            options: Where the processes go, how long a lost one is waited for, and where losses are logged.
        """
        arguments = {"settings": settings, "seed": seed, "gamma": gamma, "num_agents": num_agents}
        super().__init__(EpisodeServerPool(_BestEpisodesServer, arguments, settings, options=options), num_agents)
        self._before: list[Any] = [None] * num_agents
        self._after = self._before
        self._pinned: list[Any] = []
        """The stores of `_after` as values: while they are held, this node keeps a copy, whatever other nodes do."""
        self._iteration: int | None = None
        """The iteration whose battles are in `_after` and not in `_before`."""

    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]]) -> list[Any]:
        """As DemonstrationSource's. A second draw for an iteration, with other references because the battles were lost
        and played again, starts from the stores of the iteration before.

        Raises:
            RolloutDataLost: Trajectories were lost.
            ExpertsLost: The stores were lost with a node, or a process did not come back.
            DemonstrationError: There are not yet enough battles for the draw.
        """
        if iteration != self._iteration:
            self._before, self._iteration = self._after, iteration
        requests = {
            agent: Request(
                turn=iteration + agent,
                method="absorb",
                arguments=[self._before[agent], agent, iteration, *trajectories[agent]],
                parts=3,
            )
            for agent in range(self._num_agents)
        }
        try:
            answers = self._pool.answers(requests)
        except ray.exceptions.RayError as error:
            loss = _describe_loss(error, self._before)
            # An exception that is its own cause would send Ray's error handling into an endless recursion.
            raise loss from (None if loss is error else error)
        stores, slices, reports = zip(*(answers[agent] for agent in requests), strict=True)
        # All agents' stores change in the same iterations.
        self._after = [
            store if report["episodes_new"] else before
            for store, report, before in zip(stores, reports, self._before, strict=True)
        ]
        self._pinned = [get_if_ref(store) for store in self._after]
        self._report = reports[0]
        return list(slices)

    def state(self) -> dict[str, dict[str, Any]] | None:
        stores = [get_if_ref(store) for store in self._after]
        if any(store is None for store in stores):
            return None
        return {f"agent_{index}": store.to_arrays() for index, store in enumerate(stores)}

    def restore(self, state: Mapping[str, Mapping[str, Any]] | None) -> None:
        """As DemonstrationSource's.

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
        self._after = [ray.put(store) for store in stores] if len(self._pool) else stores


def _describe_loss(error: ray.exceptions.RayError, stores: Sequence[Any]) -> Exception:
    cause = getattr(error, "cause", None) or error
    if not isinstance(cause, ray.exceptions.ObjectLostError):
        return error
    if cause.object_ref_hex in {store.hex() for store in stores if isinstance(store, ray.ObjectRef)}:
        return ExpertsLost(
            "the best battles so far were lost with their node; continue from the last checkpoint (dm2 resume)"
        )
    return RolloutDataLost("rollout data were lost with their node")


class _BestEpisodesServer:
    """Adds battles to stores and draws from them; it keeps nothing between calls, and loads neither torch nor RLlib."""

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
