"""A program that runs a cluster of nodes on this machine; it reads commands from stdin and answers each with `done`.

It is a separate program because a process can start only one such cluster.

    ready ADDRESS       printed when the head, with two CPUs, is running
    add CPUS            command: starts another node
    remove              command: kills the node that was added last
"""

import sys
from typing import Any

from ray.cluster_utils import Cluster

HEALTH = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}


def main() -> None:
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "_system_config": HEALTH})
    print("ready", cluster.address, flush=True)
    nodes: list[Any] = []
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=int(arguments[0])))
        elif command == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
