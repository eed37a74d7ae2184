"""The teams that are installed with the package, and how `zoo:MAP/NAME` finds one of them."""

from __future__ import annotations

from pathlib import Path

from dm2_ray.config.team_names import ZOO_PREFIX
from dm2_ray.errors import suggest_name
from dm2_ray.zoo.manifest import MANIFEST_NAME, PackedTeamError, TeamManifest

TEAMS_DIRECTORY = Path(__file__).parent / "teams"
"""MAP/NAME/ holds the files of one team."""


def list_teams(directory: Path = TEAMS_DIRECTORY) -> list[TeamManifest]:
    """The manifests of all teams below a directory, by map and name; their weights are not read.

    Raises:
        PackedTeamError: A manifest is damaged.
    """
    return [TeamManifest.read(path.parent) for path in sorted(directory.glob(f"*/*/{MANIFEST_NAME}"))]


def team_directory(reference: str, directory: Path = TEAMS_DIRECTORY) -> Path:
    """The directory of the team that `zoo:MAP/NAME` refers to.

    Raises:
        PackedTeamError: There is no such team.
    """
    name = reference.removeprefix(ZOO_PREFIX)
    known = sorted(path.parent.relative_to(directory).as_posix() for path in directory.glob(f"*/*/{MANIFEST_NAME}"))
    if name in known:
        return directory / name
    # Among the teams of the same map, if there are any.
    of_map = [team for team in known if team.split("/")[0] == name.split("/")[0]]
    references = [ZOO_PREFIX + team for team in of_map or known]
    raise PackedTeamError(
        f"no team {ZOO_PREFIX}{name} in the zoo; {suggest_name(ZOO_PREFIX + name, references, 'teams', most=3)}"
    )
