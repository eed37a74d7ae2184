"""The checks of `dm2 doctor`: whether this machine provides what a run needs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Literal

from dm2_ray.config.schema import Experiment
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.starcraft.install import check_starcraft
from dm2_ray.world.starcraft.protocol import StarCraftError, load_protocol

_GIB = 1024**3
SCARCE_BYTES = 5 * _GIB
TOO_FEW_BYTES = _GIB // 2
_OLDEST_PYTHON = (3, 10)
_STORE_SHARE = 0.3
"""Share of the memory that Ray's object store takes by default."""


def machine_checks(experiment: Experiment | None, run_dir: Path) -> Iterator[CheckResult]:
    """Runs all checks.

    Args:
        experiment: What will be run; None if that is not known.
        run_dir: Where the run will be written.
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


def _python() -> CheckResult:
    found = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        return fail("python", found, f"dm2-ray needs {'.'.join(map(str, _OLDEST_PYTHON))} or newer")
    return ok("python", f"{found} ({sys.executable})")


def _ray() -> CheckResult:
    """Requires exactly the version that the package was written for: RLlib's internals change with every release."""
    try:
        found = version("ray")
        wanted = next(
            (match[1] for line in requires("dm2-ray") or () if (match := re.match(r"ray\[.*\]==([\w.]+)", line))), None
        )
    except PackageNotFoundError as error:
        return fail("ray", f"{error.name} is not installed", "pip install dm2-ray, which installs its Ray, too")
    if wanted is not None and found != wanted:
        return fail("ray", found, f"dm2-ray needs exactly {wanted}: pip install 'ray[default,rllib]=={wanted}'")
    return ok("ray", found)


def _disk(check: str, path: Path) -> CheckResult:
    path = path.expanduser().absolute()
    existing = next(candidate for candidate in (path, *path.parents) if candidate.exists())
    if not os.access(existing, os.W_OK):
        return fail(
            check, f"{existing} cannot be written to", "choose another --run-dir (or $TMPDIR), or change its owner"
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


def _shared_memory() -> CheckResult:
    path = Path("/dev/shm")
    if not path.is_dir():
        return warn(
            "/dev/shm", "is missing", "Ray's object store uses the temporary directory, which is slow: mount /dev/shm"
        )
    size = shutil.disk_usage(path).total
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = _STORE_SHARE * memory
    found = f"{size / _GIB:.1f} GiB of {memory / _GIB:.0f} GiB memory"
    if size < wanted:
        return warn(
            "/dev/shm", found,
            f"Ray's object store takes {wanted / _GIB:.1f} GiB and uses the disk otherwise: docker run --shm-size, an "
            "emptyDir of medium Memory, or a smaller ray start --object-store-memory",
        )  # fmt: skip
    return ok("/dev/shm", found)


def _wandb(experiment: Experiment | None) -> CheckResult:
    mode = "online" if experiment is None else experiment.tracking.wandb
    if mode != "online":
        return ok("wandb", f"tracking.wandb is {mode}: no key and no network needed")
    # wandb takes 0.6 s to import.
    from dm2_ray.tracking.wandb_run import offline_reason

    reason = offline_reason()
    if reason is None:
        return ok("wandb", "an API key was found, and the server answers")
    return warn("wandb", f"{reason}: runs here are written offline", "wandb login, or tracking.wandb=offline")


def _gpu(experiment: Experiment | None) -> CheckResult:
    import torch  # takes 1.5 s; the other findings are shown before

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    words = f"torch {torch.__version__}, {found or 'no'} GPU{'s' if found > 1 else ''} here"
    wanted = 0.0 if experiment is None else experiment.learners.gpus_per_learner
    if wanted and not found:
        return warn(
            "gpu", f"{words}, learners.gpus_per_learner is {wanted:g}",
            "install a CUDA build of torch and the NVIDIA driver on the learners' machines, or set it to 0",
        )  # fmt: skip
    return ok("gpu", words)


def _starcraft(experiment: Experiment | None) -> Iterator[CheckResult]:
    if experiment is None or experiment.world.backend != "starcraft":
        yield ok("starcraft", "not needed: world.backend is embedded")
        return
    try:
        load_protocol()
        yield ok("starcraft protocol", "s2clientprotocol and protobuf are compatible")
    except StarCraftError as error:
        yield fail("starcraft protocol", str(error), "pip install 'dm2-ray[starcraft]'")
        return
    try:
        options = SmacOptions.from_arguments(experiment.world.smac)
        check_starcraft(experiment.world.map, experiment.world.starcraft, options.game_version)
        yield ok("starcraft", f"the game and its map {experiment.world.map} are installed")
    except StarCraftError as error:
        yield fail("starcraft", str(error), "every node with rollout workers needs the game and the maps")


def _smac() -> CheckResult:
    """On PyPI, `smac` is not the StarCraft Multi-Agent Challenge."""
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
class CheckResult:
    """What one check found.

    Attributes:
        level: "warn" if a run works, but badly; "fail" if it does not work.
        check: Name of the check, a word or two.
        found: What was found.
        fix: What to do about it; empty if nothing.
    """

    level: Level
    check: str
    found: str
    fix: str = ""

    def line(self) -> str:
        """The result as a line of text."""
        return f"{self.level:<4}  {self.check}: {self.found}" + (f" — {self.fix}" if self.fix else "")

    def record(self) -> dict[str, str]:
        """The result for `--json`."""
        return {"level": self.level, "check": self.check, "what": self.found, "cure": self.fix}


def ok(check: str, found: str) -> CheckResult:
    """The result of a check that passed."""
    return CheckResult(level="ok", check=check, found=found)


def warn(check: str, found: str, fix: str) -> CheckResult:
    """The result of a check that found a problem with which a run still works."""
    return CheckResult(level="warn", check=check, found=found, fix=fix)


def fail(check: str, found: str, fix: str) -> CheckResult:
    """The result of a check that found a problem with which no run works."""
    return CheckResult(level="fail", check=check, found=found, fix=fix)
