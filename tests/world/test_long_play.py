"""Long play on every map under an umpire's eye; how the cost of a step grows with the number of units."""

from __future__ import annotations

import time

import numpy as np
import pytest
from umpire import Umpire

from dm2_ray.world import BattleVector, MapSpec, ScriptedTeam, load_map, map_names, scenario_names
from dm2_ray.world.scenario import scenario_from_mapping
from dm2_ray.world.unit_state import ENERGY, HEALTH, MARKS_ORDER


def play(map_name: str, env_steps: int, team_name: str = "random", seed: int = 0) -> Umpire:
    """At least so many env steps of a scripted team, battles side by side."""
    spec = load_map(map_name)
    # Enough side by side that small maps' time is not numpy's.
    num_battles = 256 if spec.num_agents + spec.num_enemies <= 20 else 64
    battles = BattleVector(spec, num_battles, seed)
    battles.reset()
    team = ScriptedTeam(team_name, battles, seed)
    umpire = Umpire(battles)
    for _ in range(-(-env_steps // num_battles)):
        team.battles_ended(umpire.step(team.act(battles)))
    return umpire
