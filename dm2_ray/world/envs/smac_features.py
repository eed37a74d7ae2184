"""Names and counts of the numbers in SMAC's observations and states.

One observation is move | M enemy rows | N - 1 ally rows | own; the state is N ally rows | M enemy rows | last actions
| time. Shapes: N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

from collections.abc import Iterator

from dm2_ray.world.smac.rules_tables import NUM_RING_CELLS, RulesTables

_MOVES = ("north", "south", "east", "west")


def ally_attributes(tables: RulesTables) -> list[str]:
    """Columns of an agent's row in the state, by SMAC's names."""
    shield = ["shield"] if tables.ally_shields else []
    return ["health", "energy/cooldown", "rel_x", "rel_y", *shield, *_types(tables)]


def enemy_attributes(tables: RulesTables) -> list[str]:
    """Columns of an enemy's row in the state, by SMAC's names."""
    shield = ["shield"] if tables.enemy_shields else []
    return ["health", "rel_x", "rel_y", *shield, *_types(tables)]


def _types(tables: RulesTables) -> list[str]:
    return [f"type_{bit}" for bit in range(tables.unit_type_bits)]


def observation_size(tables: RulesTables) -> int:
    """O as SMAC states it: one less than it returns with obs_timestep_number."""
    return tables.obs_size - tables.obs_timestep_number


def state_size(tables: RulesTables) -> int:
    """S as SMAC states it."""
    return tables.num_agents * observation_size(tables) if tables.obs_instead_of_state else tables.state_size


def observation_features(tables: RulesTables, agent: int) -> list[str]:
    """[O] names of all numbers in an agent's observation, as it is returned.

    Names are SMACv2's where it has them. With obs_timestep_number the second last is SMAC's unused slot.
    """
    names = [f"move_action_{move}" for move in _MOVES]
    if tables.obs_pathing_grid:
        names += [f"pathing_grid_{k}" for k in range(NUM_RING_CELLS)]
    if tables.obs_terrain_height:
        names += [f"terrain_height_{k}" for k in range(NUM_RING_CELLS + 1)]
    for enemy in range(tables.num_enemies):
        names += _seen(tables, "enemy", enemy, "shootable", tables.enemy_shields)
    for ally in range(tables.num_agents):
        if ally != agent:
            names += _seen(tables, "ally", ally, "visible", tables.ally_shields)
            if tables.obs_last_action:
                names += [f"ally_last_action_{ally}_action_{action}" for action in range(tables.num_actions)]
    if tables.obs_own_health:
        names += ["own_health", *(["own_shield"] if tables.ally_shields else [])]
    names += [f"own_unit_type_bit_{bit}" for bit in range(tables.unit_type_bits)]
    return names + (["unused", "timestep"] if tables.obs_timestep_number else [])


def _seen(tables: RulesTables, side: str, number: int, first: str, shields: bool) -> Iterator[str]:
    columns = [first, "distance", "relative_x", "relative_y"]
    if tables.obs_all_health:
        columns += ["health", *(["shield"] if shields else [])]
    yield from (f"{side}_{column}_{number}" for column in columns)
    yield from (f"{side}_unit_type_{number}_bit_{bit}" for bit in range(tables.unit_type_bits))


def state_features(tables: RulesTables) -> list[str]:
    """[S] names of all numbers in the state."""
    if tables.obs_instead_of_state:
        agents = range(tables.num_agents)
        return [f"agent_{agent}_{name}" for agent in agents for name in observation_features(tables, agent)]
    names = []
    for side, count, columns in (
        ("ally", tables.num_agents, ally_attributes(tables)),
        ("enemy", tables.num_enemies, enemy_attributes(tables)),
    ):
        for number in range(count):
            names += [_in_state(side, number, column) for column in columns]
    if tables.state_last_action:
        agents, actions = range(tables.num_agents), range(tables.num_actions)
        names += [f"ally_last_action_{agent}_action_{action}" for agent in agents for action in actions]
    return names + (["timestep"] if tables.state_timestep_number else [])


def _in_state(side: str, number: int, column: str) -> str:
    if column.startswith("type_"):
        return f"{side}_unit_type_{number}_bit_{column.removeprefix('type_')}"
    word = {"energy/cooldown": "cooldown", "rel_x": "relative_x", "rel_y": "relative_y"}.get(column, column)
    return f"{side}_{word}_{number}"
