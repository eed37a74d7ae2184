"""Battles: maps, the engine, the rules of the StarCraft Multi-Agent Challenge, and environments for other libraries.

Each name is imported when it is first used, so that looking up a map's sizes does not load the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.lazy_names import lazy_attributes

if TYPE_CHECKING:
    from dm2_ray.world.battles.battle_vector import BattleVector
    from dm2_ray.world.battles.unit_records import Sides, UnitRecord
    from dm2_ray.world.envs.gymnasium_env import TeamEnv
    from dm2_ray.world.envs.gymnasium_vector_env import TeamVectorEnv
    from dm2_ray.world.envs.pettingzoo_env import parallel_env
    from dm2_ray.world.envs.smac_env import SMACEnv
    from dm2_ray.world.maps.map_spec import MapSpec, UnknownMapError
    from dm2_ray.world.maps.registry import load_map, scenario_names, world_map
    from dm2_ray.world.maps.scenario import ScenarioError, load_scenario, scenario_from_mapping
    from dm2_ray.world.maps.smac_maps import map_names
    from dm2_ray.world.scripted import SCRIPTED_TEAMS
    from dm2_ray.world.scripted.scripted_team import ScriptedTeam
    from dm2_ray.world.smac.recorded_rules import RulesReplay
    from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector

__all__ = [
    "SCRIPTED_TEAMS",
    "BattleVector",
    "MapSpec",
    "RulesReplay",
    "SMACEnv",
    "ScenarioError",
    "ScriptedTeam",
    "Sides",
    "StarCraftVector",
    "TeamEnv",
    "TeamVectorEnv",
    "UnitRecord",
    "UnknownMapError",
    "load_map",
    "load_scenario",
    "map_names",
    "parallel_env",
    "scenario_from_mapping",
    "scenario_names",
    "world_map",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "SCRIPTED_TEAMS": "dm2_ray.world.scripted",
        "BattleVector": "dm2_ray.world.battles.battle_vector",
        "MapSpec": "dm2_ray.world.maps.map_spec",
        "RulesReplay": "dm2_ray.world.smac.recorded_rules",
        "SMACEnv": "dm2_ray.world.envs.smac_env",
        "ScenarioError": "dm2_ray.world.maps.scenario",
        "ScriptedTeam": "dm2_ray.world.scripted.scripted_team",
        "Sides": "dm2_ray.world.battles.unit_records",
        "StarCraftVector": "dm2_ray.world.starcraft.starcraft_vector",
        "TeamEnv": "dm2_ray.world.envs.gymnasium_env",
        "TeamVectorEnv": "dm2_ray.world.envs.gymnasium_vector_env",
        "UnitRecord": "dm2_ray.world.battles.unit_records",
        "UnknownMapError": "dm2_ray.world.maps.map_spec",
        "load_map": "dm2_ray.world.maps.registry",
        "load_scenario": "dm2_ray.world.maps.scenario",
        "map_names": "dm2_ray.world.maps.smac_maps",
        "parallel_env": "dm2_ray.world.envs.pettingzoo_env",
        "scenario_from_mapping": "dm2_ray.world.maps.scenario",
        "scenario_names": "dm2_ray.world.maps.registry",
        "world_map": "dm2_ray.world.maps.registry",
    },
)
