"""`dm2 bench`: rollouts and whole iterations compared with stock RLlib, measured alternately on one machine.

The ratios are what counts: both sides run under the same load, within seconds of each other.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.benchmarks.rllib_baseline import StockBattleEnv
from dm2_ray.distributed.ray_session import ray_session
from dm2_ray.distributed.rollout.env_runner import BattleEnvRunner, RolloutTask
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.terminal import format_table
from dm2_ray.world import BattleVector

ENV_STEPS = 2048
BATTLES = 64
EPOCHS = 10
Network = Literal["gru", "mlp"]


def bench_rllib(*, map_name: str, repetitions: int, as_json: bool) -> int:
    """Measures engine, rollouts and iterations; prints a table (or one JSON object)."""
    with contextlib.redirect_stdout(sys.stderr), ray_session(needed_cpus=16):  # Ray prints to stdout, too
        stock = _stock_config(map_name).build_algo()
        algorithms = {network: _our_config(map_name, network).build_algo() for network in ("mlp", "gru")}
        runners = {network: _local_runner(map_name, network) for network in ("mlp", "gru")}
        measurements: dict[str, Callable[[], float]] = {
            "engine, random actions": lambda: _engine(map_name),
            "rollout, stock RLlib, MLP": lambda: _stock_rollout(stock),
            "rollout, ours, MLP": lambda: _our_rollout(runners["mlp"]),
            "rollout, ours, GRU": lambda: _our_rollout(runners["gru"]),
            "iteration, stock RLlib, MLP": lambda: _iteration(stock),
            "iteration, ours, MLP": lambda: _iteration(algorithms["mlp"]),
            "iteration, ours, GRU": lambda: _iteration(algorithms["gru"]),
        }
        for measure in measurements.values():
            measure()  # compiles, fills caches
        samples: dict[str, list[float]] = {name: [] for name in measurements}
        for _ in range(repetitions):
            for name, measure in measurements.items():
                samples[name].append(measure())
        for algorithm in (stock, *algorithms.values()):
            algorithm.stop()
    medians = {name: statistics.median(values) for name, values in samples.items()}
    ratios = {
        name: medians[name] / medians[f"{name.split(',')[0]}, stock RLlib, MLP"]
        for name in medians
        if ", ours, " in name
    }
    if as_json:
        print(json.dumps({"map": map_name, "env_steps_per_s": medians, "ratio_to_stock": ratios, "samples": samples}))
        return 0
    print(
        f"\n{map_name}, median of {repetitions} rounds; "
        f"iterations of {ENV_STEPS} env steps, {EPOCHS} epochs, full batch"
    )
    rows = [("", "env steps/s", "to stock")]
    rows += [
        (name, f"{value:,.0f}", f"{ratios[name]:.1f} x" if name in ratios else "") for name, value in medians.items()
    ]
    print(format_table(rows, numbers=True))
    return 0


def _stock_config(map_name: str) -> PPOConfig:
    agents = [f"agent_{index}" for index in range(BattleVector(map_name, 1).num_agents)]
    return (
        PPOConfig()
        .environment(StockBattleEnv, env_config={"map": map_name})
        .multi_agent(policies=set(agents), policy_mapping_fn=lambda agent, *_, **__: agent)
        .rl_module(
            rl_module_spec=RLModuleSpec(
                model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="relu", vf_share_layers=False)
            )
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=32, batch_mode="truncate_episodes")
        .training(
            train_batch_size_per_learner=ENV_STEPS,
            minibatch_size=ENV_STEPS,
            num_epochs=EPOCHS,
            lr=5e-4,
            use_kl_loss=False,
        )
        .debugging(seed=0, log_level="ERROR", log_sys_usage=False)
    )


def _our_config(map_name: str, network: Network) -> DM2Config:
    return DM2Config().dm2(
        world={"map": map_name},
        rollout={"env_runners": 1, "battles_per_env_runner": BATTLES, "env_steps": ENV_STEPS},
        policy={"network": network},
        ppo={"epochs": EPOCHS, "minibatches": 1},
        matching={"coefficient": 0.0},
    )


def _local_runner(map_name: str, network: Network) -> tuple[BattleEnvRunner, list[dict[str, np.ndarray]]]:
    runner = BattleEnvRunner(config=_our_config(map_name, network), worker_index=1)
    weights = [runner.module[agent].get_state() for agent in runner.config.run_spec.agent_ids]
    return runner, weights


def _engine(map_name: str, steps: int = 200) -> float:
    battles = BattleVector(map_name, BATTLES)
    battles.reset()
    rng = np.random.default_rng(0)
    elapsed = 0.0
    for _ in range(steps):
        actions = (rng.random(battles.action_mask.shape) * battles.action_mask).argmax(-1)
        started = time.perf_counter()
        battles.step(actions)
        elapsed += time.perf_counter() - started
    return steps * BATTLES / elapsed


def _stock_rollout(algorithm: Any) -> float:
    started = time.perf_counter()
    episodes = algorithm.env_runner.sample(num_timesteps=ENV_STEPS)
    elapsed = time.perf_counter() - started
    # Removes the metrics; otherwise, the next iteration would count these steps as its own.
    algorithm.env_runner.get_metrics()
    return sum(len(episode) for episode in episodes) / elapsed


def _our_rollout(prepared: tuple[BattleEnvRunner, list[dict[str, np.ndarray]]]) -> float:
    runner, weights = prepared
    task = RolloutTask(iteration=0, index=0, quota=BattleQuota(env_steps=4 * ENV_STEPS))
    started = time.perf_counter()
    *_, report = runner.rollout(task, 0, *weights)
    return report.statistics.env_steps / (time.perf_counter() - started)


def _iteration(algorithm: Any) -> float:
    started = time.perf_counter()
    result = algorithm.train()
    elapsed = time.perf_counter() - started
    return float(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED]) / elapsed
