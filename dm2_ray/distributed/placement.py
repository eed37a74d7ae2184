"""Where a run's processes go, on a cluster of several nodes.

    learners         near each other: one placement group, packed onto as few nodes as hold them
    expert actors    on the learners' nodes, in turn: their data are read there
    rollout workers  spread over all nodes (rollout/env_runner_group.py)

Under Tune the trial's own placement group decides where everything goes, and nothing here is used.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from dm2_ray.distributed.resources import NotEnoughResources

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 30.0
"""Seconds between two messages while processes wait for resources."""
CAPACITY_WAIT_S = 20.0
"""A process that has its resources answers within this time (seconds); one that does not may have lost them."""


def _no_placement() -> None:
    return None


class LearnerPlacement:
    """A placement group that reserves resources for the learners."""

    def __init__(self, learners: int, resources: dict[str, float], timeout_s: float) -> None:
        """
        Args:
            learners: How many.
            resources: Of each learner.
            timeout_s: Longest wait for the resources.

        Raises:
            NotEnoughResources: Other jobs hold the resources for longer than this.
        """
        bundle = {name: amount for name, amount in resources.items() if amount > 0}
        self._group: PlacementGroup | None = None
        if not learners or not bundle:
            return
        self._group = placement_group([bundle] * learners, strategy="PACK")
        deadline = time.monotonic() + timeout_s
        while not self._group.wait(timeout_seconds=max(1, round(min(REPORT_EVERY_S, deadline - time.monotonic())))):
            if time.monotonic() < deadline:
                logger.warning("waiting for resources for %d learners", learners)
                continue
            remove_placement_group(self._group)
            wanted = " + ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            raise NotEnoughResources(
                f"no resources for {learners} learners x {wanted} within {timeout_s:.0f} s: other jobs hold them; see "
                "`ray status`"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> LearnerPlacement:
        return self  # copies of a configuration refer to the same placement group

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_placement, ()  # the group belongs to this driver: a stored or sent configuration has none

    def learner(self, index: int) -> dict[str, Any]:
        """Options of the index-th learner's actor."""
        if self._group is None:
            return {}
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        return {"scheduling_strategy": strategy}

    def expert(self, index: int) -> dict[str, Any]:
        """Options of the index-th expert actor: on one of the learners' nodes, if it has the resources."""
        nodes = self.nodes
        if not nodes:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(nodes[index % len(nodes)], soft=True)}

    @property
    def nodes(self) -> list[str]:
        """Ids of the nodes that hold learners, in the learners' order, each once."""
        if self._group is None:
            return []
        places = placement_group_table(self._group)["bundles_to_node_id"]
        return list(dict.fromkeys(node for _, node in sorted(places.items()) if node))

    @property
    def is_whole(self) -> bool:
        """Whether every learner has its resources; False while a node is lost and no other node can replace it."""
        return self._group is None or placement_group_table(self._group)["state"] == "CREATED"

    def remove(self) -> None:
        """Returns the resources; processes that still run in the group end."""
        if self._group is not None and ray.is_initialized():
            remove_placement_group(self._group)
        self._group = None
