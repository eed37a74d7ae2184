"""Rollout workers come and go; what they play does not depend on it."""

import time
from pathlib import Path

import numpy as np
import pytest
import ray

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.distributed.fault_log import FaultLog
from dm2_ray.distributed.resources import NotEnoughResources
from dm2_ray.distributed.rollout.env_runner import BattleEnvRunner, RolloutTask
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup

pytestmark = pytest.mark.usefixtures("local_ray")


def until(group: BattleEnvRunnerGroup, number: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while len(group.at_work) != number:
        assert time.monotonic() < deadline, f"{len(group.at_work)} of {number} at work after {seconds} s"
        group.resize()
        time.sleep(0.1)


def test_a_group_grows_heals_and_plays_what_one_process_plays(small: DM2Config) -> None:
    config = small.dm2(rollout={"env_runners": 1, "max_env_runners": 2, "cpus_per_env_runner": 0.1, "tasks": 3})
    faults = FaultLog()
    group = BattleEnvRunnerGroup(config, number=1, maximum=2, faults=faults)
    here = BattleEnvRunner(config=small.dm2(rollout={"env_runners": 0}), worker_index=0)
    weights = [here.module[agent].get_state(inference_only=True) for agent in config.run_spec.agent_ids]
    weights = [{name: np.array(value) for name, value in state.items()} for state in weights]
    tasks = [
        RolloutTask(iteration=4, index=index, quota=quota) for index, quota in enumerate(config.run_spec.rollout_quotas)
    ]
    assert len(tasks) == 3
    expected = [here.rollout(task, 0, *weights)[0].observations for task in tasks]

    def played() -> list[np.ndarray]:
        return [ray.get(rollout.trajectories[0]).observations for rollout in group.run(tasks, 0, weights)]

    group.wait_until_ready()
    assert len(group.at_work) == 1
    for found, wanted in zip(played(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    until(group, 2)
    ray.kill(group.handles[1], no_restart=False)
    ray.kill(group.handles[2])  # for good: it is made anew
    for found, wanted in zip(played(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    until(group, 2)
    assert faults.counts()["rollout_worker"] == 2
    assert all(event["seconds"] > 0 for event in faults.take_events())
    group.shutdown()


def test_a_runner_that_cannot_start_says_why(small: DM2Config) -> None:
    class Unwilling(BattleEnvRunner):
        def make_env(self) -> None:
            raise OSError("no world here")

    config = small.dm2(rollout={"env_runners": 1, "cpus_per_env_runner": 0.1})
    config.env_runner_cls = Unwilling
    group = BattleEnvRunnerGroup(config, number=1)
    with pytest.raises(OSError, match="no world here"):
        group.wait_until_ready()
    group.shutdown()


def test_without_room_the_wait_ends(small: DM2Config, tmp_path: Path) -> None:
    config = small.dm2(rollout={"env_runners": 1, "cpus_per_env_runner": 1000.0}, faults={"wait_for_resources_s": 1.0})
    group = BattleEnvRunnerGroup(config, number=1)
    with pytest.raises(NotEnoughResources, match="no rollout worker could be started within 1 s"):
        group.wait_until_ready()
    group.shutdown()
