"""`dm2 replay`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dm2_ray.analysis.replay import check_files, record_battle, write_replay


def replay(options: argparse.Namespace) -> int:
    files = options.out or [Path("replay.html")]
    check_files(files)
    recording = record_battle(
        options.team,
        map_name=options.map,
        seed=options.seed,
        battle=options.battle,
        greedy=not options.stochastic,
        until=options.until,
    )
    for file in files:
        write_replay(recording, file, speed=options.speed, size=options.size, close_up=options.close_up)
    print(f"{', '.join(map(str, files))}: battle {recording.provenance.battle} on {recording.provenance.map}, "
          f"{recording.outcome} after {recording.num_steps} steps, return {recording.rewards.sum():.2f}")  # fmt: skip
    return 0
