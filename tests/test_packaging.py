"""What is installed is what stands in the tree: packages, their data, the configuration files."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.cli

ROOT = Path(__file__).parents[1]


def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")}


def tracked(directory: str) -> list[Path]:
    """Files of a directory that git knows or would add, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", directory]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [Path(line) for line in listed if (ROOT / line).is_file()]


def test_every_package_is_listed() -> None:
    in_tree = {".".join(path.parent.parts) for path in tracked("dm2_ray") if path.suffix == ".py"}
    assert lines(metadata()["options"]["packages"]) == in_tree | {"dm2_ray.configs"}


def test_every_data_file_is_installed() -> None:
    patterns = {package: lines(text) for package, text in metadata()["options.package_data"].items()}
    homes = {Path("configs"): "dm2_ray.configs"} | {
        Path(*package.split(".")): package for package in lines(metadata()["options"]["packages"])
    }
    for path in tracked("dm2_ray") + tracked("configs"):
        if path.suffix == ".py":
            continue
        home = next(parent for parent in path.parents if parent in homes)
        inside = path.relative_to(home).as_posix()
        assert any(fnmatch(inside, pattern) for pattern in patterns["*"] | patterns.get(homes[home], set())), (
            f"{path} is not packaged"
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, in which packages are built."""
    source = tmp_path_factory.mktemp("source")
    for path in tracked("."):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    return source


def test_a_source_distribution_has_the_trained_teams(source: Path, tmp_path: Path) -> None:
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=source, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {path.as_posix() for path in tracked("dm2_ray/zoo") + tracked("configs")} <= names


def test_a_wheel_brings_its_configuration_maps_and_teams(source: Path, tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("dm2_ray-*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import dm2_ray.runs.experiment_loading as files, sys;"
        "assert str(files.configs_dir()).startswith(sys.argv[1]), files.configs_dir();"
        "assert files.load_experiment(variant='ippo', map_name='5m_vs_6m').rollout.episodes == 256;"
        "assert files.load_experiment(variant='ippo', map_name='100m_vs_100m').world.scenario['episode_limit'] == 300;"
        "import dm2_ray.zoo as zoo; from dm2_ray.zoo.references import TEAMS_DIRECTORY;"
        "teams = [zoo.open_team(manifest.reference) for manifest in zoo.list_teams()];"
        "assert teams and all(str(team.path).startswith(sys.argv[1]) for team in teams);"
        "assert (TEAMS_DIRECTORY.parent / 'recipe.yaml').is_file()"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(site)], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}
    )
    (entry_points,) = site.glob("dm2_ray-*.dist-info/entry_points.txt")
    assert "dm2 = dm2_ray.cli:main" in entry_points.read_text()
