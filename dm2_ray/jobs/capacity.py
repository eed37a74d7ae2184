"""Whether a cluster can hold a run, said before the run is handed in.

Ray waits for ever for a place that no node has. The driver makes the same comparison when it starts, but by then a job
has been queued, set up and reported as failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.resources import shortage
from dm2_ray.jobs.dashboard import ClusterError, Node


class ClusterTooSmall(ClusterError):
    """The cluster cannot hold the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceDemand:
    """What a run asks of a cluster."""

    bundles: list[dict[str, float]]
    """Resources of each process, the driver's left out: it runs where the job does."""
    arithmetic: str
    """The same in words."""

    @property
    def total(self) -> dict[str, float]:
        """Sum over all processes."""
        names = {name for bundle in self.bundles for name in bundle}
        sums = {name: sum(bundle.get(name, 0.0) for bundle in self.bundles) for name in sorted(names)}
        return {name: amount for name, amount in sums.items() if amount > 0}


def demand_of(experiment: Experiment) -> ResourceDemand:
    """What a run of this experiment starts.

    Raises:
        ValueError: The experiment cannot be run as it is.
    """
    from dm2_ray.runs.trainables import build_setup

    plan = build_setup(experiment)
    return ResourceDemand(bundles=plan.bundles, arithmetic=plan.arithmetic)


def check_capacity(demand: ResourceDemand, nodes: Sequence[Node]) -> None:
    """Compares a demand with all that the nodes have, used or not: a busy cluster becomes free again.

    Raises:
        ClusterTooSmall: The sum is too small, or the nodes cannot hold all processes, each whole on one of them.
    """
    problem = shortage(demand.bundles, [node.resources for node in nodes])
    if problem is not None:
        needed, there = problem
        raise ClusterTooSmall(
            f"the run needs {needed} ({demand.arithmetic}), {there} ({describe(nodes)}): use fewer "
            "rollout.env_runners, smaller learners.cpus_per_learner or learners.processes=driver, or add nodes"
        )


def describe(nodes: Sequence[Node]) -> str:
    """The nodes' processors in words."""
    if not nodes:
        return "no living node"
    parts = []
    for node in nodes:
        gpus = node.resources.get("GPU", 0.0)
        words = f"{node.resources.get('CPU', 0.0):g} CPU" + (f" + {gpus:g} GPU" if gpus else "")
        parts.append(f"head {words}" if node.is_head else f"{node.ip} {words}")
    shown = parts if len(parts) <= 6 else [*parts[:5], f"… {len(parts) - 5} more"]
    return ", ".join(shown)
