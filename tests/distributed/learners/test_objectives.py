"""What agents are paid for, end to end: every way to match runs, and what may not matter does not, to the last bit."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.checkpoints import open_checkpoint, restored_learning_state, save_checkpoint
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.recording.recorder import record

pytestmark = pytest.mark.usefixtures("local_ray")

MAP, EPISODES = "2m_vs_1z", 12
AGENTS = ("agent_0", "agent_1")
ALWAYS_TOLD = {
    "discriminator_expert_accuracy",
    "discriminator_agent_accuracy",
    "discriminator_logit_gap",
    "discriminator_entropy",
    "discriminator_gradient_norm",
    "discriminator_grad_norm",
    "discriminator_updates",
    "matching_coefficient",
    "matching_reward_mean",
    "matching_reward_std",
    "matching_reward_share",
    "grad_norm_actor",
    "grad_norm_critic",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
    "entropy",
    "policy_age",
}
"""Of every agent that has a demonstration."""


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demonstrations") / "set"
    record("scripted:kite", map_name=MAP, episodes=EPISODES, out=path, greedy=True, seed=0)
    return path


@pytest.fixture
def matching(small: DM2Config, demonstrations: Path) -> DM2Config:
    """DM2 with two agents, little data, everything in this process."""
    return small.dm2(
        variant="dm2",
        rollout={"env_steps": 128, "battles_per_env_runner": 4},
        discriminator={"updates": 3, "hidden_size": 8, "minibatch_episodes": 4},
        matching={"coefficient": 0.3},
        demonstrations={"path": str(demonstrations), "episodes_per_draw": 6, "expert_actors": 0},
        diagnostics={"divergence_every": 0},
    )


def changed(config: DM2Config, **sections: Any) -> DM2Config:
    return config.copy(copy_frozen=False).dm2(**sections)


def trained(config: DM2Config, iterations: int) -> tuple[dict[str, Any], list[dict[str, dict[str, float]]]]:
    """Every agent's state afterwards, and the metrics of each iteration."""
    algorithm = config.build_algo()
    metrics = told(algorithm, iterations)
    state = algorithm.learning_state()
    algorithm.stop()
    return state, metrics


def told(algorithm: DM2, iterations: int) -> list[dict[str, dict[str, float]]]:
    found = []
    for _ in range(iterations):
        algorithm.train()
        found.append({agent: dict(values) for agent, values in algorithm.agent_metrics.items()})
    return found


def policies(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights and optimizer moments of actors and critics."""
    found = {}
    for agent in AGENTS:
        snapshot = state["agents"][agent]
        found |= {f"{agent}/{name}": value for name, value in snapshot["modules"][agent].items()}
        for optimizer, content in snapshot["optimizers"].items():
            if "discriminator" not in optimizer:
                for index, moments in content["state"].items():
                    found |= {f"{agent}/{optimizer}/{index}/{name}": value for name, value in moments.items()}
    return found


def whole(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Everything that has a shape."""
    found = policies(state)
    for agent in AGENTS:
        snapshot = state["agents"][agent]
        for module, values in {**snapshot["modules"], "extras": snapshot["extras"]}.items():
            found |= {f"{agent}/{module}/{name}": value for name, value in values.items()}
    return found


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys() and len(one) > 0
    for name in one:
        np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]), err_msg=name)


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
@pytest.mark.parametrize("kind", ["state", "state_action", "state_next_state"])
def test_every_discriminator_input_trains_under_every_padding(matching: DM2Config, kind: str, padding: str) -> None:
    config = changed(matching, discriminator={"input": kind}, matching={"padding": padding})
    state, metrics = trained(config, 2)
    _, obs_size, num_actions = config.run_spec.sizes
    width = {"state": obs_size, "state_action": obs_size + num_actions, "state_next_state": 2 * obs_size}[kind]
    if padding == "absorbing":
        width += 2 if kind == "state_next_state" else 1
    for agent in AGENTS:
        weights = state["agents"][agent]["modules"][f"{agent}_discriminator"]
        assert weights["hidden.0.weight"].shape == (8, width)
        for values in (iteration[agent] for iteration in metrics):
            assert values.keys() >= ALWAYS_TOLD
            assert ("padding_reward" in values) == (padding != "masked")
            assert all(math.isfinite(value) for value in values.values())
            assert 0 < values["matching_reward_share"] < 1


