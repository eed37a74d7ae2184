"""What is missing is said in one line that tells what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_installation import FakeInstallation

from dm2_ray.cli import main
from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.world.starcraft.install import check_starcraft, find_installation, find_map
from dm2_ray.world.starcraft.protocol import PACKAGE, StarCraftNotInstalled, load_protocol, serialized_descriptor
from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector


def refusal(installation: FakeInstallation | None = None, map_name: str = "3m", **settings: str) -> str:
    where = StarCraftSettings(path=str(installation.root)) if installation else StarCraftSettings(**settings)
    with pytest.raises(StarCraftNotInstalled) as caught:
        check_starcraft(map_name, where)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def forgetful() -> Iterator[None]:
    """The messages are built anew, before and after."""
    load_protocol.cache_clear()
    yield
    load_protocol.cache_clear()


def test_a_complete_installation_is_found(installation, monkeypatch: pytest.MonkeyPatch) -> None:
    check_starcraft("3m", StarCraftSettings(path=str(installation.root)))
    monkeypatch.setenv("SC2PATH", str(installation.root))
    check_starcraft("3m", StarCraftSettings())
    newer = installation.root / "Versions" / "Base100000"
    newer.mkdir()
    assert find_installation().build == 75689  # a directory without a game is none
    shutil.copy(installation.root / "Versions" / "Base75689" / "SC2_x64", newer)
    assert (find_installation().build, find_installation(None, "4.10").build) == (100000, 75689)


def test_no_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"StarCraft II is not at {tmp_path} (world.starcraft.path)" in refusal(path=str(tmp_path))
    monkeypatch.setenv("SC2PATH", str(tmp_path / "elsewhere"))
    message = refusal()
    assert f"{tmp_path / 'elsewhere'} ($SC2PATH)" in message and "Versions/Base*/SC2_x64" in message
    monkeypatch.delenv("SC2PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path / 'StarCraftII'} (the default, $SC2PATH is not set)" in refusal()


def test_game_versions(installation, open_vector) -> None:
    for version, expected in (
        ("4.6.2", "is Base69232; .* has Base75689"),
        ("5.9", "'5.9' is unknown; known: 3.16.1"),
    ):
        with pytest.raises(StarCraftNotInstalled, match=expected):
            open_vector("3m", 1, game_version=version).reset()
    binary = installation.root / "Versions" / "Base75689" / "SC2_x64"
    binary.chmod(0o644)
    assert f"{binary} is not executable" in refusal(installation)


def test_no_map(installation) -> None:
    maps = installation.root / "Maps"
    (maps / "SMAC_Maps" / "3m.SC2Map").rename(maps / "3m.SC2Map")
    assert find_map(find_installation(str(installation.root)), "3m").name == "3m.SC2Map"
    (maps / "3m.SC2Map").unlink()
    message = refusal(installation)
    assert f"3m.SC2Map is missing; searched {maps}/**" in message and "SMAC_Maps.zip" in message
    assert "AutoML" not in message


def test_the_other_smac_is_recognized(installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installation.root / "Maps" / "SMAC_Maps" / "3m.SC2Map").unlink()
    package = tmp_path / "site" / "smac"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('never imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    assert "is the AutoML tool of that name, not the StarCraft Multi-Agent Challenge" in refusal(installation)
    # The right one brings the maps along.
    packaged = package / "env" / "starcraft2" / "maps" / "SMAC_Maps" / "3m.SC2Map"
    packaged.parent.mkdir(parents=True)
    packaged.write_bytes(b"packaged")
    found = find_map(find_installation(str(installation.root)), "3m")
    assert (found.name, found.data) == ("SMAC_Maps/3m.SC2Map", b"packaged")
    (installation.root / "Maps" / "SMAC_Maps" / "8m.SC2Map").unlink()
    assert f"{package / 'env' / 'starcraft2' / 'maps'}/**" in refusal(installation, "8m")


def test_missing_packages(installation, forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websocket", None)
    assert "needs the package websocket-client: pip install 'dm2-ray[starcraft]'" in refusal(installation)
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    load_protocol.cache_clear()
    assert "protocol is not installed (package s2clientprotocol)" in refusal(installation)


def test_messages_of_any_protoc(tmp_path: Path, forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = set(sys.modules)
    request = load_protocol().request(id=7, step={"count": 8}).SerializeToString()
    assert request == bytes.fromhex("62020808880607")  # fields 12 and 97 of the protocol
    assert not {name for name in set(sys.modules) - imported if name.startswith(PACKAGE)}

    # The same messages in the shape that protoc has given them since 3.20.
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations
    package = tmp_path / PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    for path in Path(spec.submodule_search_locations[0]).glob("*_pb2.py"):
        data = serialized_descriptor(path)
        (package / path.name).write_text(f"DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile({data!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load_protocol.cache_clear()
    assert load_protocol().request(id=7, step={"count": 8}).SerializeToString() == request

    # And in one that nobody knows.
    (package / "raw_pb2.py").write_text("DESCRIPTOR = None\n")
    load_protocol.cache_clear()
    with pytest.raises(
        StarCraftNotInstalled, match=r"messages in .* cannot be built with protobuf .* raw_pb2.py contains"
    ):
        load_protocol()


def test_the_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--variant", "ippo", "--map", "3m", "--iterations", "1", "--run-dir", str(tmp_path / "run")]
    assert main([*command, "world.backend=starcraft", f"world.starcraft.path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dm2: StarCraft II is not at {tmp_path} (world.starcraft.path)") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_is_refused_before_a_game_is_looked_for() -> None:
    with pytest.raises(TypeError, match="unknown SMAC argument"):
        StarCraftVector("3m", 1, reward_winn=3)
    with pytest.raises(ValueError, match="num_battles is 0"):
        StarCraftVector("3m", 0)
    vector = StarCraftVector("3m", 2)
    assert vector.game_pids == [None, None]
    with pytest.raises(RuntimeError, match="before reset"):
        vector.step([[1, 1, 1], [1, 1, 1]])
