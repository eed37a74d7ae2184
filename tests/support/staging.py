"""Battles put into a chosen situation, for tests of single mechanisms."""

from __future__ import annotations

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.units.state import ENERGY, HEALTH, NONE, ORDER, ORDER_STOP, SHIELD, SHIELD_WAIT, TARGET, X, Y

STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6


def stage(map_name, places, engine=None, seed=0, passive=(), **rows):
    """One battle with its units at `places` [U, 2]; units at None are dead. `rows` sets further rows [U]; units in
    `passive` have no order and stand still."""
    battles = BattleVector(map_name, 1, seed, engine=engine)
    battles.reset()
    kept = battles.snapshot()
    for unit, place in enumerate(places):
        if place is None:
            kept["units"][0, HEALTH, unit] = 0.0
            kept["dead"][0, unit] = True
        else:
            kept["units"][0, [X, Y], unit] = place
    for name, values in rows.items():
        kept["units"][0, {"health": HEALTH, "shield": SHIELD, "energy": ENERGY}[name]] = values
    kept["units"][0, SHIELD_WAIT] = 160.0
    kept["flags"][0, ORDER, list(passive)] = ORDER_STOP
    kept["flags"][0, TARGET, list(passive)] = NONE
    kept["action_mask"][:] = True  # what is available was computed for the units' old places
    battles.restore(kept)
    return battles


def on_stage(map_name, placed, **arguments):
    """As `stage`, with the places of a few units {index: (x, y)}; all others are dead."""
    battles = BattleVector(map_name, 1)
    places = [placed.get(unit) for unit in range(battles.num_agents + battles.num_enemies)]
    return stage(map_name, places, **arguments)


def joint(battles, actions):
    """Joint action [1, N] of the agents {index: action}; the others are dead."""
    return [[actions.get(agent, 0) for agent in range(battles.num_agents)]]
