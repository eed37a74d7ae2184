"""Scripted teams: experts without training, and baselines.

The names are checked here, because a name must be checked without loading the compiler, which `scripted_team` needs.
"""

from __future__ import annotations

from dm2_ray.config.errors import ConfigError
from dm2_ray.errors import suggest_name

SCRIPTED_TEAMS = ("random", "nearest", "focus_fire", "kite", "hit_and_run")
"""Names of the scripted teams."""


def check_scripted_team(name: str) -> None:
    """Raises ConfigError unless a scripted team has this name; the message names the closest one."""
    if name not in SCRIPTED_TEAMS:
        raise ConfigError(f"unknown scripted team {name!r}; {suggest_name(name, SCRIPTED_TEAMS, 'teams')}")
