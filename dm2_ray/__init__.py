"""DM2-Ray: distributed multi-agent learning by distribution matching (DM²) on Ray.

Names are imported when they are first used: `import dm2_ray` loads neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dm2_ray.world.envs.gymnasium_ids import register_maps

if TYPE_CHECKING:
    from dm2_ray.algorithms.dm2 import DM2, DM2Config
    from dm2_ray.config.schema import Experiment
    from dm2_ray.runs.team import Team, load_team

__version__ = "0.1.0"

__all__ = ["DM2", "DM2Config", "Experiment", "Team", "__version__", "load_team"]

_HOMES = {
    "DM2": "dm2_ray.algorithms.dm2",
    "DM2Config": "dm2_ray.algorithms.dm2",
    "Experiment": "dm2_ray.config.schema",
    "Team": "dm2_ray.runs.team",
    "load_team": "dm2_ray.runs.team",
}


# gymnasium looks for no plugins: whoever has imported us can `gymnasium.make("dm2_ray/3m-v0")`.
register_maps()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
