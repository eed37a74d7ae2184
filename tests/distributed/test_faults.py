"""Processes die, idle or busy, for a while or for good: not one number of the run may change.

The reference is the same run without processes, where nothing can die (that both compute the same is tested in
test_dm2.py).
"""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from dm2_ray.algorithms.dm2 import DM2, DM2Config
from dm2_ray.distributed.demonstration_sources.factory import build_source
from dm2_ray.distributed.learners.agent_learner import AgentLearner
from dm2_ray.distributed.rollout.env_runner import BattleEnvRunner, RolloutTask
from dm2_ray.recording.recorder import record

pytestmark = pytest.mark.usefixtures("local_ray")

ITERATIONS = 8
NOTHING = dict.fromkeys(("rollout_worker", "evaluation_worker", "learner", "expert", "node"), 0)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DM2Config:
    """DM2 with two agents, two rollouts per iteration and a process for everything."""
    demonstrations = tmp_path_factory.mktemp("demonstrations") / "set"
    record("scripted:kite", map_name="2m_vs_1z", episodes=20, out=demonstrations, greedy=True, seed=0)
    return DM2Config().dm2(
        variant="dm2",
        world={"map": "2m_vs_1z"},
        rollout={"env_runners": 2, "battles_per_env_runner": 8, "env_steps": 256},
        policy={"hidden_size": 16},
        ppo={"epochs": 2},
        discriminator={"updates": 3, "replay_iterations": 2},
        matching={"coefficient": 0.3, "normalise": True},
        demonstrations={"path": str(demonstrations), "episodes_per_draw": 8},
        evaluation={"episodes": 10},
    )


def metrics_of(algorithm: DM2) -> dict[str, Any]:
    result = algorithm.train()
    return {"battles": dict(result["env_runners"]), "agents": {k: dict(v) for k, v in result["learners"].items()}}


@pytest.fixture(scope="module")
def undisturbed(config: DM2Config, local_ray: None) -> list[dict[str, Any]]:
    together = config.copy(copy_frozen=False).dm2(learners={"processes": "driver"}, demonstrations={"expert_actors": 0})
    algorithm = together.build_algo()
    found = [metrics_of(algorithm) for _ in range(ITERATIONS)]
    algorithm.stop()
    return found


