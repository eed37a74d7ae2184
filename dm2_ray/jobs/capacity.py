"""Whether a cluster can hold a run, said before the run is handed in.

Ray waits for ever for a place that no node has. The driver makes the same comparison when it starts, but by then a job
has been queued, set up and reported as failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dm2_ray.config import Experiment
from dm2_ray.jobs.dashboard import ClusterError, Node

_ROUNDING = 1e-6


class ClusterTooSmall(ClusterError):
    """The cluster cannot hold the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
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


def demand_of(experiment: Experiment) -> Demand:
    """What a run of this experiment starts.

    Raises:
        ValueError: The experiment cannot be run as it is.
    """
    from dm2_ray.experiments.algorithms import plan_of

    plan = plan_of(experiment)
    return Demand(bundles=plan.bundles, arithmetic=plan.arithmetic)


def check_capacity(demand: Demand, nodes: Sequence[Node]) -> None:
    """Compares a demand with all that the nodes have, used or not: a busy cluster becomes free again.

    Raises:
        ClusterTooSmall: The sum is too small, or no single node can hold one of the processes.
    """
    offered = total_resources(nodes)
    for name, amount in demand.total.items():
        if amount > offered.get(name, 0.0) + _ROUNDING:
            raise ClusterTooSmall(
                f"the run needs {amount:g} {name} ({demand.arithmetic}), the cluster has {offered.get(name, 0.0):g} "
                f"({describe(nodes)}): use fewer rollout.env_runners, smaller learners.cpus_per_learner or "
                "learners.processes=driver, or add nodes"
            )
    for bundle in demand.bundles:
        if not any(_holds(node, bundle) for node in nodes):
            wanted = " + ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            raise ClusterTooSmall(
                f"a process of the run needs {wanted} on one node ({demand.arithmetic}), and no node has that "
                f"({describe(nodes)}): make processes smaller, or add a larger node"
            )


def total_resources(nodes: Sequence[Node]) -> dict[str, float]:
    """Sum over the nodes."""
    total: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.resources.items():
            total[name] = total.get(name, 0.0) + amount
    return total


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


def _holds(node: Node, bundle: dict[str, float]) -> bool:
    return all(amount <= node.resources.get(name, 0.0) + _ROUNDING for name, amount in bundle.items())