def test_the_task_alone_learns_bit_for_bit_what_ippo_learns(matching: DM2Config) -> None:
    """The discriminator is trained, and told of, beside it."""
    task = changed(matching, matching={"reward": "task"}, ppo={"minibatches": 2}, diagnostics={"divergence_every": 2})
    ippo = changed(task, matching={"coefficient": 0.0, "reward": "both"})
    (state, metrics), (reference, of_ippo) = trained(task, 4), trained(ippo, 4)
    assert_same(policies(state), policies(reference))
    # And no coefficient is IPPO, whatever else is said of matching.
    plain = changed(ippo, variant="ippo", demonstrations={"path": None}, discriminator={"input": "state_action"})
    assert_same(whole(trained(plain, 4)[0]), whole(reference))
    untrained, _ = trained(changed(task, discriminator={"updates": 0}), 4)
    for agent in AGENTS:
        for iteration in range(4):
            values, expected = metrics[iteration][agent], of_ippo[iteration][agent]
            assert expected.items() <= values.items()
            assert values.keys() >= ALWAYS_TOLD and values["matching_reward_share"] == 0.0
            assert values["matching_reward_std"] > 0
            assert ("divergence_accuracy" in values) == (iteration % 2 == 1)
        name = f"{agent}_discriminator"
        assert list(reference["agents"][agent]["modules"]) == [agent]
        one, other = (s["agents"][agent]["modules"][name]["head.weight"] for s in (state, untrained))
        assert not np.array_equal(one, other)


def test_the_matching_reward_alone_is_blind_to_the_task(matching: DM2Config) -> None:
    """Another reward of the world, same battles: nothing that is learned changes."""
    alone = changed(matching, matching={"reward": "matching"})
    rewarding = changed(alone, world={"smac": {"reward_win": 1000, "reward_scale_rate": 1}})
    (state, metrics), (reference, _) = trained(alone, 2), trained(rewarding, 2)
    assert_same(whole(state), whole(reference))
    assert {values["matching_reward_share"] for iteration in metrics for values in iteration.values()} == {1.0}
    with_task = policies(trained(changed(alone, matching={"reward": "both"}), 2)[0])
    assert any(not np.array_equal(value, with_task[name]) for name, value in policies(state).items())


def test_diagnostics_change_nothing(matching: DM2Config) -> None:
    (state, metrics), (watched, more) = (
        trained(changed(matching, diagnostics={"divergence_every": every}), 2) for every in (0, 1)
    )
    assert_same(whole(state), whole(watched))
    for one, other in zip(metrics, more, strict=True):
        for agent in AGENTS:
            assert other[agent].keys() - one[agent].keys() == {"divergence_accuracy", "divergence_js"}
            assert 0.0 <= other[agent]["divergence_accuracy"] <= 1.0


@pytest.fixture
def everything(matching: DM2Config) -> DM2Config:
    """All that keeps a state besides weights, at once."""
    return changed(
        matching,
        discriminator={
            "input": "state_next_state",
            "replay_iterations": 2,
            "spectral_norm": True,
            "label_smoothing": 0.1,
            "stop_at_accuracy": 0.95,
        },
        matching={"padding": "absorbing", "form": "gail", "normalise": True},
    )


