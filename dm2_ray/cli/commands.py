"""The table of all commands: what `dm2 --help` lists, which arguments each takes, and which function runs it.

A function is named `module:function` and imported when its command runs: `dm2 --help` takes 0.3 s, and would take 5 s
if it had to wait for torch, Ray and the compiler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from dm2_ray.cli import arguments


class Command(NamedTuple):
    """One row of the table."""

    name: str
    """What is typed after `dm2`; a second word is a command of a group."""
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    function: str
    """Module of `dm2_ray.cli` and function: takes the parsed arguments, returns the exit code."""

    def run(self, options: argparse.Namespace) -> int:
        """Imports the command's function and calls it; returns its exit code."""
        module, name = self.function.split(":")
        code: int = getattr(import_module(f"dm2_ray.cli.{module}"), name)(options)
        return code


GROUPS = {
    "demos": "record, import, merge, check and show demonstration sets",
    "zoo": "list the trained teams of the package, pack teams of your own, train all of them again",
    "maps": "list, show, check, measure and calibrate maps and scenarios",
}
# fmt: off
COMMANDS = (
    Command("quickstart", "see in minutes what DM2 does: demonstrations, DM2 beside IPPO, table, picture and replay",
            arguments.quickstart, "experiments:quickstart"),
    Command("train", "train a team", arguments.train, "runs:train"),
    Command("resume", "continue a run from its newest intact checkpoint", arguments.resume, "runs:resume"),
    Command("evaluate", "play battles with a checkpoint's team or a scripted one",
            arguments.evaluate, "evaluate:evaluate"),
    Command("replay", "play one battle and write it as a web page or a film",
            arguments.replay, "replay:replay"),
    Command("demos record", "record joint trajectories of a checkpoint or a scripted team",
            arguments.demos_record, "demos:record_set"),
    Command("demos import", "make a set of the files that the authors of DM2 published",
            arguments.demos_import, "demos:import_set"),
    Command("demos merge", "make one set of several that were recorded in the same world",
            arguments.demos_merge, "demos:merge"),
    Command("demos verify", "check every value of a set: one line, and exit code 0 or 2",
            arguments.demos_verify, "demo_reports:verify"),
    Command("demos inspect", "show what is in a set: its world, its teams, how well they played",
            arguments.demos_inspect, "demo_reports:inspect"),
    Command("demos plot", "draw what is in a set: surroundings, actions and survival of every agent, returns",
            arguments.demos_plot, "demo_reports:plot"),
    Command("zoo list", "list the trained teams that are installed with the package",
            arguments.zoo_list, "zoo:list_zoo"),
    Command("zoo pack", "measure a team of a run and pack it: only what acting needs, at most 1 MB",
            arguments.zoo_pack, "zoo:pack"),
    Command("zoo train", "train the teams of the package again, from its recipe", arguments.zoo_train, "zoo:train"),
    Command("experiment", "run an experiment of the paper from experts to results",
            arguments.experiment, "experiments:experiment"),
    Command("report", "compare runs, or show an experiment's results so far: table, statistics, picture",
            arguments.report, "experiments:report"),
    Command("maps list", "list SMAC's maps and the packaged scenarios", arguments.maps_list, "maps:list_maps"),
    Command("maps show", "describe and draw a map", arguments.maps_show, "maps:show"),
    Command("maps check", "check a scenario's file: one line, and exit code 0 or 2",
            arguments.maps_check, "maps:check"),
    Command("maps difficulty", "measure the win rates of the scripted teams",
            arguments.maps_difficulty, "maps:difficulty"),
    Command("maps calibrate", "compare the learning curves of IPPO and MAPPO with published ones of the real game",
            arguments.maps_calibrate, "calibration:calibrate"),
    Command("submit", "hand a run to a Ray cluster as a job", arguments.submit, "cluster:submit"),
    Command("jobs", "list a cluster's jobs, or show one", arguments.jobs, "cluster:jobs"),
    Command("stop", "stop a job: it saves a checkpoint and ends", arguments.stop, "cluster:stop"),
    Command("doctor", "check whether this machine (and a cluster) has what a run needs",
            arguments.doctor, "doctor:doctor"),
    Command("bench", "compare the speed of rollouts and iterations with stock RLlib", arguments.bench, "bench:bench"),
)
# fmt: on


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; its result has the row of the command as `command`."""
    parser = argparse.ArgumentParser(
        prog="dm2", description="Distributed multi-agent imitation-guided learning (DM2) on Ray."
    )
    parser.add_argument("--version", action="version", version=f"dm2-ray {_version()}")
    all_commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    groups = {}
    for command in COMMANDS:
        *group, name = command.name.split()
        siblings = all_commands
        if group:
            if group[0] not in groups:
                of_group = all_commands.add_parser(group[0], help=GROUPS[group[0]])
                groups[group[0]] = of_group.add_subparsers(title="commands", required=True, metavar="COMMAND")
            siblings = groups[group[0]]
        own = siblings.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(command=command)
        command.add_arguments(own)
    return parser


def _version() -> str:
    try:
        return version("dm2-ray")
    except PackageNotFoundError:
        return "(not installed)"
