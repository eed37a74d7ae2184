"""How commands and settings name a team. This module imports no other, so that any may import it.

scripted:NAME     one of SCRIPTED_TEAMS
zoo:MAP/NAME      a trained team that is installed with the package (`dm2 zoo list`)
anything else     path of a checkpoint, of a run directory, or of the directory of a packed team
"""

from __future__ import annotations

SCRIPTED_PREFIX = "scripted:"
ZOO_PREFIX = "zoo:"


def is_path(team: str) -> bool:
    """Whether a team is named by its path."""
    return not team.startswith((SCRIPTED_PREFIX, ZOO_PREFIX))
