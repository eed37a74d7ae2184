"""From a configured world to its battles: the one place that knows which backend is which class."""

from __future__ import annotations

from dm2_ray.config import WorldSettings
from dm2_ray.world import BattleVector, world_map
from dm2_ray.world.battle_backend import BattleBackend
from dm2_ray.world.engine_settings import EngineSettings


def battles_of(world: WorldSettings, num_battles: int, seed: int) -> BattleBackend:
    """Battles side by side; of StarCraft II at most `world.starcraft.max_games`.

    Raises:
        StarCraftError: the game is asked for and not installed here.
    """
    map_spec = world_map(world.map, world.scenario)
    if world.backend == "starcraft":
        # Imported where it is needed: it asks for packages that others do without.
        from dm2_ray.world.starcraft import StarCraftVector

        games = min(num_battles, world.starcraft.max_games)
        return StarCraftVector(map_spec, games, seed=seed, settings=world.starcraft, **world.smac)
    engine = EngineSettings.from_arguments(world.engine)
    return BattleVector(map_spec, num_battles, seed=seed, engine=engine, **world.smac)
