"""RLlib Algorithms: DM2, with IPPO as its case without matching, and the centralized reference MAPPO.

    dm2.py              DM2Config and DM2; start here, with the picture of an iteration
    run_processes.py    the processes that a run starts besides its learners
    training_counts.py  what both have been trained on so far
    mappo/              MAPPO

Names are imported when they are first used, so that this package loads Ray and torch only when an algorithm is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.lazy_names import lazy_attributes

if TYPE_CHECKING:
    from dm2_ray.algorithms.dm2 import DM2, DM2Config
    from dm2_ray.algorithms.mappo.mappo import MAPPO

__all__ = ["DM2", "DM2Config", "MAPPO"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "DM2": "dm2_ray.algorithms.dm2",
        "DM2Config": "dm2_ray.algorithms.dm2",
        "MAPPO": "dm2_ray.algorithms.mappo.mappo",
    },
)
