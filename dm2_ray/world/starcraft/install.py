"""Finds StarCraft II and SMAC's maps on this machine; a missing part is explained in one line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.world.starcraft.protocol import StarCraftNotInstalled, load_protocol, load_websocket

PATH_VARIABLE = "SC2PATH"
DEFAULT_ROOT = "~/StarCraftII"
BINARY = "SC2_x64"
_MAP_PAGE = "https://github.com/oxwhirl/smac/releases"
_GAME_PAGE = "https://github.com/Blizzard/s2client-proto"

# Build and data hash of the Linux packages (Blizzard/s2client-proto, buildinfo/versions.json). The newest build of an
# installation needs no hash: the game finds its own data.
_RELEASES = {
    "3.16.1": (55958, "5BD7C31B44525DAB46E64C4602A81DC2"),
    "3.17.0": (56787, "DFD1F6607F2CF19CB4E1C996B2563D9B"),
    "4.0.2": (59587, "B43D9EE00A363DAFAD46914E3E4AF362"),
    "4.1.2": (60321, "33D9FE28909573253B7FC352CE7AEA40"),
    "4.6.0": (67926, "7DE59231CBF06F1ECE9A25A27964D4AE"),
    "4.6.1": (67926, "BEA99B4A8E7B41E62ADC06D194801BAB"),
    "4.6.2": (69232, "B3E14058F1083913B80C20993AC965DB"),
    "4.7.0": (70154, "8E216E34BC61ABDE16A59A672ACB0F3B"),
    "4.7.1": (70154, "94596A85191583AD2EBFAE28C5D532DB"),
    "4.8.2": (71663, "FE90C92716FC6F8F04B74268EC369FA5"),
    "4.8.3": (72282, "0F14399BBD0BA528355FF4A8211F845B"),
    "4.8.4": (73286, "CD040C0675FD986ED37A4CA3C88C8EB5"),
    "4.8.6": (73620, "AA18FEAD6573C79EF707DF44ABF1BE61"),
    "4.9.2": (74741, "614480EF79264B5BD084E57F912172FF"),
    "4.9.3": (75025, "C305368C63621480462F8F516FB64374"),
    "4.10.0": (75689, "B89B5D6FA7CBF6452E721311BFBC6CB2"),
}


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One installed game.

    Attributes:
        root: Directory with Versions/ and Maps/.
        data_version: Hash for the game's option `-dataVersion`; None lets the game decide.
    """

    root: Path
    binary: Path
    build: int
    data_version: str | None


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """A map as it is sent to the game.

    Attributes:
        name: Path below Maps/.
    """

    name: str
    data: bytes


def find_installation(path: str | None = None, game_version: str | None = None) -> Installation:
    """The game below `path`, or $SC2PATH, or ~/StarCraftII.

    Args:
        path: Directory of the game; None takes the environment variable or the default.
        game_version: For example "4.10"; None takes the newest installed build.

    Raises:
        StarCraftNotInstalled: There is no such game.
    """
    named = path or os.environ.get(PATH_VARIABLE)
    root = Path(named or DEFAULT_ROOT).expanduser()
    default = f"the default, ${PATH_VARIABLE} is not set"
    source = "world.starcraft.path" if path else f"${PATH_VARIABLE}" if named else default
    builds = {
        int(match[1]): entry
        for entry in (sorted((root / "Versions").iterdir()) if (root / "Versions").is_dir() else [])
        if (match := re.fullmatch(r"Base(\d+)", entry.name)) and (entry / BINARY).is_file()
    }
    if not builds:
        raise StarCraftNotInstalled(
            f"StarCraft II is not at {root} ({source}): no Versions/Base*/{BINARY} there; unpack the Linux package "
            f"({_GAME_PAGE}) and set {PATH_VARIABLE} or world.starcraft.path to its directory"
        )
    build, data_version = max(builds), None
    if game_version is not None:
        release = game_version if game_version.count(".") == 2 else f"{game_version}.0"
        if release not in _RELEASES:
            raise StarCraftNotInstalled(
                f"game_version {game_version!r} is unknown; known: {', '.join(_RELEASES)}, or null"
            )
        build, data_version = _RELEASES[release]
        if build not in builds:
            found = ", ".join(f"Base{number}" for number in sorted(builds))
            raise StarCraftNotInstalled(
                f"game_version {game_version!r} is Base{build}; {root / 'Versions'} has {found}"
            )
    binary = builds[build] / BINARY
    if not os.access(binary, os.X_OK):
        raise StarCraftNotInstalled(f"{binary} is not executable; run: chmod +x {binary}")
    return Installation(root=root, binary=binary, build=build, data_version=data_version)


def find_map(installation: Installation, map_name: str) -> MapFile:
    """SMAC's map file: below the game's Maps/, or in an installed oxwhirl/smac.

    Raises:
        StarCraftNotInstalled: It was not found; the message lists the directories that were searched.
    """
    maps = installation.root / "Maps"
    file_name = f"{map_name}.SC2Map"
    usual = maps / "SMAC_Maps" / file_name
    found = [usual] if usual.is_file() else sorted(maps.rglob(file_name))
    if found:
        return MapFile(name=found[0].relative_to(maps).as_posix(), data=found[0].read_bytes())
    searched = f"{maps}/**"
    spec = find_spec("smac")
    # A directory on the path that happens to be called smac is not an installed package: it has no origin.
    if spec is not None and spec.origin is not None and spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        if (package / "env" / "starcraft2").is_dir():
            packaged = sorted((package / "env" / "starcraft2" / "maps").rglob(file_name))
            if packaged:
                return MapFile(name=f"SMAC_Maps/{file_name}", data=packaged[0].read_bytes())
            searched += f" and {package / 'env' / 'starcraft2' / 'maps'}/**"
        else:
            searched += (
                f"; the installed package smac ({package}) is the AutoML tool of that name, not the StarCraft "
                "Multi-Agent Challenge, and is not needed here"
            )
    raise StarCraftNotInstalled(
        f"SMAC's map {file_name} is missing; searched {searched}: unpack SMAC_Maps.zip ({_MAP_PAGE}) into {maps}"
    )


def check_starcraft(map_name: str, settings: StarCraftSettings, game_version: str | None = None) -> None:
    """Check whether battles could be launched on this machine, without launching any.

    Raises:
        StarCraftNotInstalled: The game, its protocol or the map is missing.
    """
    load_protocol()
    load_websocket()
    find_map(find_installation(settings.path, game_version), map_name)
