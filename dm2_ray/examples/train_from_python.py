"""DM² trained from Python, in one process.

What it shows: `DM2Config`, whose sections and keys are those of configs/defaults.yaml, and the metrics of each
iteration. A run with a directory, checkpoints and tracking is what `dm2 train` makes.

How to run it:

    dm2 demos record scripted:focus_fire --map 3m --episodes 256 --out experts
    python -m dm2_ray.examples.train_from_python experts --iterations 20
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from dm2_ray import DM2Config
from dm2_ray.demonstrations import JointTrajectories


def train(
    demonstrations: str, iterations: int, *changes: Mapping[str, Any]
) -> Iterator[tuple[float, dict[str, dict[str, float]]]]:
    """Trains a team in this process.

    Args:
        demonstrations: Directory of a demonstration set; its map is the one played on.
        iterations: How many.
        changes: Settings by section and key, such as `{"matching": {"coefficient": 0.1}}`; later ones win.

    Yields:
        After each iteration the win rate of its battles, and every agent's metrics.
    """
    config = DM2Config().dm2(
        variant="dm2",
        world={"map": JointTrajectories.open(demonstrations).manifest.map},
        demonstrations={"path": demonstrations, "expert_actors": 0},
        matching={"coefficient": 0.3},
        rollout={"env_runners": 0},
        learners={"processes": "driver"},
    )
    for sections in changes:
        config = config.dm2(**sections)
    algorithm = config.build_algo()
    try:
        for _ in range(iterations):
            result = algorithm.train()
            yield result["env_runners"]["win_rate"], dict(algorithm.agent_metrics)
    finally:
        algorithm.stop()


def main(description: str, *changes: Mapping[str, Any]) -> None:
    """The command line of the examples that train."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("demonstrations", help="a set that `dm2 demos record` made")
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    for iteration, (win_rate, agents) in enumerate(train(options.demonstrations, options.iterations, *changes), 1):
        first = agents["agent_0"]
        print(
            f"iteration {iteration:3d}  win rate {win_rate:.2f}  agent_0: matching reward "
            f"{first['matching_reward_mean']:6.2f}  entropy {first['entropy']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main("DM2 from Python")
