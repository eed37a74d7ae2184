"""What a run's world settings determine without playing; loads neither the engine nor the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dm2_ray.config.schema import WorldSettings
from dm2_ray.world.engine_settings import ENGINE_VERSION
from dm2_ray.world.maps.registry import load_map, scenario_file, world_map
from dm2_ray.world.maps.scenario import read_scenario, scenario_from_mapping
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables


@dataclass(frozen=True, kw_only=True)
class ConfiguredWorld:
    """Everything that determines what an agent's observations and actions mean; demonstrations must match it.

    Attributes:
        scenario_hash: Hash of a user scenario's content; None on SMAC's maps.
        backend: The program that simulates the battles.
        engine_version: Version of the embedded engine; None for StarCraft II, whose version is known only once it runs.
    """

    map_name: str
    num_agents: int
    obs_size: int
    num_actions: int
    scenario_hash: str | None
    backend: Literal["embedded", "starcraft"]
    engine_version: str | None

    @classmethod
    def from_settings(cls, world: WorldSettings) -> ConfiguredWorld:
        """The world that a run's settings describe."""
        spec = world_map(world.map, world.scenario)
        tables = build_tables(spec, SmacOptions.from_arguments(world.smac))
        return cls(
            map_name=spec.name,
            num_agents=tables.num_agents,
            obs_size=tables.obs_size,
            num_actions=tables.num_actions,
            engine_version=ENGINE_VERSION if world.backend == "embedded" else None,
            scenario_hash=spec.scenario_hash,
            backend=world.backend,
        )


def resolve_world(world: WorldSettings) -> WorldSettings:
    """The same world with the map's name in `map` and, if the map is a scenario, the scenario's content in `scenario`.

    Raises:
        UnknownMapError, ScenarioError: There is no such map, or its file is wrong.
    """
    content = world.scenario
    if content is None:
        file = scenario_file(world.map)
        if file is None:
            load_map(world.map)
            return world
        content = read_scenario(file)
    name = scenario_from_mapping(content, "world.scenario").name
    return world.model_copy(update={"map": name, "scenario": content})
