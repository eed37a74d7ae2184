"""What a run needs of this machine, looked at one thing at a time.

What `dm2 doctor` says of one thing.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Any, Literal

from dm2_ray.config.schema import Experiment

_GIB = 1024**3
SCARCE_BYTES = 5 * _GIB
TOO_FEW_BYTES = _GIB // 2
_OLDEST_PYTHON = (3, 10)
_STORE_SHARE = 0.3
"""Of the memory: what Ray's object store takes by itself."""


def machine_checks(experiment: Experiment | None, run_dir: Path) -> Iterator[Finding]:
    """All of them.

    Args:
        experiment: What is to be run; None where nobody has said.
        run_dir: Where it is to be written.
    """
    yield _python()
    yield _ray()
    yield _disk("run directory", run_dir)
    yield _disk("temporary directory", Path(tempfile.gettempdir()))
    yield _shared_memory()
    yield _wandb(experiment)
    yield _gpu(experiment)
    yield from _starcraft(experiment)
    yield _smac()


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        return fail("python", found, f"dm2-ray needs {'.'.join(map(str, _OLDEST_PYTHON))} or newer")
    return ok("python", f"{found} ({sys.executable})")


def _ray() -> Finding:
    """The very version that the package was written for: RLlib changes its inside with every release."""
    try:
        found = version("ray")
        wanted = next(
            (match[1] for line in requires("dm2-ray") or () if (match := re.match(r"ray\[.*\]==([\w.]+)", line))), None
        )
    except PackageNotFoundError as error:
        return fail("ray", f"{error.name} is not installed", "pip install dm2-ray, which brings its Ray along")
    if wanted is not None and found != wanted:
        return fail("ray", found, f"dm2-ray needs exactly {wanted}: pip install 'ray[default,rllib]=={wanted}'")
    return ok("ray", found)


def _disk(check: str, path: Path) -> Finding:
    path = path.expanduser().absolute()
    existing = next(candidate for candidate in (path, *path.parents) if candidate.exists())
    if not os.access(existing, os.W_OK):
        return fail(
            check, f"{existing} cannot be written to", "choose another --run-dir (or TMPDIR), or change its owner"
        )
    free = shutil.disk_usage(existing).free
    found = f"{existing}, {free / _GIB:.1f} GiB free"
    if free < TOO_FEW_BYTES:
        return fail(check, found, "free some space: checkpoints and Ray's logs need it")
    if free < SCARCE_BYTES:
        return warn(
            check, found, f"a long run fills {SCARCE_BYTES // _GIB} GiB: lower checkpoint.keep, or free some space"
        )
    return ok(check, found)


def _shared_memory() -> Finding:
    path = Path("/dev/shm")
    if not path.is_dir():
        return warn(
            "/dev/shm", "is missing", "Ray's object store goes to the temporary directory, which is slow: mount it"
        )
    size = shutil.disk_usage(path).total
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = _STORE_SHARE * memory
    found = f"{size / _GIB:.1f} GiB of {memory / _GIB:.0f} GiB memory"
    if size < wanted:
        return warn(
            "/dev/shm", found,
            f"Ray's object store wants {wanted / _GIB:.1f} GiB and goes to disk without: docker run --shm-size, an "
            "emptyDir of medium Memory, or a smaller ray start --object-store-memory",
        )  # fmt: skip
    return ok("/dev/shm", found)


def _wandb(experiment: Experiment | None) -> Finding:
    mode = "online" if experiment is None else experiment.tracking.wandb
    if mode != "online":
        return ok("wandb", f"tracking.wandb is {mode}: neither key nor network is needed")
    from dm2_ray.tracking.wandb_run import offline_reason

    reason = offline_reason()
    if reason is None:
        return ok("wandb", "there is a key, and the server answers")
    return warn(
        "wandb", f"{reason}, runs here are written offline", "wandb login, or tracking.wandb=offline to mean it"
    )


def _gpu(experiment: Experiment | None) -> Finding:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    words = f"torch {torch.__version__}, {found or 'no'} GPU{'s' if found > 1 else ''} here"
    wanted = 0.0 if experiment is None else experiment.learners.gpus_per_learner
    if wanted and not found:
        return warn(
            "gpu", f"{words}, learners.gpus_per_learner is {wanted:g}",
            "install a CUDA build of torch and the driver where learners run, or set it to 0",
        )  # fmt: skip
    return ok("gpu", words)


def _starcraft(experiment: Experiment | None) -> Iterator[Finding]:
    from dm2_ray.world.starcraft.protocol import StarCraftError, load_protocol

    needed = experiment is not None and experiment.world.backend == "starcraft"
    if not needed:
        yield ok("starcraft", "not needed: world.backend is embedded")
        return
    assert experiment is not None
    from dm2_ray.world.smac.options import SmacOptions
    from dm2_ray.world.starcraft.install import check_starcraft

    try:
        load_protocol()
        yield ok("starcraft protocol", "s2clientprotocol and protobuf fit together")
    except StarCraftError as error:
        yield fail("starcraft protocol", str(error), "pip install 'dm2-ray[starcraft]'")
        return
    try:
        switches = SmacOptions.from_arguments(experiment.world.smac)
        check_starcraft(experiment.world.map, experiment.world.starcraft, switches.game_version)
        yield ok("starcraft", f"the game and its map {experiment.world.map} are here")
    except StarCraftError as error:
        yield fail("starcraft", str(error), "every node that plays needs the game and the maps")


def _smac() -> Finding:
    """The package index has another `smac` than StarCraft's."""
    try:
        found = distribution("smac")
    except PackageNotFoundError:
        return ok("smac", "not installed, and not needed")
    if any("starcraft2" in str(file) for file in found.files or ()):
        return ok("smac", f"{found.version}, the StarCraft Multi-Agent Challenge (not needed)")
    return warn(
        "smac", f"{found.version} is an AutoML tool, not the StarCraft Multi-Agent Challenge",
        "dm2-ray needs neither: pip uninstall smac",
    )  # fmt: skip


Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line: how it is, and what to do about it."""

    level: Level
    check: str
    """What was looked at, a word or two."""
    what: str
    """What was found."""
    cure: str = ""
    """What to do; empty where all is well."""

    def line(self) -> str:
        """As it is printed."""
        return f"{self.level:<4}  {self.check}: {self.what}" + (f" — {self.cure}" if self.cure else "")

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(level="ok", check=check, what=what)


def warn(check: str, what: str, cure: str) -> Finding:
    """It works, yet not as it should."""
    return Finding(level="warn", check=check, what=what, cure=cure)


def fail(check: str, what: str, cure: str) -> Finding:
    """It will not work."""
    return Finding(level="fail", check=check, what=what, cure=cure)
