"""Creates battles from a run's world settings; only this module maps backends to classes."""

from __future__ import annotations

from dm2_ray.config.schema import WorldSettings
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.registry import world_map
from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector


def build_battles(world: WorldSettings, num_battles: int, seed: int) -> BattleBackend:
    """B battles, stepped together; with StarCraft II at most `world.starcraft.max_games`.

    Raises:
        StarCraftError: StarCraft II is configured but not installed on this machine.
    """
    map_spec = world_map(world.map, world.scenario)
    if world.backend == "starcraft":
        games = min(num_battles, world.starcraft.max_games)
        return StarCraftVector(map_spec, games, seed=seed, settings=world.starcraft, **world.smac)
    engine = EngineSettings.from_arguments(world.engine)
    return BattleVector(map_spec, num_battles, seed=seed, engine=engine, **world.smac)
