"""Checks whether a cluster has enough resources for a run, before the run is submitted.

Ray waits forever for resources that no node has. The driver makes the same check when it starts, but by then a job has
been queued, set up and reported as failed.
"""

from __future__ import annotations

from collections.abc import Sequence

from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.resources import RunResources, shortage
from dm2_ray.jobs.dashboard import ClusterError, Node


class ClusterTooSmall(ClusterError):
    """The cluster has too few resources for the run."""


def demand_of(experiment: Experiment) -> RunResources:
    """The resources that a run of this experiment needs.

    Raises:
        ValueError: The experiment cannot be run with these settings.
    """
    # RLlib takes 3 s to import, and most commands do not need it.
    from dm2_ray.runs.trainables import validated_spec

    return validated_spec(experiment).resources


def check_capacity(demand: RunResources, nodes: Sequence[Node]) -> None:
    """Compares a demand with the nodes' total resources, whether in use or not: a busy cluster becomes free again.

    Raises:
        ClusterTooSmall: The sum is too small, or the processes cannot be distributed so that each fits on one node.
    """
    problem = shortage(demand.bundles(), [node.resources for node in nodes])
    if problem is not None:
        needed, there = problem
        raise ClusterTooSmall(
            f"the run needs {needed} ({demand.arithmetic()}), {there} ({describe(nodes)}): use fewer "
            "rollout.env_runners, smaller learners.cpus_per_learner or learners.processes=driver, or add nodes"
        )


def describe(nodes: Sequence[Node]) -> str:
    """The nodes' CPUs and GPUs in words."""
    if not nodes:
        return "no living node"
    parts = []
    for node in nodes:
        gpus = node.resources.get("GPU", 0.0)
        words = f"{node.resources.get('CPU', 0.0):g} CPU" + (f" + {gpus:g} GPU" if gpus else "")
        parts.append(f"head {words}" if node.is_head else f"{node.ip} {words}")
    shown = parts if len(parts) <= 6 else [*parts[:5], f"… {len(parts) - 5} more"]
    return ", ".join(shown)
