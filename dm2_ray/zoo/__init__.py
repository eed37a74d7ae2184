"""Trained teams that are installed with the package.

packed_team.py   a packed team, and `open_team`, which opens whatever names a trained team (start here)
manifest.py      the description of a packed team
packing.py       makes a packed team of a checkpoint
references.py    which teams there are, and what `zoo:MAP/NAME` refers to
teams/           MAP/NAME/ holds one team
recipe.yaml      the runs that the teams come from (`dm2 zoo train`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.lazy_names import lazy_attributes

if TYPE_CHECKING:
    from dm2_ray.zoo.manifest import PackedTeamError, TeamManifest
    from dm2_ray.zoo.packed_team import PackedTeam, open_team
    from dm2_ray.zoo.references import list_teams

__all__ = ["PackedTeam", "PackedTeamError", "TeamManifest", "list_teams", "open_team"]

# Listing teams needs no torch, which opening them does.
__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "PackedTeam": "dm2_ray.zoo.packed_team",
        "PackedTeamError": "dm2_ray.zoo.manifest",
        "TeamManifest": "dm2_ray.zoo.manifest",
        "list_teams": "dm2_ray.zoo.references",
        "open_team": "dm2_ray.zoo.packed_team",
    },
)
