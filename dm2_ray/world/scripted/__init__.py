"""Scripted teams: experts without training, and baselines."""

SCRIPTED_TEAMS = ("random", "nearest", "focus_fire", "kite")
"""Their names; here, because checking a name must not load the compiler that `scripted_team` needs."""
