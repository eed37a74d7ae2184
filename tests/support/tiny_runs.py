"""Runs that take a second: their settings, the commands that make them, and the files they write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TINY = [
    "rollout.env_runners=0",
    "rollout.battles_per_env_runner=8",
    "rollout.env_steps=256",
    "policy.hidden_size=16",
    "ppo.epochs=2",
    "discriminator.updates=3",
    "demonstrations.expert_actors=0",
    "demonstrations.episodes_per_draw=8",
    "learners.processes=driver",
    "evaluation.every_env_steps=0",
    "evaluation.episodes=6",
    "tracking.tensorboard=false",
]
"""Everything runs in the driver. A test appends its own settings: the last value of a key wins."""
TINY_WITH_PROCESSES = [
    entry
    for entry in TINY
    if not entry.startswith(("rollout.env_runners", "learners.processes", "demonstrations.expert_actors"))
]


def dm2(*arguments: object) -> int:
    """Runs a command in this process; returns its exit code."""
    from dm2_ray.cli import main

    return main([str(argument) for argument in arguments])


def train_arguments(run: Path, *more: object, variant: str = "ippo", tiny: list[str] = TINY) -> list[str]:
    """Arguments of a `dm2 train` on the smallest map."""
    command = ["train", "--variant", variant, "--map", "2m_vs_1z", "--run-dir", run, *tiny, *more]
    return [str(word) for word in command]


def train(run: Path, *more: object, variant: str = "ippo") -> int:
    return dm2(*train_arguments(run, *more, variant=variant))


def problems(stderr: str) -> list[str]:
    """Lines on stderr other than those that say what a run does: what it runs on, where it resumes, why it ends."""
    usual = re.compile(r"dm2: (\w+ on \w+: |resuming |\S+ downloaded to |SIG\w+: |stopped by SIG)")
    return [line for line in stderr.splitlines() if not usual.match(line)]


def record_script(out: Path, *, script: str = "kite", map_name: str = "2m_vs_1z", episodes: int) -> Path:
    """A demonstration set of a scripted team, recorded by `dm2 demos record`."""
    assert dm2("demos", "record", f"scripted:{script}", "--map", map_name, "--episodes", episodes, "--out", out) == 0
    return out


def lines(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def records(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the entries that depend on the clock."""
    return [{key: value for key, value in json.loads(line).items() if key != "timing"} for line in lines(run)]
