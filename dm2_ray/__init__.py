"""DM2-Ray: distributed multi-agent learning by distribution matching (DM²) on Ray.

Names are imported when they are first used: `import dm2_ray` loads neither torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.lazy_names import lazy_attributes
from dm2_ray.world.envs.gymnasium_ids import register_maps

if TYPE_CHECKING:
    from dm2_ray.algorithms.dm2 import DM2, DM2Config
    from dm2_ray.config.schema import Experiment
    from dm2_ray.runs.team import Team, load_team

__version__ = "0.1.0"

__all__ = ["DM2", "DM2Config", "Experiment", "Team", "__version__", "load_team"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "DM2": "dm2_ray.algorithms.dm2",
        "DM2Config": "dm2_ray.algorithms.dm2",
        "Experiment": "dm2_ray.config.schema",
        "Team": "dm2_ray.runs.team",
        "load_team": "dm2_ray.runs.team",
    },
)

# After `import dm2_ray`, `gymnasium.make("dm2_ray/3m-v0")` works; gymnasium itself does not search for plugins.
register_maps()
