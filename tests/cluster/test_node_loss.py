"""A node is lost with all learners and the store of the team's own best battles: no number changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.timeout(280)
def test_a_node_lost_with_its_learners_and_experts_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "losing_a_node.py")],
        capture_output=True, text=True, timeout=270, check=False, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["on_victim"], "the learners and the expert were not all on the node that was lost"
    # 2 rollout workers, 2 learners, 1 expert: each has taken only the CPUs that were reserved for it.
    assert found["cpus_in_use"] == pytest.approx(2 * 1.0 + 2 * 0.2 + 0.1)
    assert found["lost"]["learner"] == 2 and found["lost"]["node"] == 1
    assert found["disturbed"] == found["undisturbed"]
