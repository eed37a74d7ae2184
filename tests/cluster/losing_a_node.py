"""A program that trains with learners and experts on a node that is lost meanwhile, and prints the results.

Nodes are processes that share this machine's address. It is a separate program because a process can use only one Ray.
"""

import json
import sys
import tempfile
import threading
from typing import Any

import ray
from ray.cluster_utils import Cluster

from dm2_ray.algorithms.dm2 import DM2, DM2Config

HEALTH_CHECKS = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
SETTINGS: dict[str, Any] = {
    "variant": "dm2_self_imitation",
    "world": {"map": "2m_vs_1z"},
    "policy": {"hidden_size": 16},
    "ppo": {"epochs": 2},
    "discriminator": {"updates": 3},
    "matching": {"coefficient": 0.3},
}
BEFORE, AFTER = 3, 3
"""Iterations before and after the loss."""


def team(*, processes: bool) -> DM2:
    config = DM2Config().dm2(
        **SETTINGS,
        rollout={"env_runners": 2 if processes else 0, "tasks": 2, "battles_per_env_runner": 8, "env_steps": 256},
        demonstrations={
            "source": "self_imitation",
            "episodes_per_draw": 4,
            "store_episodes": 16,
            "expert_actors": 1 if processes else 0,
        },
        learners={"processes": "per_agent" if processes else "driver"},
    )
    return config.build_algo()


def results(trained: DM2) -> dict[str, Any]:
    return {name: value for name, value in trained.learn().items() if name != "timing"}


def nodes_of_learners_and_experts(trained: DM2) -> set[str]:
    group = trained.learner_group
    actors = [*(group.learner(agent) for agent in group.agent_ids), *trained.experts.actors]
    return set(ray.get([actor.__ray_call__.remote(where) for actor in actors]))


def where(_: Any) -> str:
    return ray.get_runtime_context().get_node_id()


def main() -> None:
    head = {
        "num_cpus": 1,
        "include_dashboard": False,
        "temp_dir": tempfile.mkdtemp(prefix="dm2-"),
        "object_store_memory": 100_000_000,
        "_system_config": HEALTH_CHECKS,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        victim = cluster.add_node(num_cpus=4, object_store_memory=100_000_000)
        ray.init(address=cluster.address, log_to_driver=False)
        trained = team(processes=True)
        disturbed = [results(trained) for _ in range(BEFORE)]
        on_victim = nodes_of_learners_and_experts(trained) == {victim.node_id}
        cpus_in_use = ray.cluster_resources()["CPU"] - ray.available_resources()["CPU"]
        cluster.add_node(num_cpus=4, object_store_memory=100_000_000)
        loss = threading.Timer(0.05, cluster.remove_node, [victim], {"allow_graceful": False})
        loss.start()
        disturbed += [results(trained) for _ in range(AFTER)]
        loss.join()
        counts = trained.faults.counts()
        trained.stop()
        alone = team(processes=False)
        undisturbed = [results(alone) for _ in range(BEFORE + AFTER)]
    finally:
        ray.shutdown()
        cluster.shutdown()
    json.dump(
        {
            "on_victim": on_victim,
            "cpus_in_use": cpus_in_use,
            "disturbed": disturbed,
            "undisturbed": undisturbed,
            "lost": counts,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
