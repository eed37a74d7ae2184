"""Compiled kernels on disk, seen from processes of their own, in a small package around a copy of the module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dm2_ray.world import compile_cache
from dm2_ray.world.compile_cache import kernel_sources

CALLEE = "from cached.compile_cache import kernel\n\n@kernel\ndef inner(x):\n    return {factor} * x\n"
CALLER = (
    "from cached.callee import inner\nfrom cached.compile_cache import kernel\n\n"
    "@kernel\ndef outer(x):\n    return inner(x) + 1.0\n"
)
REPORT = """
import json, numba
from cached.compile_cache import cache_directory
from cached.caller import outer
print(json.dumps({
    "result": outer(2.0),
    "from_disk": sum(outer.stats.cache_hits.values()),
    "directory": str(cache_directory()),
    "numba_setting": numba.config.CACHE_DIR,
}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "cached"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(compile_cache.__file__, package)
    (package / "callee.py").write_text(CALLEE.format(factor=3.0))
    (package / "caller.py").write_text(CALLER)
    (package / "bystander.py").write_text("color = 1\n")
    return package


def start(package: Path, **variables: str) -> subprocess.Popen[str]:
    home = package.parent
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"PYTHONPATH": str(home), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.Popen([sys.executable, "-c", REPORT], env=environment, stdout=subprocess.PIPE, text=True)


def report(process: subprocess.Popen[str]) -> dict:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    result: dict = json.loads(output)
    return result


@pytest.mark.cli
def test_edits_of_a_called_kernel_in_another_file_take_effect(package: Path) -> None:
    # Workers that start together on a cold cache do not disturb one another.
    for cold in [start(package), start(package)]:
        found = report(cold)
        assert found["result"] == 7.0
        assert Path(found["directory"]).parent == package / "__pycache__"
        assert found["numba_setting"] == ""
    (package / "bystander.py").write_text("color = 2\n")
    warm = report(start(package))
    assert (warm["result"], warm["from_disk"]) == (7.0, 1)
    (package / "callee.py").write_text(CALLEE.format(factor=5.0))
    edited = report(start(package))
    assert (edited["result"], edited["from_disk"]) == (11.0, 0)


@pytest.mark.cli
def test_read_only_installation_falls_back_to_the_users_cache_and_then_to_a_temporary_one(
    package: Path, tmp_path: Path
) -> None:
    # A file in place of the directory refuses writing to everybody, the superuser of build containers included.
    (package / "__pycache__").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    users = start(package)
    assert Path(report(users)["directory"]).parent == tmp_path / ".cache" / "dm2_ray"
    shutil.rmtree(tmp_path / ".cache")
    (tmp_path / ".cache").touch()
    last = start(package, TMPDIR=str(temporary))
    found = report(last)
    assert found["result"] == 7.0
    assert Path(found["directory"]).parent.parent == temporary


@pytest.mark.cli
def test_numbas_own_setting_is_respected(package: Path, tmp_path: Path) -> None:
    chosen = str(tmp_path / "chosen")
    found = report(start(package, NUMBA_CACHE_DIR=chosen))
    assert Path(found["directory"]).parent == Path(chosen) / "dm2_ray"
    assert found["numba_setting"] == chosen


def test_sources_are_the_kernels_and_what_they_import(package: Path) -> None:
    assert [path.name for path in kernel_sources(package)] == ["callee.py", "caller.py", "compile_cache.py"]
    (package / "caller.py").write_text("from cached import bystander\n" + CALLER)
    assert "bystander.py" in [path.name for path in kernel_sources(package)]


def test_sources_of_the_world_include_rules_and_engine() -> None:
    names = {path.name for path in kernel_sources(Path(compile_cache.__file__).parent)}
    assert {"rules.py", "step_outcome.py", "rules_tables.py", "game_loop.py", "unit_kinds.py"} <= names


@pytest.mark.cli
def test_a_root_logger_at_debug_hears_nothing_of_the_compiler(package: Path) -> None:
    program = (
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"
        "from cached.caller import outer\nassert outer(2.0) == 7.0\n"
        "logging.getLogger('mine').debug('still heard')\n"
    )
    (package / "callee.py").write_text(CALLEE.format(factor=3.0))
    (package / "caller.py").write_text(CALLER)
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=package.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "DEBUG:mine:still heard\n"
    chosen = program.replace("from cached", "logging.getLogger('numba').setLevel('INFO')\nfrom cached", 1)
    chosen += "assert logging.getLogger('numba').level == logging.INFO  # the program's own choice is kept\n"
    subprocess.run([sys.executable, "-c", chosen], cwd=package.parent, env=environment, check=True)
