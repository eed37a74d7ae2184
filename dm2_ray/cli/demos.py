"""`dm2 demos record`, `import` and `merge`, which make sets; `demo_reports.py` shows what is in them."""

from __future__ import annotations

import argparse
import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.demonstrations import Filters
from dm2_ray.demonstrations.importers import import_published
from dm2_ray.demonstrations.merging import merge_sets
from dm2_ray.recording.progress import RecordingProgress
from dm2_ray.world.maps.registry import load_map

if TYPE_CHECKING:
    from dm2_ray.demonstrations import Manifest

log = logging.getLogger(__name__)


def record_set(options: argparse.Namespace) -> int:
    # torch and Ray take 4 s to import; the other commands need neither.
    from dm2_ray.recording.recorder import record

    with closing(RecordingProgress(options.out)) as progress:
        manifest = record(
            options.team,
            map_name=options.map,
            episodes=options.episodes,
            out=Path(options.out),
            greedy=not options.stochastic,
            seed=options.seed,
            epsilon=options.epsilon,
            workers=options.workers,
            filters=Filters(min_return=options.min_return, only_wins=options.only_wins),
            win_rate=options.win_rate,
            give_up_after=options.give_up_after,
            progress=progress,
        )
    return _print_created(options, manifest)


def import_set(options: argparse.Namespace) -> int:
    manifest = import_published(options.directory, load_map(options.map), options.out, episodes=options.episodes)
    _print_created(options, manifest)
    log.info(
        "these are battles of StarCraft II: runs on the embedded engine accept them with "
        "demonstrations.other_engine=true"
    )
    return 0


def merge(options: argparse.Namespace) -> int:
    return _print_created(options, merge_sets(options.sets, options.out))


def _print_created(options: argparse.Namespace, manifest: Manifest) -> int:
    if options.json:
        print(manifest.model_dump_json())
        return 0
    policy, rate = manifest.policy, manifest.win_rate
    facts = [
        f"{manifest.episodes} joint episodes",
        f"{manifest.env_steps:,} env steps",
        "win rate not known" if rate is None else f"win rate {rate:.2f}",
    ]
    if policy.battles_played is not None and policy.battles_played > manifest.episodes:
        facts.append(f"of {policy.battles_played:,} battles played")
    if manifest.missing:
        facts.append(f"without {', '.join(manifest.missing)}, which the files do not hold")
    print(f"{options.out}: {', '.join(facts)}")
    return 0
