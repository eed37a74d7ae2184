"""Starts one local Ray for the commands that these tests run in their own process."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ray(local_ray: None) -> None:
    """Started before the first test."""
