"""Runs with experts of every source: processes die, runs are resumed, agents are cloned, and no number changes."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.checkpoints import open_checkpoint, restored_learning_state, save_checkpoint
from dm2_ray.recording.recorder import record

pytestmark = pytest.mark.usefixtures("local_ray")

MAP = "2m_vs_1z"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("stored") / "set"
    record("scripted:kite", map_name=MAP, episodes=12, out=out, greedy=True, seed=0)
    return str(out)


def config_of(stored: str, source: str, **sections: Any) -> DM2Config:
    """Everything in this process, two agents, little data."""
    named = {"set": {"path": stored}, "live": {"path": "scripted:random"}, "self_imitation": {"store_episodes": 12}}
    return (
        DM2Config()
        .dm2(
            variant="dm2",
            world={"map": MAP},
            rollout={"env_runners": 0, "battles_per_env_runner": 4, "env_steps": 96},
            policy={"hidden_size": 8},
            ppo={"epochs": 1},
            discriminator={"updates": 2},
            matching={"coefficient": 0.3},
            learners={"processes": "driver"},
            demonstrations={"source": source, "episodes_per_draw": 6, "expert_actors": 0, **named[source]},
            evaluation={"episodes": 4},
        )
        .dm2(**sections)
    )


def metrics_of(algorithm: DM2) -> dict[str, Any]:
    algorithm.train()
    return {"agents": algorithm.agent_metrics, "experts": algorithm.expert_metrics, "env_steps": algorithm.env_steps}


def process_of(actor: Any) -> int:
    """Of a process that answers; one that is being restarted is waited for."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
        except ray.exceptions.RayActorError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("source", ["set", "live", "self_imitation"])
def test_an_expert_killed_changes_no_number(stored: str, source: str) -> None:
    together = config_of(stored, source).build_algo()
    undisturbed = [metrics_of(together) for _ in range(4)]
    together.stop()
    assert undisturbed[0]["experts"] != {} or source == "set"
    algorithm = config_of(stored, source).dm2(demonstrations={"expert_actors": 1}).build_algo()
    assert metrics_of(algorithm) == undisturbed[0]
    # Idle.
    for actor in algorithm.experts.actors:
        os.kill(process_of(actor), signal.SIGKILL)
    assert metrics_of(algorithm) == undisturbed[1]
    # In the middle of a draw: the processes stand still, so the draw cannot end before they die.
    victims = [process_of(actor) for actor in algorithm.experts.actors]
    for victim in victims:
        os.kill(victim, signal.SIGSTOP)
    died: list[float] = []

    def kill() -> None:
        died.append(time.monotonic())
        for victim in victims:
            os.kill(victim, signal.SIGKILL)

    timer = threading.Timer(1.5, kill)
    timer.start()
    if source == "live":
        algorithm.experts._pool.prefetch({})  # what was drawn ahead of time would not need the processes
    assert metrics_of(algorithm) == undisturbed[2]
    assert died and died[0] < time.monotonic()
    # Of the process between the two deaths the live experts' driver has seen no answer.
    assert algorithm.faults.counts()["expert"] == (1 if source == "live" else 2)
    if source == "set":
        # For good, which Ray does not repair.
        for actor in algorithm.experts.actors:
            ray.kill(actor)
        assert metrics_of(algorithm) == undisturbed[3]
    algorithm.stop()


def test_self_imitation_is_resumed_bit_for_bit(stored: str, tmp_path: Path) -> None:
    config = config_of(stored, "self_imitation")
    algorithm = config.build_algo()
    for _ in range(2):
        algorithm.train()
    save_checkpoint(tmp_path, config.experiment, algorithm.learning_state(), sizes=config.run_spec.sizes, win_rate=None)
    of_rllib = algorithm.save_to_path(str(tmp_path / "of_rllib"))
    before = algorithm.experts.state()
    following = [metrics_of(algorithm) for _ in range(3)]
    assert following[0]["experts"]["episodes"] == 12
    checkpoint = open_checkpoint(tmp_path)
    assert {"experts_0.pt", "experts_1.pt"} <= set(checkpoint.sha256)
    apart = config.copy(copy_frozen=False).dm2(demonstrations={"expert_actors": 1})
    for resumed in (config.build_algo(), apart.build_algo()):
        resumed.restore_learning_state(restored_learning_state(checkpoint))
        assert_same_state(resumed.experts.state(), before)
        assert [metrics_of(resumed) for _ in range(3)] == following
        resumed.stop()
    restored = DM2.from_checkpoint(of_rllib)
    assert [metrics_of(restored) for _ in range(3)] == following
    restored.stop()
    # An older state in a running algorithm: the newer best battles are forgotten.
    algorithm.restore_learning_state(restored_learning_state(checkpoint))
    assert [metrics_of(algorithm) for _ in range(3)] == following
    algorithm.stop()


def assert_same_state(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys() == {"agent_0", "agent_1"}
    for agent, arrays in expected.items():
        assert found[agent].keys() == arrays.keys()
        for name, value in arrays.items():
            assert np.asarray(found[agent][name]).dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(found[agent][name], value)


def test_a_team_of_another_size_cannot_take_over_the_best_battles(stored: str) -> None:
    algorithm = config_of(stored, "self_imitation").build_algo()
    algorithm.train()
    state = algorithm.experts.state()
    algorithm.stop()
    with pytest.raises(ValueError, match=r"best episodes of \['agent_0'\], this team has"):
        algorithm.experts.restore({"agent_0": state["agent_0"]})


def test_cloning_draws_and_plays_nothing_and_then_the_experts_are_done(stored: str) -> None:
    config = config_of(
        stored,
        "live",
        cloning={"iterations": 2},
        matching={"coefficient": 0.0},
        demonstrations={"path": "scripted:kite"},
    )
    team = config.build_algo()
    records = [team.learn() for _ in range(3)]
    team.stop()
    for record_, iteration in zip(records[:2], (1, 2), strict=True):
        assert (record_["iteration"], record_["env_steps"], record_["episodes"]) == (iteration, 0, 0)
        assert record_["win_rate"] is record_["return_mean"] is None
        assert record_["experts"]["episodes"] == 6
        assert all("cloning_loss" in values for values in record_["agents"].values())
    assert records[2]["env_steps"] > 0 and records[2]["win_rate"] is not None
    assert "experts" not in records[2]
    assert not any("cloning_loss" in values for values in records[2]["agents"].values())


def test_nothing_is_drawn_once_matching_has_faded_out(stored: str) -> None:
    algorithm = config_of(stored, "live", matching={"anneal_iterations": 2}).build_algo()
    reported = [bool(metrics_of(algorithm)["experts"]) for _ in range(3)]
    algorithm.stop()
    assert reported == [True, True, False]


def test_no_experts_without_anything_to_draw_for(stored: str) -> None:
    algorithm = config_of(stored, "live", matching={"coefficient": 0.0}).build_algo()
    assert algorithm.experts is None
    algorithm.stop()


def test_cloning_alone_asks_for_experts(stored: str) -> None:
    config = config_of(stored, "set", matching={"coefficient": 0.0}, cloning={"iterations": 1})
    assert config.run_spec.uses_demonstrations and not config.run_spec.matches
    with pytest.raises(ValueError, match="demonstrations.path is not set"):
        config.dm2(demonstrations={"path": None}).validate()
    with pytest.raises(ValueError, match="cloning comes before the first battle"):
        config.dm2(demonstrations={"source": "self_imitation"}).validate()
