"""The weight of the matching reward, tuned with Ray Tune.

What it shows: a DM² training as a Tune trial. The trials are what runs side by side, each in one process.

How to run it:

    dm2 demos record scripted:focus_fire --map 3m --episodes 256 --out experts
    python -m dm2_ray.examples.tune_coefficient experts --iterations 20
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from dm2_ray.examples.train_from_python import train


def tune_coefficient(
    demonstrations: str,
    iterations: int,
    coefficients: Sequence[float],
    storage: Path,
    *changes: Mapping[str, Any],
) -> tune.ResultGrid:
    """One trial per value of `matching.coefficient`.

    Args:
        demonstrations: Directory of a demonstration set.
        iterations: Of each trial.
        coefficients: The values, all above 0.
        storage: Where Tune keeps its results.
        changes: Further settings, as `train` takes them.
    """
    experts = str(Path(demonstrations).absolute())  # trials have directories of their own

    def trial(chosen: dict[str, float]) -> None:
        for win_rate, agents in train(experts, iterations, *changes, {"matching": chosen}):
            share = sum(agent["matching_reward_share"] for agent in agents.values()) / len(agents)
            tune.report({"win_rate": win_rate, "matching_reward_share": share})

    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1}),
        param_space={"coefficient": tune.grid_search(list(coefficients))},
        run_config=tune.RunConfig(name="tune_coefficient", storage_path=str(storage.absolute()), verbose=0),
    )
    return tuner.fit()


def main() -> None:
    parser = argparse.ArgumentParser(description="Which weight should the matching reward have?")
    parser.add_argument("demonstrations", help="a set that `dm2 demos record` made")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--storage", type=Path, default=Path("tune"))
    options = parser.parse_args()
    results = tune_coefficient(options.demonstrations, options.iterations, (0.03, 0.1, 0.3, 1.0), options.storage)
    columns = ["config/coefficient", "win_rate", "matching_reward_share"]
    print(results.get_dataframe()[columns].sort_values("win_rate", ascending=False).to_string(index=False))


if __name__ == "__main__":
    main()
