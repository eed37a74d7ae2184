"""What a demonstration has to fit: the world that a run is played in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dm2_ray.config import WorldSettings
from dm2_ray.world.maps import world_map
from dm2_ray.world.rules_tables import build_tables
from dm2_ray.world.switches import SmacSwitches


@dataclass(frozen=True, kw_only=True)
class RunWorld:
    """Everything that fixes what an agent's observations and actions mean."""

    map_name: str
    num_agents: int
    obs_size: int
    num_actions: int
    scenario_hash: str | None
    """Of a user scenario's content; None on SMAC's maps."""
    backend: Literal["embedded", "starcraft"]
    """Who plays the battles."""
    engine_version: str | None
    """Of the embedded engine; None of StarCraft II, which tells its own only once it runs."""

    @classmethod
    def of(cls, world: WorldSettings) -> RunWorld:
        """The world of a run's settings."""
        spec = world_map(world.map, world.scenario)
        tables = build_tables(spec, SmacSwitches.from_arguments(world.smac))
        version = None
        if world.backend == "embedded":
            # Imported where it is needed: it brings the compiler along.
            from dm2_ray.world.engine import ENGINE_VERSION

            version = ENGINE_VERSION
        return cls(
            map_name=spec.name,
            num_agents=tables.num_agents,
            obs_size=tables.obs_size,
            num_actions=tables.num_actions,
            scenario_hash=spec.scenario_hash,
            backend=world.backend,
            engine_version=version,
        )
