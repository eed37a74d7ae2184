"""Memory of a run's processes: what grows is seen, in the right place, and nothing else."""

import mmap
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

from dm2_ray.distributed.memory import MIB, MemoryMonitor, rss_bytes

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def team() -> Iterator[tuple[Any, list[Any]]]:
    class Hoards:
        """Keeps what it is asked to take."""

        def __init__(self) -> None:
            self.hoard: list[Any] = []

        def take(self, mib: int) -> None:
            self.hoard.append(np.ones(mib * MIB, np.uint8))

        def look_at(self, shared: np.ndarray) -> int:
            self.hoard.append(shared)
            return int(shared.sum())

    class HoardingLearner(Hoards):
        """The gauge knows an actor's kind by the name of its class."""

    class HoardingRunner(Hoards):
        """Likewise."""

    learner = ray.remote(HoardingLearner).options(num_cpus=0.1).remote()
    runners = [ray.remote(HoardingRunner).options(num_cpus=0.1).remote() for _ in range(2)]
    ray.get([actor.take.remote(1) for actor in [learner, *runners]])
    yield learner, runners
    for actor in [learner, *runners]:
        ray.kill(actor)


def sampled() -> dict[str, Any]:
    sample = MemoryMonitor().sample()
    assert sample is not None
    return sample


def test_growth_is_seen_where_it_is(local_ray: None, team: tuple[Any, list[Any]]) -> None:
    learner, runners = team
    before = sampled()
    assert before["processes"] == {"learner": 1, "rollout_worker": 2}
    ray.get([learner.take.remote(100), runners[0].take.remote(60)])
    after = sampled()
    grown = {name: after[name] - before[name] for name in before if name != "processes"}
    assert grown["learner_mib"] == pytest.approx(100, abs=10)
    assert grown["rollout_worker_mib"] == pytest.approx(30, abs=10)  # a mean over two
    assert abs(grown["driver_mib"]) < 10
    # Pages of its own, since an allocator may have some left of what earlier tests needed.
    with mmap.mmap(-1, 80 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(b"1" * len(held))
        assert sampled()["driver_mib"] - after["driver_mib"] == pytest.approx(80, abs=10)


def test_shared_objects_belong_to_the_store(local_ray: None, team: tuple[Any, list[Any]]) -> None:
    learner, _ = team
    before = sampled()
    shared = ray.put(np.ones(120 * MIB, np.uint8))
    assert ray.get(learner.look_at.remote(shared)) == 120 * MIB
    deadline = time.monotonic() + 30
    # Ray counts what a store holds from time to time.
    while (after := sampled())["object_store_mib"] == before["object_store_mib"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after["object_store_mib"] - before["object_store_mib"] == pytest.approx(120, abs=5)
    assert after["learner_mib"] - before["learner_mib"] < 20


def test_it_pauses(local_ray: None) -> None:
    seconds = 100.0
    gauge = MemoryMonitor(pause_s=10.0, clock=lambda: seconds)
    assert gauge.sample() is not None
    seconds += 9.0
    assert gauge.sample() is None
    seconds += 1.0
    assert gauge.sample() is not None


def test_a_process_that_has_ended_has_no_memory() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert rss_bytes(ended.pid) is None
