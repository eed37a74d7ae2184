"""cluster/slurm/train.sbatch on one host made of namespaces: `srun` and `scontrol` are replaced, the rest is real.

The host has its own ports and /tmp/ray, as the script expects, and ends with this test.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import NAMESPACES, unsupported

ROOT = Path(__file__).parents[2]
REASON = unsupported()
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(150),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

LIGHT = (
    "--variant ippo --map 2m_vs_1z --iterations 100000 rollout.env_runners=0 rollout.battles_per_env_runner=8 "
    "rollout.env_steps=256 policy.hidden_size=16 ppo.epochs=2 learners.processes=driver evaluation.every_env_steps=0 "
    "evaluation.episodes=4 tracking.tensorboard=false"
)
WITH_THIS_PROCESS = ("setpriv", "--pdeathsig", "KILL")
# What the script uses of Slurm: it starts a step, requeues a job, and sends SIGTERM before the time limit.
SRUN = '#!/bin/bash\necho "srun $*" >>"$CALLS"\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "scontrol $*" >>"$CALLS"\n'
HOST = """
set -e
hostname node0
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 10.88.0.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
mkdir -p /tmp/ray
mount --bind "$PLACE/ray" /tmp/ray
mount -t tmpfs -o size=1g none /dev/shm
mount --bind "$PLACE/hosts" /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind /dev/null /etc/resolv.conf; fi
set +e
"$SBATCH" "$PLACE/run" $ARGUMENTS >"$PLACE/log" 2>&1 &
job=$!
while kill -0 $job 2>/dev/null && ! [ -s "$PLACE/run/metrics.jsonl" ]; do sleep 0.2; done
ls "$HOME/.dm2-ray" >"$PLACE/tokens"
kill -TERM $job
wait $job
"""


def test_a_job_at_its_time_limit_saves_and_is_requeued(tmp_path: Path) -> None:
    for name in ("bin", "ray", "home"):
        (tmp_path / name).mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.88.0.1 node0\n")
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(tmp_path / "home"), "PLACE": str(tmp_path), "CALLS": str(tmp_path / "calls"), "ARGUMENTS": LIGHT,
        "SBATCH": str(ROOT / "cluster" / "slurm" / "train.sbatch"), "DM2_CLUSTER": str(ROOT / "cluster"),
        "DM2_VENV": str(virtual_environment(tmp_path)), "SLURM_JOB_ID": "42", "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
    }  # fmt: skip
    done = subprocess.run(
        [*WITH_THIS_PROCESS, "unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c", HOST],
        env=environment, capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip
    log = (tmp_path / "log").read_text()
    assert done.returncode == 130, f"{done.stderr}\n{log[-3000:]}"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stopped_by"] == "SIGTERM"
    assert (tmp_path / "run" / "checkpoints" / f"iteration_{summary['iterations']:06d}").is_dir()
    step, again = (tmp_path / "calls").read_text().splitlines()
    assert step.startswith("srun --overlap --nodes=1 --ntasks=1 --nodelist=node0")
    assert again == "scontrol requeue 42"
    # The token existed only during the job.
    assert (tmp_path / "tokens").read_text() == "token-42\n"
    assert list((tmp_path / "home" / ".dm2-ray").iterdir()) == []


def virtual_environment(place: Path) -> Path:
    """The Python environment of this test as a directory that the script can activate."""
    programs = Path(sys.executable).parent
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "activate").write_text(f"PATH={shlex.quote(str(programs))}:$PATH\nexport PATH\n")
    return place / "venv"
