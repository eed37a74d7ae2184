"""What `dm2 demos …` does: sets are made here; what is said of them is in demo_reports.py.

Each command imports what it needs, so that `--help` and refusals do not wait for torch and Ray.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.demo_reports import demos_inspect, demos_verify
from dm2_ray.cli.parsing import add_command, finite, natural, positive, share

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers
    from dm2_ray.demonstrations import Manifest


def add_parsers(subparsers: Subparsers) -> None:
    """Adds `dm2 demos …`."""
    demos = subparsers.add_parser("demos", help="record, import, merge, check and show demonstration sets")
    actions = demos.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_record(actions)
    parser = add_command(
        actions, "import", demos_import, "make a set of the files that the authors of DM2 published",
        "  dm2 demos import agents_batches/_eval --map 5m_vs_6m --out demos/published\n",
    )  # fmt: skip
    parser.add_argument("directory", metavar="DIR", help="with agent_0.npz, agent_1.npz, …")
    parser.add_argument("--map", required=True, help="what the battles were fought on")
    parser.add_argument("--episodes", type=positive, metavar="N", help="the first N battles; default: all")
    _add_out(parser)
    parser = add_command(
        actions, "merge", demos_merge, "make one set of several that were recorded in the same world",
        "  dm2 demos merge demos/3m-a demos/3m-b --out demos/3m\n",
    )  # fmt: skip
    parser.add_argument("sets", nargs="+", metavar="SET")
    _add_out(parser)
    parser = add_command(
        actions, "verify", demos_verify, "check every value of a set: one line, and exit code 0 or 2",
        "  dm2 demos verify demos/3m\n  dm2 demos verify demos/3m --map 3m --json\n",
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument("--map", help="check too that it fits this map and the engine as it is today")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser = add_command(
        actions, "inspect", demos_inspect, "say what is in a set: its world, its teams, how they did",
        "  dm2 demos inspect demos/3m\n  dm2 demos inspect demos/3m --json\n",
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument("--json", action="store_true", help="the manifest as one JSON object on stdout")
    parser = add_command(
        actions, "plot", demos_plot,
        "draw what is in a set: surroundings, actions and survival of every agent, returns",
        "  dm2 demos plot demos/3m --out 3m.png\n  dm2 demos plot demos/3m --agent 1 --out agent-1.svg\n",
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png|.svg|.pdf", help="the picture")
    parser.add_argument("--agent", type=natural, metavar="I", help="this agent only")
    parser.add_argument("--map", help="the scenario that the set was recorded on, if its name does not lead there")


def _add_record(actions: Subparsers) -> None:
    parser = add_command(
        actions, "record", demos_record, "record joint trajectories of a checkpoint or a scripted team",
        "  dm2 demos record runs/ippo-3m-0 --episodes 1000 --stochastic --out demos/3m\n"
        "  dm2 demos record runs/ippo-3m-0 --win-rate 0.3 --episodes 1000 --stochastic --out demos/3m-mediocre\n"
        "  dm2 demos record scripted:focus_fire --map 3m --episodes 1000 --only-wins --workers 4 --out demos/3m-won\n"
        "\nA recording that was stopped, whatever stopped it, goes on when the same command is given again.\n",
    )  # fmt: skip
    parser.add_argument(
        "team", metavar="CHECKPOINT | scripted:NAME", help="a checkpoint, a run directory (its newest one), or a script"
    )
    parser.add_argument("--map", help="SMAC map or scenario; a checkpoint knows its own")
    parser.add_argument("--episodes", type=positive, required=True, metavar="N", help="joint episodes, exactly")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="of battles and actions (%(default)s)")
    parser.add_argument(
        "--workers", type=natural, default=1, metavar="W",
        help="processes that play, each over StarCraft II with games of its own; 0 and 1: in this one (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--min-return", type=finite, metavar="X", help="keep battles of at least this team return")
    parser.add_argument("--only-wins", action="store_true", help="keep battles that were won")
    parser.add_argument(
        "--give-up-after", type=positive, default=8192, metavar="B",
        help="end if after B battles or more fewer than one in B was kept (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--win-rate", type=share, metavar="P",
        help="measure all checkpoints of the run and record the one that wins a share of battles nearest to P",
    )  # fmt: skip
    _add_out(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="SET", help="directory of the new set")
    parser.add_argument("--json", action="store_true", help="the new set's manifest as one JSON object on stdout")


def demos_record(options: argparse.Namespace) -> int:
    from dm2_ray.demonstrations import Filters
    from dm2_ray.recording.progress import RecordingProgress
    from dm2_ray.recording.recorder import record

    with closing(RecordingProgress(options.out)) as progress:
        manifest = record(
            options.team,
            map_name=options.map,
            episodes=options.episodes,
            out=Path(options.out),
            greedy=not options.stochastic,
            seed=options.seed,
            workers=options.workers,
            filters=Filters(min_return=options.min_return, only_wins=options.only_wins),
            win_rate=options.win_rate,
            give_up_after=options.give_up_after,
            progress=progress,
        )
    return _print_created(options, manifest)


def demos_import(options: argparse.Namespace) -> int:
    from dm2_ray.demonstrations.importers import import_published
    from dm2_ray.world import load_map

    manifest = import_published(options.directory, load_map(options.map), options.out, episodes=options.episodes)
    _print_created(options, manifest)
    if not options.json:
        print("its battles are those of StarCraft II: runs on the embedded engine take it with "
              "demonstrations.other_engine=true")  # fmt: skip
    return 0


def demos_merge(options: argparse.Namespace) -> int:
    from dm2_ray.demonstrations.merging import merge_sets

    return _print_created(options, merge_sets(options.sets, options.out))


def demos_plot(options: argparse.Namespace) -> int:
    from dm2_ray.analysis.demonstration_plot import draw_set_picture

    episodes, lack = draw_set_picture(Path(options.set), options.out, agent=options.agent, map_name=options.map)
    print(f"{options.out}: {episodes:,} joint episodes of {options.set}{'' if lack is None else f' ({lack})'}")
    return 0


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
