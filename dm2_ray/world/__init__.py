"""Battles: maps, engine, the rules of the StarCraft Multi-Agent Challenge, and the environments made of them.

Names are imported when they are first used: whoever only asks for a map's sizes does not load the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dm2_ray.world.battles import BattleVector
    from dm2_ray.world.gymnasium_env import TeamEnv
    from dm2_ray.world.gymnasium_vector_env import TeamVectorEnv
    from dm2_ray.world.maps import MapSpec, UnknownMapError, load_map, map_names, scenario_names, world_map
    from dm2_ray.world.pettingzoo_env import parallel_env
    from dm2_ray.world.replay_rules import RulesReplay
    from dm2_ray.world.scenario import ScenarioError, load_scenario, scenario_from_mapping
    from dm2_ray.world.scripted import SCRIPTED_TEAMS, ScriptedTeam
    from dm2_ray.world.smac_env import SMACEnv
    from dm2_ray.world.starcraft import StarCraftVector
    from dm2_ray.world.unit_records import Sides, UnitRecord

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

_HOMES = {
    "SCRIPTED_TEAMS": "dm2_ray.world.scripted",
    "BattleVector": "dm2_ray.world.battles",
    "MapSpec": "dm2_ray.world.maps",
    "RulesReplay": "dm2_ray.world.replay_rules",
    "SMACEnv": "dm2_ray.world.smac_env",
    "ScenarioError": "dm2_ray.world.scenario",
    "ScriptedTeam": "dm2_ray.world.scripted",
    "Sides": "dm2_ray.world.unit_records",
    "StarCraftVector": "dm2_ray.world.starcraft",
    "TeamEnv": "dm2_ray.world.gymnasium_env",
    "TeamVectorEnv": "dm2_ray.world.gymnasium_vector_env",
    "UnitRecord": "dm2_ray.world.unit_records",
    "UnknownMapError": "dm2_ray.world.maps",
    "load_map": "dm2_ray.world.maps",
    "load_scenario": "dm2_ray.world.scenario",
    "map_names": "dm2_ray.world.maps",
    "parallel_env": "dm2_ray.world.pettingzoo_env",
    "scenario_from_mapping": "dm2_ray.world.scenario",
    "scenario_names": "dm2_ray.world.maps",
    "world_map": "dm2_ray.world.maps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
