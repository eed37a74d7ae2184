"""RLlib Algorithms: DM2, with IPPO as its case without matching, and the centralized reference MAPPO.

    dm2.py             DM2Config and DM2; start here, with the picture of an iteration
    run_processes.py   everything that a run starts beside its learners
    mappo/             MAPPO

Names are imported when they are first used, so that this package loads Ray and torch only when asked for an algorithm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dm2_ray.algorithms.dm2 import DM2, DM2Config
    from dm2_ray.algorithms.mappo.mappo import MAPPO

__all__ = ["DM2", "DM2Config", "MAPPO"]

_MODULES = {
    "DM2": "dm2_ray.algorithms.dm2",
    "DM2Config": "dm2_ray.algorithms.dm2",
    "MAPPO": "dm2_ray.algorithms.mappo.mappo",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
