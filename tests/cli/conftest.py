"""One local Ray for the commands of this room that run in the tests' own process."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session", autouse=True)
def local_ray() -> Iterator[None]:
    from dm2_ray.actors.ray_session import ray_session

    with ray_session(needed_cpus=8):
        yield
