"""Resource arithmetic: what a run asks of the cluster, and an error when the cluster has less.

Without this check, a run on a cluster that is too small silently waits forever for its last actor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations.source_checks import uses_demonstrations
from dm2_ray.distributed.fault_log import FaultKind
from dm2_ray.errors import UserError

Bundle = dict[str, float]
"""Amount per resource (CPU, GPU) that one process asks for."""

_TOLERANCE = 1e-6


class NotEnoughResources(UserError, RuntimeError):
    """The cluster cannot hold the run."""


def check_resources(resources: RunResources) -> None:
    """Compares a run's processes with the nodes of the cluster. Under Tune, which has reserved them, it does nothing.

    Raises:
        NotEnoughResources: Naming the resource, what is needed, what the cluster has, and what to change.
    """
    if ray.util.get_current_placement_group() is not None:
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    problem = shortage(resources.bundles(), nodes)
    if problem is not None:
        raise NotEnoughResources(
            f"the run needs {problem[0]} ({resources.arithmetic()}), {problem[1]}; use fewer rollout.env_runners, "
            "smaller learners.cpus_per_learner or learners.processes=driver, or a larger cluster"
        )


def shortage(bundles: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> tuple[str, str] | None:
    """What is missing to place all bundles, each of them whole on one node.

    Args:
        bundles: Resources of every process.
        nodes: Resources of every node.

    Returns:
        None if everything fits; otherwise what is needed and what the cluster has, in words.
    """
    wanted = [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in bundles]
    for name in sorted({name for bundle in wanted for name in bundle}):
        needed = sum(bundle.get(name, 0.0) for bundle in wanted)
        there = sum(node.get(name, 0.0) for node in nodes)
        if needed > there + _TOLERANCE:
            return f"{needed:g} {name}", f"the cluster has {there:g}"
    free = [dict(node) for node in nodes]
    # Largest first: small bundles fit into what the large ones leave free.
    for bundle in sorted(wanted, key=lambda bundle: (-bundle.get("GPU", 0.0), -bundle.get("CPU", 0.0))):
        place: dict[str, float] | None = next((node for node in free if _holds(node, bundle)), None)
        if place is None:
            amount = " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            return f"{amount} on one node for each process", f"the cluster's {len(nodes)} nodes cannot hold all of them"
        for resource, size in bundle.items():
            place[resource] -= size
    return None


def _holds(node: Mapping[str, float], bundle: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) + _TOLERANCE >= amount for name, amount in bundle.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessGroup:
    """Equal processes of a run.

    Attributes:
        kind: What they do.
        count: How many the run starts with.
        each: What every process of the group asks for.
        limit: Most processes once the cluster has resources for more; None means `count`.
    """

    kind: FaultKind
    count: int
    each: Bundle
    limit: int | None = None

    def arithmetic(self) -> str:
        """The group in words: `3 learners x 0.2 CPU + 0.25 GPU`."""
        name = "expert actors" if self.kind is FaultKind.EXPERT else f"{self.kind.label}s"
        sizes = " + ".join(
            f"{amount:g} {resource}" for resource, amount in self.each.items() if amount or resource == "CPU"
        )
        up_to = f" (up to {self.limit})" if (self.limit or 0) > self.count else ""
        return f"{self.count} {name} x {sizes}{up_to}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResources:
    """What a run asks of the cluster beside its driver, which runs already."""

    groups: tuple[ProcessGroup, ...]
    """In the order of their bundles in Tune's placement group."""
    remark: str | None = None
    """Added to the arithmetic: what runs inside the driver."""

    @classmethod
    def from_experiment(cls, experiment: Experiment, num_agents: int) -> RunResources:
        """The processes that an experiment starts."""
        rollout, learners, demonstrations = experiment.rollout, experiment.learners, experiment.demonstrations
        player = {"CPU": rollout.cpus_per_env_runner}
        players = (
            ProcessGroup(
                kind=FaultKind.ROLLOUT_WORKER, count=rollout.env_runners, each=player, limit=rollout.max_env_runners
            ),
            ProcessGroup(kind=FaultKind.EVALUATION_WORKER, count=experiment.evaluation.env_runners, each=player),
        )
        if experiment.algorithm == "mappo":
            return cls(groups=players, remark="one learner in the driver")
        learner = {"CPU": learners.cpus_per_learner, "GPU": learners.gpus_per_learner}
        expert = {"CPU": demonstrations.cpus_per_expert_actor}
        has_experts = uses_demonstrations(experiment)
        return cls(
            groups=(
                *players,
                ProcessGroup(
                    kind=FaultKind.LEARNER,
                    count=num_agents if learners.processes == "per_agent" else 0,
                    each=learner,
                ),
                ProcessGroup(
                    kind=FaultKind.EXPERT, count=demonstrations.expert_actors if has_experts else 0, each=expert
                ),
            )
        )

    def bundles(self) -> list[Bundle]:
        """One bundle per process."""
        return [dict(group.each) for group in self.groups for _ in range(group.count)]

    @property
    def total(self) -> Bundle:
        """Sum over all processes; resources that no process asks for are left out."""
        bundles = self.bundles()
        sums = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("CPU", "GPU")}
        return {name: amount for name, amount in sums.items() if amount > 0}

    def group(self, kind: FaultKind) -> ProcessGroup:
        """The processes of one kind."""
        return next(group for group in self.groups if group.kind is kind)

    def first_bundle(self, kind: FaultKind) -> int:
        """Index of a kind's first bundle in Tune's placement group, where the driver's bundle comes first."""
        kinds = [group.kind for group in self.groups]
        return 1 + sum(group.count for group in self.groups[: kinds.index(kind)])

    def arithmetic(self) -> str:
        """All groups in words; rollout workers are named even where there are none."""
        named = [group for group in self.groups if group.count or group.kind is FaultKind.ROLLOUT_WORKER]
        return ", ".join([*(group.arithmetic() for group in named), *([self.remark] if self.remark else [])])
