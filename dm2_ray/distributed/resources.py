"""Resource arithmetic: what a run asks of the cluster, and a refusal when the cluster has less.

Without it a run on a cluster that is too small waits for its last actor for ever, silently.

RunResources: what a run starts and what each process asks for, as a list and in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from dm2_ray.config.schema import Experiment
from dm2_ray.errors import UserError

_TOLERANCE = 1e-6


class NotEnoughResources(UserError, RuntimeError):
    """The cluster cannot hold the run."""


def check_resources(bundles: Sequence[Mapping[str, float]], parts: str) -> None:
    """Compares a run's processes with the cluster's nodes.

    Args:
        bundles: Resources of every process beside the driver, which runs already.
        parts: The arithmetic in words, for the message.

    Raises:
        NotEnoughResources: Naming the resource, what is needed, what the cluster has, and what to change.
    """
    if ray.util.get_current_placement_group() is not None:
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    problem = shortage(bundles, nodes)
    if problem is not None:
        raise NotEnoughResources(
            f"the run needs {problem[0]} ({parts}), {problem[1]}; use fewer rollout.env_runners, smaller "
            "learners.cpus_per_learner or learners.processes=driver, or a larger cluster"
        )


def shortage(bundles: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> tuple[str, str] | None:
    """What is missing for all bundles to have a place, each whole on one node.

    Args:
        bundles: Resources of every process.
        nodes: Resources of every node.

    Returns:
        None if everything fits; otherwise what is needed and what there is, in words.
    """
    wanted = [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in bundles]
    for name in sorted({name for bundle in wanted for name in bundle}):
        needed = sum(bundle.get(name, 0.0) for bundle in wanted)
        there = sum(node.get(name, 0.0) for node in nodes)
        if needed > there + _TOLERANCE:
            return f"{needed:g} {name}", f"the cluster has {there:g}"
    free = [dict(node) for node in nodes]
    # Largest first: what is left over then has room between them.
    for bundle in sorted(wanted, key=lambda bundle: (-bundle.get("GPU", 0.0), -bundle.get("CPU", 0.0))):
        place: dict[str, float] | None = next((node for node in free if _holds(node, bundle)), None)
        if place is None:
            amount = " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            return f"{amount} on one node for each process", f"the cluster's {len(nodes)} nodes have no room for all"
        for resource, size in bundle.items():
            place[resource] -= size
    return None


def _holds(node: Mapping[str, float], bundle: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) + _TOLERANCE >= amount for name, amount in bundle.items())


Bundle = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResources:
    """Resources of a run's processes: driver, rollout workers, evaluation workers, learners, expert actors."""

    experiment: Experiment
    num_learners: int
    """Processes of their own; 0 where agents learn in the driver."""
    num_expert_actors: int

    @property
    def learner(self) -> Bundle:
        """Of each learner."""
        settings = self.experiment.learners
        return {"CPU": settings.cpus_per_learner, "GPU": settings.gpus_per_learner}

    def bundles(self) -> list[Bundle]:
        """Of each process but the driver's, which runs already."""
        settings = self.experiment
        players = settings.rollout.env_runners + settings.evaluation.env_runners
        return [
            *[{"CPU": settings.rollout.cpus_per_env_runner}] * players,
            *[self.learner] * self.num_learners,
            *[{"CPU": settings.demonstrations.cpus_per_expert_actor}] * self.num_expert_actors,
        ]

    # Places in Tune's placement group, where the driver's bundle comes first.

    @property
    def first_rollout_worker(self) -> int:
        return 1

    @property
    def first_evaluation_worker(self) -> int:
        return self.first_rollout_worker + self.experiment.rollout.env_runners

    @property
    def first_learner(self) -> int:
        return self.first_evaluation_worker + self.experiment.evaluation.env_runners

    @property
    def first_expert_actor(self) -> int:
        return self.first_learner + self.num_learners

    def arithmetic(self) -> str:
        """The same in words."""
        settings = self.experiment
        cpus = f"x {settings.rollout.cpus_per_env_runner:g} CPU"
        parts = [f"{settings.rollout.env_runners} rollout workers {cpus}"]
        if (settings.rollout.max_env_runners or 0) > settings.rollout.env_runners:
            parts[0] += f" (up to {settings.rollout.max_env_runners})"
        if settings.evaluation.env_runners:
            parts.append(f"{settings.evaluation.env_runners} evaluation workers {cpus}")
        if self.num_learners:
            gpus = f" + {settings.learners.gpus_per_learner:g} GPU" if settings.learners.gpus_per_learner else ""
            parts.append(f"{self.num_learners} learners x {settings.learners.cpus_per_learner:g} CPU{gpus}")
        if self.num_expert_actors:
            per_expert = settings.demonstrations.cpus_per_expert_actor
            parts.append(f"{self.num_expert_actors} expert actors x {per_expert:g} CPU")
        return ", ".join(parts)
