"""An installation that is not one, and battles on it that are closed when a test is over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_installation import FakeInstallation

from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector

OpenVector = Callable[..., StarCraftVector]


@pytest.fixture(scope="session", autouse=True)
def compiled_engine() -> None:
    """The engine is in the compile cache before any game needs it."""
    BattleVector("3m", 1).reset()


@pytest.fixture
def installation(tmp_path: Path) -> FakeInstallation:
    return FakeInstallation(tmp_path / "StarCraftII")


@pytest.fixture
def open_vector(installation: FakeInstallation) -> Iterator[OpenVector]:
    """StarCraftVector on the installation; keyword `settings` changes StarCraftSettings."""
    opened: list[StarCraftVector] = []

    def open_one(
        map_name: str, num_battles: int, *, settings: dict[str, Any] | None = None, **arguments: Any
    ) -> StarCraftVector:
        whole = StarCraftSettings(path=str(installation.root), **(settings or {}))
        opened.append(StarCraftVector(map_name, num_battles, settings=whole, **arguments))
        return opened[-1]

    yield open_one
    for vector in opened:
        vector.close()
