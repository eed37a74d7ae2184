"""Battles: maps, engine, the rules of the StarCraft Multi-Agent Challenge, and the environments made of them."""

from __future__ import annotations

from dm2_ray.world.maps import MapSpec, UnknownMapError, load_map, map_names

__all__ = ["MapSpec", "UnknownMapError", "load_map", "map_names"]
