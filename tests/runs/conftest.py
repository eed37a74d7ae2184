"""One local Ray for the commands that run in the tests' own process."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ray(local_ray: None) -> None:
    """Started before the first test."""
