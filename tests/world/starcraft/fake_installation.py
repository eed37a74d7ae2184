"""A directory tree that looks like an installed StarCraft II with SMAC's maps; the game in it is `game_server`."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.starcraft.protocol import load_protocol

BUILD = "Base75689"


class FakeInstallation:
    """Builds the tree below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        maps = root / "Maps" / "SMAC_Maps"
        binary = root / "Versions" / BUILD / "SC2_x64"
        for directory in (maps, binary.parent, root / "commands"):
            directory.mkdir(parents=True)
        for name in map_names():
            (maps / f"{name}.SC2Map").write_bytes(f"map {name}".encode())
        binary.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from game_server import main\nmain()\n"
        )
        binary.chmod(0o755)

    def command(self, name: str, number: int) -> None:
        """Tells games that are to come, or already run, how to behave (see game_server.Commands)."""
        (self.root / "commands" / name).write_text(str(number))

    def launches(self) -> list[int]:
        """Process ids of all games that came to listen, in the order of their launch."""
        logs = sorted((self.root / "log").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.stem) for path in logs]

    def launch(self, pid: int) -> dict[str, Any]:
        """Arguments and environment of a launch."""
        content: dict[str, Any] = json.loads((self.root / "log" / f"{pid}.json").read_text())
        return content

    def requests(self, pid: int) -> list[bytes]:
        """What a game was asked, byte for byte."""
        data = (self.root / "log" / f"{pid}.requests").read_bytes()
        found, at = [], 0
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            found.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        return found

    def messages(self, pid: int) -> list[Any]:
        """The same, read."""
        request = load_protocol().request
        return [request.FromString(data) for data in self.requests(pid)]
