"""Resource arithmetic: what a run asks of the cluster, and a refusal when the cluster has less.

Without it a run on a cluster that is too small waits for its last actor for ever, silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray

if TYPE_CHECKING:
    from ray.tune.execution.placement_groups import PlacementGroupFactory


class NotEnoughResources(RuntimeError):
    """The cluster cannot hold the run."""


def required_resources(request: PlacementGroupFactory) -> dict[str, float]:
    """Sum of a request's bundles without the driver's own bundle (the driver is running already)."""
    total: dict[str, float] = {}
    for bundle in request.bundles[1:]:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0.0) + amount
    return {name: amount for name, amount in total.items() if amount > 0}


def check_resources(request: PlacementGroupFactory, parts: str) -> None:
    """Compares a request with the whole cluster.

    Args:
        request: Everything the run will start.
        parts: The arithmetic in words, for the message.

    Raises:
        NotEnoughResources: Naming the resource, what is needed, what the cluster has, and what to change.
    """
    if ray.util.get_current_placement_group() is not None:
        return
    available = ray.cluster_resources()
    for name, amount in required_resources(request).items():
        if amount > available.get(name, 0.0) + 1e-6:
            raise NotEnoughResources(
                f"the run needs {amount:g} {name} ({parts}), the cluster has {available.get(name, 0.0):g}; "
                "use fewer rollout.env_runners, smaller learners.cpus_per_learner or learners.processes=driver, "
                "or a larger cluster"
            )
