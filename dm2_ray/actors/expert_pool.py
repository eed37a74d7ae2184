"""Processes that serve concurrently sampled joint trajectories.

A draw is a pure function of (set, seed, iteration): whichever process answers, and however often it was restarted,
all agents get their slices of the same joint episodes.
"""

from __future__ import annotations

from typing import Any

import ray

from dm2_ray.config import DemonstrationSettings
from dm2_ray.demonstrations.expert import ExpertActor


class ExpertPool:
    """`expert_actors` processes with one demonstration set each; they take turns."""

    def __init__(
        self, settings: DemonstrationSettings, *, seed: int, num_agents: int, first_bundle_index: int | None = None
    ) -> None:
        """
        Args:
            settings: Which set, how many episodes a draw, how many processes (0: read in this one).
            seed: The experiment's seed.
            num_agents: Slices per draw.
            first_bundle_index: Of the experts' bundles in the current placement group, or None outside of one.

        Raises:
            DemonstrationError: The set cannot be served.
        """
        if settings.path is None:
            raise ValueError("demonstrations.path is not set")
        self._num_agents = num_agents
        arguments: dict[str, Any] = {
            "path": settings.path,
            "settings": settings,
            "seed": seed,
            "num_agents": num_agents,
        }
        self._local = ExpertActor(**arguments) if settings.expert_actors == 0 else None
        self._actors: list[Any] = []
        for index in range(settings.expert_actors):
            bundle = -1 if first_bundle_index is None else first_bundle_index + index
            # A draw has no side effect: Ray may restart the process and repeat the call as often as it likes.
            actor = ray.remote(ExpertActor).options(
                num_cpus=settings.cpus_per_expert_actor,
                max_restarts=-1,
                max_task_retries=-1,
                placement_group_bundle_index=bundle,
            )
            self._actors.append(actor.remote(**arguments))

    def wait_until_ready(self) -> None:
        """Returns once every process has read its set; raises what went wrong there."""
        ray.get([actor.ping.remote() for actor in self._actors])

    def draw(self, iteration: int) -> list[Any]:
        """The iteration's joint draw: per agent a reference to its slice (the slice itself without processes)."""
        if self._local is not None:
            return list(self._local.draw(iteration))
        actor = self._actors[iteration % len(self._actors)]
        returned = actor.draw.options(num_returns=self._num_agents).remote(iteration)
        return list(returned) if isinstance(returned, list) else [returned]

    @property
    def actors(self) -> list[Any]:
        """Handles of the processes."""
        return list(self._actors)

    def shutdown(self) -> None:
        """Ends the processes."""
        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
        self._actors = []
