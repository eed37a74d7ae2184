"""SMAC's options: the constructor arguments of oxwhirl/smac's StarCraft2Env, with the same names and defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dm2_ray.errors import suggest_name

DIFFICULTIES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")
"""SMAC's names of the levels of StarCraft II's computer player."""


@dataclass(frozen=True, kw_only=True)
class SmacOptions:
    """Constructor arguments of SMAC other than the map's name and the seed.

    Attributes:
        step_mul: Game loops per env step.
        move_amount: Length of a move order; whether a move is available is tested at half the distance.
        continuing_episode: True marks a battle cut by the time limit with `episode_limit` in the info, so that its
            value is bootstrapped.
        obs_all_health: Show health (and shield) of the units in sight; implies obs_own_health.
        obs_last_action: Show the allies' last actions.
        obs_instead_of_state: The state is all observations concatenated.
        reward_sparse: +1 for a win, -1 for a defeat, 0 otherwise (still scaled with reward_scale).
        heuristic_ai: SMAC's built-in heuristic plays the agents; the given actions appear only as last actions.
        heuristic_rest: The heuristic walks toward a target that is out of shooting range, one move at a time, instead
            of ordering an attack. No effect without heuristic_ai.
        difficulty: One of DIFFICULTIES. No effect: SMAC's maps start no computer player, whatever the level.
        game_version: No effect in the embedded engine.
        replay_dir: Where SMACEnv.save_replay() writes; empty for the working directory.
        replay_prefix: Prefix of the replays' file names; empty for the map's name.
        window_size_x: Pixels of the window that render() opens; likewise `window_size_y`.
        debug: SMACEnv logs observations, states, actions and rewards at level DEBUG.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A number out of range.
    """

    continuing_episode: bool = False
    step_mul: int = 8
    move_amount: int | float = 2
    obs_all_health: bool = True
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_instead_of_state: bool = False
    obs_timestep_number: bool = False
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: int | float = 10
    reward_win: int | float = 200
    reward_defeat: int | float = 0
    reward_negative_scale: int | float = 0.5
    reward_scale: bool = True
    reward_scale_rate: int | float = 20
    heuristic_ai: bool = False
    heuristic_rest: bool = False
    difficulty: str = "7"
    game_version: str | None = None
    replay_dir: str | None = ""
    replay_prefix: str | None = ""
    window_size_x: int = 1920
    window_size_y: int = 1200
    debug: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            accepted: tuple[type, ...] = {
                "bool": (bool,),
                "int": (int,),
                "int | float": (int, float),
                "str": (str,),
                "str | None": (str, type(None)),
            }[kind]
            is_misplaced_bool = isinstance(value, bool) and bool not in accepted
            if not isinstance(value, accepted) or is_misplaced_bool:
                raise TypeError(f"{field.name} must be {kind}, not {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be finite, not {value!r}")
        for name in ("step_mul", "move_amount", "reward_scale_rate", "window_size_x", "window_size_y"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        if (self.obs_pathing_grid or self.obs_terrain_height) and self.move_amount != int(self.move_amount):
            raise ValueError(
                f"obs_pathing_grid and obs_terrain_height read whole cells: move_amount must be a whole number, "
                f"not {self.move_amount!r}"
            )
        if self.difficulty not in DIFFICULTIES:
            raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, not {self.difficulty!r}")
        if self.obs_all_health:
            object.__setattr__(self, "obs_own_health", True)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> SmacOptions:
        """Options from keyword arguments.

        Raises:
            TypeError: An argument that SMAC does not have; the message names the closest one.
        """
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                raise TypeError(f"unknown SMAC argument {name!r}; {suggest_name(name, known, 'arguments')}")
        return cls(**arguments)
