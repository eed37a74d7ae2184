"""What `dm2 demos …` does.

Each command imports what it needs, so that `--help` and refusals do not wait for torch and Ray.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.command_line import add_command, natural, positive

if TYPE_CHECKING:
    from dm2_ray.command_line import Subparsers


def add_parsers(subparsers: Subparsers) -> None:
    """Adds `dm2 demos …`."""
    demos = subparsers.add_parser("demos", help="record and inspect demonstration sets")
    actions = demos.add_subparsers(title="commands", required=True, metavar="COMMAND")
    parser = add_command(
        actions, "record", demos_record, "record joint trajectories of a checkpoint or a scripted team",
        "  dm2 demos record runs/ippo-3m-0 --map 3m --episodes 1000 --stochastic --out demos/3m\n"
        "  dm2 demos record scripted:focus_fire --map 3m --episodes 1000 --out demos/3m-script\n",
    )  # fmt: skip
    parser.add_argument("team", metavar="CHECKPOINT | scripted:NAME")
    parser.add_argument("--map", help="SMAC map or scenario; a checkpoint knows its own")
    parser.add_argument("--episodes", type=positive, required=True, metavar="N", help="joint episodes, exactly")
    parser.add_argument("--out", required=True, metavar="SET", help="directory of the new set")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="of battles and actions (%(default)s)")
    parser = add_command(
        actions, "inspect", demos_inspect, "check a set's hashes and say what is in it",
        "  dm2 demos inspect demos/3m\n  dm2 demos inspect demos/3m --json\n",
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument("--json", action="store_true", help="the manifest as one JSON object on stdout")


def demos_record(options: argparse.Namespace) -> int:
    from dm2_ray.experiments.recording import record

    manifest = record(
        options.team,
        map_name=options.map,
        episodes=options.episodes,
        out=Path(options.out),
        greedy=not options.stochastic,
        seed=options.seed,
    )
    print(f"{options.out}: {manifest.episodes} joint episodes, {manifest.env_steps:,} env steps, "
          f"win rate {manifest.win_rate:.2f}")  # fmt: skip
    return 0


def demos_inspect(options: argparse.Namespace) -> int:
    from dm2_ray.demonstrations import JointTrajectories

    manifest = JointTrajectories.open(options.set).manifest
    if options.json:
        print(manifest.model_dump_json())
        return 0
    policy = manifest.policy
    print(f"{options.set}: intact\n"
          f"  map                  {manifest.map} ({manifest.backend} engine, version {manifest.engine_version})\n"
          f"  team                 {policy.kind} {policy.source} ({'greedy' if policy.greedy else 'stochastic'})\n"
          f"  joint episodes       {manifest.episodes} ({manifest.env_steps:,} env steps)\n"
          f"  win rate             {manifest.win_rate:.3f}\n"
          f"  return, mean         {manifest.return_mean:.2f}\n"
          f"  episode length, mean {manifest.episode_length_mean:.1f}\n"
          f"  agents, observation, actions   {manifest.num_agents}, {manifest.obs_size}, {manifest.num_actions}\n"
          f"  shards               {len(manifest.shards)}")  # fmt: skip
    return 0