def test_a_resumed_run_goes_on_bit_for_bit(everything: DM2Config, tmp_path: Path) -> None:
    uninterrupted = everything.build_algo()
    first = told(uninterrupted, 3)
    save_checkpoint(
        tmp_path, everything.experiment, uninterrupted.learning_state(), sizes=everything.run_spec.sizes, win_rate=None
    )
    following = told(uninterrupted, 3)
    resumed = changed(everything).build_algo()
    resumed.restore_learning_state(restored_learning_state(open_checkpoint(tmp_path)))
    assert told(resumed, 3) == following
    assert_same(whole(resumed.learning_state()), whole(uninterrupted.learning_state()))
    extras = resumed.learning_state()["agents"]["agent_0"]["extras"]
    assert len(extras["replay_counts"]) == 2 and extras["matching_reward_scale_weight"] > 0
    for values in (iteration[agent] for iteration in first for agent in AGENTS):
        assert values["matching_reward_scale"] >= 0.1 and 1 <= values["discriminator_updates"] <= 3
    uninterrupted.stop()
    resumed.stop()


def test_what_is_remembered_matters(everything: DM2Config) -> None:
    """Without the replayed rows and the running scale the run would go on otherwise; old checkpoints have neither."""
    algorithm = everything.build_algo()
    told(algorithm, 2)
    state = algorithm.learning_state()
    following, remembered = told(algorithm, 1), algorithm.learning_state()
    for snapshot in state["agents"].values():
        del snapshot["extras"]
    algorithm.restore_learning_state(state)
    forgetful, forgot = told(algorithm, 1), algorithm.learning_state()
    for agent in AGENTS:
        assert forgetful[0][agent].keys() == following[0][agent].keys()
        assert forgetful[0][agent]["discriminator_total_loss"] != following[0][agent]["discriminator_total_loss"]
        extras, fewer = (state["agents"][agent]["extras"] for state in (remembered, forgot))
        assert len(extras["replay_counts"]) == 2 and len(fewer["replay_counts"]) == 1
        assert extras["matching_reward_scale_weight"] > fewer["matching_reward_scale_weight"] > 0
    algorithm.stop()


def test_cloning_moves_the_actor_alone_and_needs_no_battles(matching: DM2Config, demonstrations: Path) -> None:
    algorithm = changed(matching, cloning={"iterations": 2, "epochs": 3, "minibatches": 2}).build_algo()
    group = algorithm.learner_group
    before = group.snapshots()
    found = JointTrajectories.open(demonstrations)
    slices = [found.agent_slice(index, np.arange(EPISODES)) for index in range(len(AGENTS))]
    metrics = group.train(0, slices, [[], []])
    after = group.snapshots()
    for agent in AGENTS:
        assert {"cloning_loss", "cloning_accuracy", "entropy", "grad_norm_actor"} <= metrics[agent].keys()
        assert "grad_norm_critic" not in metrics[agent]
        for module in before[agent]["modules"]:
            for name, value in before[agent]["modules"][module].items():
                moved = not np.array_equal(value, after[agent]["modules"][module][name])
                assert not moved or name.startswith("actor.")
        weight = "actor.head.weight"
        assert not np.array_equal(before[agent]["modules"][agent][weight], after[agent]["modules"][agent][weight])
    again = group.train(1, slices, [[], []])
    assert all(again[agent]["cloning_loss"] < metrics[agent]["cloning_loss"] for agent in AGENTS)
    with pytest.raises(ValueError, match="agent_0, iteration 0: cloning needs a demonstration, found none"):
        fresh = changed(matching, cloning={"iterations": 1}).build_algo()
        fresh.learner_group.train(0, None, [[], []])
    algorithm.stop()
    fresh.stop()


def test_after_the_cloning_critics_and_discriminators_learn_alone_at_first(matching: DM2Config) -> None:
    cloning = {"iterations": 1, "epochs": 2, "critic_iterations": 2}
    algorithm = changed(matching, cloning=cloning).build_algo()
    states = []
    for _ in range(4):
        algorithm.train()
        states.append(algorithm.learner_group.snapshots())
    algorithm.stop()
    for agent in AGENTS:
        for later in range(1, 4):
            modules = [states[iteration][agent]["modules"] for iteration in (later - 1, later)]
            learned = {
                (module, name.split(".")[0])
                for module in modules[0]
                for name, value in modules[0][module].items()
                if not np.array_equal(value, modules[1][module][name])
            }
            assert {(agent, "critic"), (f"{agent}_discriminator", "head")} <= learned
            assert ((agent, "actor") in learned) == (later == 3)
