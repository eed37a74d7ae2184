"""`python -m dm2_ray.jobs.wait_for_nodes 4 --address http://127.0.0.1:8265`: waits until 4 nodes have joined.

For scripts that start a cluster and then a run: a run that starts before its nodes have joined is refused.
"""

from __future__ import annotations

import argparse
import sys
import time

from dm2_ray.jobs.capacity import describe
from dm2_ray.jobs.dashboard import ClusterError, Dashboard, Node, dashboard_address

POLL_S = 1.0


def await_nodes(address: str, number: int, timeout_s: float) -> list[Node]:
    """Waits until there are `number` living nodes, and returns them.

    Raises:
        ClusterError: Fewer nodes joined within `timeout_s`, or the cluster did not answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            nodes = Dashboard(address).nodes()
            problem = f"{len(nodes)} of {number} nodes have joined ({describe(nodes)})"
            if len(nodes) >= number:
                return nodes
        except ClusterError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise ClusterError(f"after {timeout_s:g} s: {problem}")
        time.sleep(POLL_S)


def main() -> int:
    """Returns exit code 0 if the nodes have joined, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m dm2_ray.jobs.wait_for_nodes", description=await_nodes.__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--address", metavar="URL")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S")
    options = parser.parse_args()
    try:
        print(describe(await_nodes(dashboard_address(options.address), options.number, options.timeout)))
    except ClusterError as error:
        print(f"dm2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
