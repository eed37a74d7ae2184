"""Registers our environments with gymnasium: `dm2_ray/3m-v0` and so on for every packaged map."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from dm2_ray.world.maps.smac_maps import map_names


def register_maps() -> None:
    """Register all packaged maps; may be called again. Nothing is loaded before an environment is created."""
    for name in map_names():
        environment = f"dm2_ray/{name}-v0"
        if environment not in registry:
            register(
                environment,
                entry_point="dm2_ray.world.envs.gymnasium_env:TeamEnv",
                vector_entry_point="dm2_ray.world.envs.gymnasium_vector_env:TeamVectorEnv",
                kwargs={"map_name": name},
            )
