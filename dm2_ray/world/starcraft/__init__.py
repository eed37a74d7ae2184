"""Real StarCraft II behind BattleVector's interface: `StarCraftVector` and what it needs.

Names are imported when they are first used: whoever only asks for an error does not load the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dm2_ray.world.starcraft.protocol import StarCraftError, StarCraftNotInstalled
    from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector, check_starcraft

__all__ = ["StarCraftError", "StarCraftNotInstalled", "StarCraftVector", "check_starcraft"]

_HOMES = {
    "StarCraftError": "dm2_ray.world.starcraft.protocol",
    "StarCraftNotInstalled": "dm2_ray.world.starcraft.protocol",
    "StarCraftVector": "dm2_ray.world.starcraft.starcraft_vector",
    "check_starcraft": "dm2_ray.world.starcraft.starcraft_vector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
