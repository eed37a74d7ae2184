"""DM2 as an RLlib algorithm: training, evaluation, checkpoints, determinism."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from ray.util import placement_group_table

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.demonstrations import DemonstrationError
from dm2_ray.distributed.learners.learner_group import DecoupledLearnerGroup
from dm2_ray.distributed.resources import NotEnoughResources
from dm2_ray.learning.gradients import LearningDiverged

pytestmark = pytest.mark.usefixtures("local_ray")


def metrics_of(algorithm: DM2, iterations: int) -> list[dict]:
    """What a run is known by: battle outcomes and every agent's learning metrics."""
    found = []
    for _ in range(iterations):
        result = algorithm.train()
        found.append(
            {"battles": dict(result["env_runners"]), "agents": {k: dict(v) for k, v in result["learners"].items()}}
        )
    return found


def weights_of(group: DecoupledLearnerGroup) -> dict[str, np.ndarray]:
    return {
        f"{agent}/{module}/{name}": value
        for agent, state in group.snapshots().items()
        for module, values in state["modules"].items()
        for name, value in values.items()
    }


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_same_seed_same_numbers_and_evaluation_disturbs_nothing(small: DM2Config) -> None:
    plain = small.build_algo()
    first = metrics_of(plain, 3)
    evaluated = small.build_algo()
    second = []
    for _ in range(3):
        second += metrics_of(evaluated, 1)
        evaluated.evaluate()
    assert first == second
    assert same(weights_of(plain.learner_group), weights_of(evaluated.learner_group))
    other = small.copy(copy_frozen=False).dm2(seed=1).build_algo()
    assert metrics_of(other, 1) != first[:1]
    for algorithm in (plain, evaluated, other):
        algorithm.stop()


def test_processes_compute_what_the_driver_computes(small: DM2Config) -> None:
    # Two rollouts per iteration in both cases, so that the data are cut alike.
    together = small.copy(copy_frozen=False).dm2(rollout={"env_runners": 2})
    apart = together.copy(copy_frozen=False).dm2(learners={"processes": "per_agent"})
    a, b = together.build_algo(), apart.build_algo()
    assert metrics_of(a, 2) == metrics_of(b, 2)
    assert same(weights_of(a.learner_group), weights_of(b.learner_group))
    processes = set(b.learner_group.foreach_learner(lambda learner: __import__("os").getpid()))
    assert len(processes) == 2
    a.stop()
    b.stop()


def test_evaluation_plays_exactly_the_battles_asked_for(small: DM2Config) -> None:
    algorithm = small.build_algo()
    algorithm.train()
    results = algorithm.evaluate()["env_runners"]
    assert results["num_episodes"] == 10
    assert 0.0 <= results["win_rate"] <= 1.0
    assert algorithm.evaluate()["env_runners"] == results
    algorithm.stop()


def test_evaluation_interval_of_rllib_works(small: DM2Config) -> None:
    algorithm = small.evaluation(evaluation_interval=2).build_algo()
    assert "evaluation" not in algorithm.train()
    assert algorithm.train()["evaluation"]["env_runners"]["num_episodes"] == 10
    algorithm.stop()


def test_checkpoint_of_rllib_continues_bit_for_bit(small: DM2Config, tmp_path: Path) -> None:
    algorithm = small.build_algo()
    metrics_of(algorithm, 2)
    path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    restored = DM2.from_checkpoint(path)
    assert restored.iteration == 2
    assert restored.env_steps == algorithm.env_steps
    assert same(weights_of(restored.learner_group), weights_of(algorithm.learner_group))
    assert metrics_of(restored, 2) == metrics_of(algorithm, 2)
    algorithm.stop()
    restored.stop()


def test_older_state_replaces_newer_one_in_learners_and_runners(small: DM2Config) -> None:
    algorithm = small.build_algo()
    algorithm.train()
    old_state, old_weights = algorithm.learning_state(), weights_of(algorithm.learner_group)
    following = metrics_of(algorithm, 2)
    algorithm.restore_learning_state(old_state)
    assert same(weights_of(algorithm.learner_group), old_weights)
    assert metrics_of(algorithm, 2) == following
    algorithm.stop()


def test_ippo_builds_no_discriminator(small: DM2Config) -> None:
    algorithm = small.build_algo()
    modules = [
        name for learner in algorithm.learner_group.foreach_learner(lambda x: list(x.module.keys())) for name in learner
    ]
    assert modules == ["agent_0", "agent_1"]
    algorithm.stop()