@pytest.fixture(scope="module")
def algorithm(config: DM2Config, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Iterator[DM2]:
    marker = tmp_path_factory.mktemp("marker")

    class DiesInUpdate(AgentLearner):
        """Kills its own process in the middle of an update as often as there are markers with its name."""

        def _update_policy(self, *arguments: Any) -> dict[str, float]:
            order = marker / f"{self.agent_id}"
            if order.exists():
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._update_policy(*arguments)

    algorithm = config.copy(copy_frozen=False).training(learner_class=DiesInUpdate).build_algo()
    algorithm.marker = marker
    yield algorithm
    algorithm.stop()


def runner_handles(algorithm: DM2) -> list[Any]:
    return list(algorithm.rollout_workers.handles.values())


def wait_until_dead(handle: Any, seconds: float = 20.0) -> None:
    """Returns once Ray has noticed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ray.get(handle.ping.remote(), timeout=0.5)
        except ray.exceptions.RayError:
            return
        time.sleep(0.05)


def replaced(handle: Any, process: str) -> bool:
    try:
        return ray.get(handle.ping.remote()) != process
    except ray.exceptions.RayActorError:
        return False


def test_undisturbed_iteration(algorithm: DM2, undisturbed: list) -> None:
    assert metrics_of(algorithm) == undisturbed[0]
    assert algorithm.faults.counts() == NOTHING


def test_rollout_worker_killed_while_idle(algorithm: DM2, undisturbed: list) -> None:
    """RLlib's own answer to this is a runner with random weights that passes for healthy."""
    victim = runner_handles(algorithm)[0]
    ray.kill(victim, no_restart=False)
    wait_until_dead(victim)
    started = time.monotonic()
    assert metrics_of(algorithm) == undisturbed[1]
    assert time.monotonic() - started < 50  # RLlib's default sleeps a minute
    assert algorithm.faults.counts() == {**NOTHING, "rollout_worker": 1}


def test_a_rollout_worker_replaced_before_it_was_missed_is_counted(algorithm: DM2, undisturbed: list) -> None:
    before = algorithm.faults.counts()["rollout_worker"]
    victim = runner_handles(algorithm)[1]
    process = ray.get(victim.ping.remote())
    ray.kill(victim, no_restart=False)
    deadline = time.monotonic() + 60
    while not replaced(victim, process):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert metrics_of(algorithm) == undisturbed[2]
    (told,) = algorithm.faults.faults[before:]
    assert (told.kind, told.who, told.seconds) == ("rollout_worker", "2", pytest.approx(0, abs=0.01))


def test_learner_killed_while_idle(algorithm: DM2, undisturbed: list) -> None:
    victim = algorithm.learner_group.learner("agent_0")
    restarts = algorithm.learner_group.restarts
    ray.kill(victim, no_restart=False)
    wait_until_dead(victim)
    assert metrics_of(algorithm) == undisturbed[3]
    assert algorithm.learner_group.restarts > restarts
    assert algorithm.faults.counts()["learner"] == 1


def test_learner_killed_in_the_middle_of_an_update(algorithm: DM2, undisturbed: list) -> None:
    (algorithm.marker / "agent_1").touch()
    restarts = algorithm.learner_group.restarts
    assert metrics_of(algorithm) == undisturbed[4]
    assert algorithm.learner_group.restarts == restarts + 1
    assert not list(algorithm.marker.iterdir())


def test_learner_killed_for_good_is_made_anew(algorithm: DM2, undisturbed: list) -> None:
    before = algorithm.learner_group.learner("agent_1")
    ray.kill(before)
    wait_until_dead(before)
    assert metrics_of(algorithm) == undisturbed[5]
    assert algorithm.learner_group.learner("agent_1") != before


def test_expert_killed(algorithm: DM2, undisturbed: list) -> None:
    (expert,) = algorithm.experts.actors
    ray.kill(expert, no_restart=False)
    assert metrics_of(algorithm) == undisturbed[6]
    assert algorithm.faults.counts()["expert"] == 1


def test_all_rollout_workers_killed_at_once(algorithm: DM2, undisturbed: list) -> None:
    for victim in runner_handles(algorithm):
        ray.kill(victim, no_restart=False)
    assert metrics_of(algorithm) == undisturbed[7]
    assert algorithm.evaluate_battles(10).episodes == 10


def test_a_learner_is_sent_its_own_agent_and_nothing_else(config: DM2Config, tmp_path: Path) -> None:
    def seen(data: Any) -> str:
        return hashlib.sha256(data.observations.tobytes()).hexdigest()

    class Notes(AgentLearner):
        """Writes down what it is sent."""

        def train(self, iteration: int, demonstration: Any, *trajectories: Any) -> Any:
            lines = [f"{os.getpid()}", seen(demonstration), *map(seen, trajectories)]
            (tmp_path / f"{self.agent_id}").write_text("\n".join(lines))
            (tmp_path / f"{self.agent_id}-modules").write_text(",".join(self.module.keys()))
            return super().train(iteration, demonstration, *trajectories)

    algorithm = config.copy(copy_frozen=False).training(learner_class=Notes).build_algo()
    weights = [ray.get(item) for item in algorithm.learner_group.weights]
    algorithm.train()
    algorithm.stop()
    runner = BattleEnvRunner(config=config, worker_index=1)
    rollouts = [
        runner.rollout(RolloutTask(iteration=0, index=index, quota=quota), 0, *weights)
        for index, quota in enumerate(config.run_spec.rollout_quotas)
    ]
    here = config.copy(copy_frozen=False).dm2(demonstrations={"expert_actors": 0})
    draw = build_source(here.experiment).draw(0, [])
    processes = set()
    for index, agent in enumerate(config.run_spec.agent_ids):
        process, *received = (tmp_path / agent).read_text().splitlines()
        processes.add(process)
        assert received == [seen(draw[index]), *(seen(rollout[index]) for rollout in rollouts)]
        assert (tmp_path / f"{agent}-modules").read_text().split(",") == [agent, f"{agent}_discriminator"]
    assert len(processes) == 2 and str(os.getpid()) not in processes
