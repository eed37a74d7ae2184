"""A disk that fills up while a run is saved: saved checkpoints stay, and the run resumes once there is space again."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.drivers import VERY_TINY, address, train_command
from support.tiny_runs import problems, records

from dm2_ray.checkpoints import intact_checkpoints
from dm2_ray.cli import main

ITERATIONS = 12
DISK_KIB = 1024


def namespace() -> list[str]:
    """Command that starts a process in a mount namespace of its own."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            attempt = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
            )
        except FileNotFoundError:
            break
        if attempt.returncode == 0:
            return command
    pytest.skip("mounting a small disk needs the right to mount in a namespace of one's own (unshare --mount)")


def test_a_full_disk_costs_no_checkpoint(tmp_path: Path) -> None:
    inside = namespace()
    assert main(train_command(tmp_path / "undisturbed", ITERATIONS)) == 0
    disk, run = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    # Space for all records and some checkpoints, none of which is ever removed.
    settings = ["checkpoint.keep=0", "tracking.tensorboard=true"]
    tiny = [entry for entry in VERY_TINY if not entry.startswith("tracking")]
    train = [sys.executable, "-m", "dm2_ray.cli", *train_command(disk / "run", ITERATIONS, *settings, tiny=tiny)]
    script = (
        f"mount -t tmpfs -o size={DISK_KIB}k none {disk} && {shlex.join(train)}; code=$?; "
        f"cp -a {disk}/run {run}; exit $code"
    )
    ended = subprocess.run([*inside, "sh", "-c", script], capture_output=True, text=True, timeout=200, check=False)
    *warnings, error = problems(ended.stderr)
    assert ended.returncode == 1, ended.stderr
    saved = intact_checkpoints(run / "checkpoints")
    assert 1 <= len(saved) < ITERATIONS - 1
    # Every failed save is a warning, and the run continues; a failure of the last one ends it.
    assert sum("checkpoint not saved ([Errno 28] No space left on device" in line for line in warnings) >= 1
    assert all("the run continues" in line or line.startswith("Stopped writing TensorBoard") for line in warnings)
    assert error.startswith("dm2: ") and "No space left on device" in error and f"dm2 resume {disk}/run" in error
    assert not list((run / "checkpoints").glob(".*"))
    # The iterations after the last checkpoint are repeated.
    assert main(["resume", str(run), *address()]) == 0
    assert records(run) == records(tmp_path / "undisturbed")
