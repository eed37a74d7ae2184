"""NodeWatch: which nodes of the cluster came and went."""

from __future__ import annotations

import logging

import ray

from dm2_ray.actors.fault_log import FaultKind, FaultLog

logger = logging.getLogger(__name__)


class NodeWatch:
    """Compares the nodes with those of the last look.

    Args:
        faults: Is told of nodes that went.
    """

    def __init__(self, faults: FaultLog) -> None:
        self._faults = faults
        self._nodes = _alive()

    def look(self) -> None:
        """Tells of every node that joined or left since the last look."""
        before, self._nodes = self._nodes, _alive()
        for node in before.keys() - self._nodes.keys():
            self._faults.lost(FaultKind.NODE, before[node], "it left the cluster, or died")
        for node in self._nodes.keys() - before.keys():
            logger.warning("node %s joined", self._nodes[node])
            self._faults.back(FaultKind.NODE, self._nodes[node])


def _alive() -> dict[str, str]:
    """Address of every node that is alive, by id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