def test_every_parameter_is_in_exactly_one_optimizer(small: DM2Config) -> None:
    algorithm = small.build_algo()

    def held_and_optimized(learner: object) -> tuple[int, int, int]:
        held = [p for module in learner.module.values() for p in module.parameters()]
        optimized = [
            p
            for name in learner.module.keys()
            for _, optimizer in learner.get_optimizers_for_module(name)
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        return len(held), len(optimized), len({id(p) for p in optimized})

    for held, optimized, distinct in algorithm.learner_group.foreach_learner(held_and_optimized):
        assert held == optimized == distinct > 0
    algorithm.stop()


def test_whole_battles_by_episodes(small: DM2Config) -> None:
    algorithm = small.dm2(rollout={"unit": "episodes", "episodes": 21}).build_algo()
    result = algorithm.train()
    assert result["env_runners"]["num_episodes"] == 21
    assert result["learners"]["agent_0"]["policy_age"] == 0
    algorithm.stop()


def test_mlp_and_chunked_back_propagation_train(small: DM2Config) -> None:
    for policy in ({"network": "mlp"}, {"network": "gru", "bptt_steps": 5}):
        algorithm = small.copy(copy_frozen=False).dm2(policy=policy, ppo={"minibatches": 2}).build_algo()
        before = weights_of(algorithm.learner_group)
        algorithm.train()
        after = weights_of(algorithm.learner_group)
        assert all(np.isfinite(value).all() for value in after.values())
        assert any(not np.array_equal(before[name], after[name]) for name in before)
        algorithm.stop()


def test_too_small_a_cluster_is_refused_before_anything_starts(small: DM2Config) -> None:
    config = small.dm2(rollout={"env_runners": 500})
    with pytest.raises(NotEnoughResources, match=r"needs 500 CPU \(500 rollout workers x 1 CPU\), the cluster has"):
        config.build_algo()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="clipp"):
        DM2Config().dm2(ppo={"clipp": 0.1})
    with pytest.raises(ValueError, match="demonstrations.path is not set"):
        DM2Config().dm2(matching={"coefficient": 0.3}).validate()


def test_rllib_setters_reach_the_experiment() -> None:
    config = DM2Config().env_runners(num_env_runners=3).debugging(seed=7)
    assert (config.experiment.rollout.env_runners, config.experiment.seed) == (3, 7)
    assert config.seed == 7
    assert [bundle["CPU"] for bundle in config.run_spec.resources.bundles()[:3]] == [1.0] * 3


@pytest.mark.parametrize(
    "processes",
    [
        {},
        pytest.param({"rollout": {"env_runners": 1}, "learners": {"processes": "per_agent"}}, marks=pytest.mark.long),
    ],
    ids=["trial", "own"],
)
def test_runs_under_tune(processes: dict[str, Any], small: DM2Config, tmp_path: Path) -> None:
    """With everything in the trial's process, and with processes of its own in the trial's placement group."""
    from ray import tune

    config = small.dm2(**processes)
    tuner = tune.Tuner(
        DM2,
        param_space=config,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"training_iteration": 2},
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        ),
    )
    results = tuner.fit()
    assert not results.errors
    assert results[0].metrics["training_iteration"] == 2
    restored = DM2.from_checkpoint(results[0].checkpoint.path)
    assert restored.iteration == 2
    restored.stop()


def test_torch_seed_of_the_caller_is_irrelevant(small: DM2Config) -> None:
    torch.manual_seed(1)
    a = small.build_algo()
    torch.manual_seed(2)
    b = small.build_algo()
    assert same(weights_of(a.learner_group), weights_of(b.learner_group))
    a.stop()
    b.stop()


@pytest.mark.parametrize("processes", ["driver", "per_agent"])
def test_a_gradient_that_is_not_finite_ends_the_run_in_one_line(small: DM2Config, processes: str) -> None:
    algorithm = small.dm2(learners={"processes": processes}, ppo={"lr_actor": 1e30, "epochs": 5}).build_algo()
    with pytest.raises(LearningDiverged, match="agent_0, actor, iteration 0: the gradient is not finite") as raised:
        algorithm.train()
    assert "\n" not in str(raised.value)
    algorithm.stop()


def test_a_run_that_cannot_start_leaves_nothing_behind(distributed: DM2Config, tmp_path: Path) -> None:
    def reserved() -> list[str]:
        return [name for name, group in placement_group_table().items() if group["state"] != "REMOVED"]

    before = reserved()
    config = distributed.dm2(matching={"coefficient": 0.1}, demonstrations={"path": str(tmp_path / "nowhere")})
    with pytest.raises(DemonstrationError, match="nowhere does not exist"):
        config.build_algo()
    assert reserved() == before
