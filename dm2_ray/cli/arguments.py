"""The arguments of every command and the examples below its help; the table in `commands.py` names these functions.

Positional words called `settings` may stand anywhere on the line, see `main`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from dm2_ray.cli.argument_types import (
    finite_float,
    fraction,
    fractions,
    nonnegative_int,
    positive_float,
    positive_int,
    positive_ints,
    seed_list,
)

MAP_HELP = "SMAC map, packaged scenario, or a scenario's YAML file (see `dm2 maps list`)"

# Training and evaluation.


def quickstart(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 quickstart",
        "dm2 quickstart --seeds 3 --run-dir runs/three-seeds",
        "dm2 quickstart --full --run-dir runs/own-demonstrators",
        "dm2 quickstart sets.demonstrations.checkpoint=runs/mappo-3s_vs_3z-0 --run-dir runs/own-team",
    )
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE",
        help="settings of all runs, or keys of configs/experiments/quickstart.yaml",
    )  # fmt: skip
    parser.add_argument("--map", help="another map with a packaged team (`dm2 zoo list`); default: 3s_vs_3z")
    parser.add_argument(
        "--seeds", type=positive_int, default=1, metavar="N",
        help="train each method with seeds 0 to N - 1 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="train the demonstrators, too, which takes longer")
    parser.add_argument(
        "--scale", type=positive_float, default=1.0, metavar="X",
        help="multiply the env steps of the runs, e.g. by 0.05 to try the command (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--run-dir", type=Path, default=Path("runs/quickstart"), metavar="DIR",
        help="where everything is written; what is finished there is not repeated (default: %(default)s)",
    )  # fmt: skip


def train(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 train --variant ippo --map 3m --env-steps 500000",
        "dm2 train --variant dm2 --map 3m --demos demos/3m --env-steps 500000 matching.coefficient=0.1",
        "dm2 train --variant dm2_independent --map 2m_vs_1z --demos demos/a --demos demos/b --env-steps 500000",
        "dm2 train --variant mappo --map 3m --env-steps 200000",
        "dm2 train my_experiment.yaml seed=3 rollout.env_runners=8 --address auto",
    )
    _add_experiment(parser)
    parser.add_argument("--run-dir", metavar="DIR", help="the new run (default: runs/VARIANT-MAP-SEED)")
    _add_ray_address(parser)


def resume(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 resume runs/dm2-3m-0",
        "dm2 resume runs/dm2-3m-0 --env-steps 2000000",
        "dm2 resume s3://bucket/runs/dm2-3m-0 --run-dir runs/dm2-3m-0",
    )
    parser.add_argument(
        "run_dir", metavar="RUN_DIR | URI", help="the run, or its copy elsewhere, which is downloaded first"
    )
    parser.add_argument(
        "--run-dir", dest="to", type=Path, metavar="DIR", help="where a copy is downloaded to (default: runs/NAME)"
    )
    _add_limits(parser)
    _add_ray_address(parser)


def evaluate(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 evaluate runs/dm2-3m-0 --episodes 1000",
        "dm2 evaluate runs/dm2-3m-0 --best --episodes 1000",
        "dm2 evaluate runs/dm2-3m-0/checkpoints/iteration_000010 --json",
        "dm2 evaluate zoo:3m/ippo-1.0",
        "dm2 evaluate scripted:random --map 3m",
        "dm2 evaluate runs/dm2-3m-0 --against demos/3m --out comparison",
    )
    _add_team(parser, "checkpoint")
    parser.add_argument(
        "--best", action="store_true", help="of a run directory, the kept checkpoint that was evaluated best"
    )
    parser.add_argument(
        "--episodes", type=positive_int, default=128, metavar="N", help="battles to play (default: %(default)s)"
    )
    _add_seed(parser, "of the battles")
    parser.add_argument(
        "--against", metavar="SET", help="compare the states that the team visits with those of a demonstration set"
    )
    parser.add_argument("--out", metavar="DIR", help="with --against: write visitation.png and visitation.json there")
    parser.add_argument("--agent", type=nonnegative_int, metavar="I", help="with --against: draw only this agent")
    _add_json(parser)


def replay(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 replay runs/dm2-3m-0",
        "dm2 replay runs/dm2-3m-0 --until win --out battle.html --out battle.gif",
        "dm2 replay zoo:3m/ippo-1.0",
        "dm2 replay scripted:kite --map 3s_vs_5z --battle 7 --out kiting.mp4",
    )
    _add_team(parser, "team")
    _add_seed(parser, "of battles and actions")
    parser.add_argument(
        "--battle", type=nonnegative_int, default=0, metavar="K", help="number of the battle (default: %(default)s)"
    )
    parser.add_argument(
        "--until", choices=("win", "loss"), help="take the first of the next 100 battles that ends like this"
    )
    parser.add_argument(
        "--out", type=Path, action="append", metavar="FILE.html|.gif|.mp4",
        help="what to write, by its suffix; may be given several times (default: replay.html)",
    )  # fmt: skip
    parser.add_argument(
        "--speed", type=positive_float, default=1.0, metavar="X",
        help="speed of films; 1 is the game's speed Faster, 0.36 s per env step (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=positive_int, metavar="PX",
        help="longer side of films in pixels (default: 480 for GIF, 960 for MP4)",
    )  # fmt: skip
    parser.add_argument("--close-up", action="store_true", help="films show only the part of the map that units enter")


# Demonstrations.


def demos_record(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 demos record runs/ippo-3m-0 --episodes 1000 --stochastic --out demos/3m",
        "dm2 demos record runs/ippo-3m-0 --win-rate 0.3 --episodes 1000 --stochastic --out demos/3m-mediocre",
        "dm2 demos record zoo:3m/ippo-1.0 --episodes 1000 --stochastic --out demos/3m-zoo",
        "dm2 demos record scripted:focus_fire --map 3m --episodes 1000 --only-wins --workers 4 --out demos/3m-won",
        "dm2 demos record scripted:kite --map 3s_vs_3z --episodes 500 --epsilon 0.1 --out demos/kite",
        note="A recording that was stopped, for whatever reason, continues when the same command is given again.",
    )
    _add_team(parser, "team")
    parser.add_argument(
        "--episodes", type=positive_int, required=True, metavar="N", help="exact number of joint episodes in the set"
    )
    _add_seed(parser, "of battles and actions")
    parser.add_argument(
        "--epsilon", type=fraction, default=0.0, metavar="E",
        help="each agent takes a random available action with this probability (0 to 1) instead of the team's "
        "(default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=nonnegative_int, default=1, metavar="W",
        help="processes that play, with StarCraft II each with its own games; 0 and 1 play in this process "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--win-rate", type=fraction, metavar="P",
        help="measure all checkpoints of the run and record the one whose win rate (0 to 1) is closest to P",
    )  # fmt: skip
    parser.add_argument(
        "--min-return", type=finite_float, metavar="X", help="keep only battles with a team return of at least X"
    )
    parser.add_argument("--only-wins", action="store_true", help="keep only battles that were won")
    parser.add_argument(
        "--give-up-after", type=positive_int, default=8192, metavar="B",
        help="stop with an error if after at least B battles fewer than one in B was kept (default: %(default)s)",
    )  # fmt: skip
    _add_new_set(parser)


def demos_import(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 demos import agents_batches/_eval --map 5m_vs_6m --out demos/published")
    parser.add_argument("directory", metavar="DIR", help="holds agent_0.npz, agent_1.npz, …")
    parser.add_argument("--map", required=True, help="SMAC map on which the battles were fought")
    parser.add_argument("--episodes", type=positive_int, metavar="N", help="import the first N battles (default: all)")
    _add_new_set(parser)


def demos_merge(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 demos merge demos/3m-a demos/3m-b --out demos/3m")
    parser.add_argument("sets", nargs="+", metavar="SET", help="sets of the same map, engine and settings")
    _add_new_set(parser)


def demos_verify(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 demos verify demos/3m", "dm2 demos verify demos/3m --map 3m --json")
    parser.add_argument("set", metavar="SET", help="directory of the set")
    parser.add_argument("--map", help="check also that the set fits this map and today's engine")
    _add_json(parser)


def demos_inspect(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 demos inspect demos/3m", "dm2 demos inspect demos/3m --json")
    parser.add_argument("set", metavar="SET", help="directory of the set")
    _add_json(parser, "print the manifest and statistics as one JSON object")


def demos_plot(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 demos plot demos/3m --out 3m.png", "dm2 demos plot demos/3m --agent 1 --out agent-1.svg")
    parser.add_argument("set", metavar="SET", help="directory of the set")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png|.svg|.pdf", help="the picture")
    parser.add_argument("--agent", type=nonnegative_int, metavar="I", help="draw only this agent")
    parser.add_argument("--map", help="YAML file of the scenario of the set, if it is not one of the package")


# Trained teams of the package.


def zoo_list(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 zoo list", "dm2 zoo list --json", "dm2 zoo list --directory teams")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="list the packed teams below DIR instead of the package's"
    )
    _add_json(parser, "print the manifests as one JSON array")


def zoo_pack(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 zoo pack runs/ippo-3m-0 --name mine",
        "dm2 zoo pack runs/ippo-3m-0 --name ippo --levels 0.3,0.5,1.0 --out teams",
        "dm2 evaluate teams/3m/ippo-0.5",
        note="A packed team is a directory that works wherever a checkpoint does, except that it cannot be resumed.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint or a run directory")
    parser.add_argument("--name", required=True, help="name of the team; with --levels, NAME-LEVEL for each of them")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--levels", type=fractions, metavar="P,P,…",
        help="measure all checkpoints of the run, and pack the one whose greedy win rate (0 to 1) is closest to each P",
    )  # fmt: skip
    which.add_argument(
        "--best", action="store_true", help="pack the kept checkpoint that was evaluated best (default: the newest)"
    )
    parser.add_argument(
        "--battles", type=positive_int, default=1000, metavar="N",
        help="battles that measure the packed team, greedy and again sampled (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("teams"), metavar="DIR",
        help="the team is written to DIR/MAP/NAME (default: %(default)s)",
    )  # fmt: skip
    _add_json(parser, "print the manifests of the packed teams as one JSON array")


def zoo_train(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 zoo train --dry-run",
        "dm2 zoo train 3m --out runs/zoo",
        "dm2 zoo train --jobs 2",
        "dm2 zoo train --recipe mine.yaml",
        note="Given again, the command continues where it was stopped. The teams are in DIR/teams.",
    )
    parser.add_argument("teams", nargs="*", metavar="TEAM", help="MAP, MAP/NAME or zoo:MAP/NAME (default: all)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/zoo"), metavar="DIR",
        help="where runs and teams are written; what is finished there is not repeated (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="commands to run at a time (default: %(default)s)"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="another recipe than the package's")
    parser.add_argument(
        "--battles", type=positive_int, default=1000, metavar="N",
        help="battles that measure each packed team, greedy and again sampled (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the commands, run none")


# Experiments.


def experiment(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 experiment demonstrations_2x2 --dry-run",
        "dm2 experiment demonstrations_2x2 --map 3m --seeds 3 --jobs 2 env_steps=300000",
        "dm2 experiment core --map 3s_vs_4z --run-dir runs/core sets.better.win_rate=0.6 rollout.env_runners=8",
        "dm2 experiment my_experiment.yaml --seed-list 4,5,6",
    )
    parser.add_argument("name", metavar="NAME | FILE", help="one of configs/experiments, or your own YAML file")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of all runs, or keys of the experiment's file"
    )
    parser.add_argument("--map", help=f"{MAP_HELP}; default: the file's")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=positive_int, metavar="K", help="run every row with the file's first K seeds")
    seeds.add_argument("--seed-list", type=seed_list, metavar="S,S,…", help="run every row with these seeds")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="where it is written (default: runs/NAME-MAP)")
    parser.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="J",
        help="steps to run at a time (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the commands, run none")
    parser.add_argument("--report-only", action="store_true", help="run nothing, report the results so far")


def report(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 report runs/core-3s_vs_4z",
        "dm2 report runs/dm2-3m-0 runs/dm2-3m-1 runs/ippo-3m-0 runs/ippo-3m-1 --out runs/compared",
        "dm2 report runs/core-3s_vs_4z runs/core-5m_vs_6m --out runs/core --json",
    )
    parser.add_argument(
        "directories", nargs="+", type=Path, metavar="RUN_DIR | EXPERIMENT_DIR", help="either runs or experiments"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="write result.md, result.json and result.png there (default: the experiment's directory if exactly one "
        "is given, else nothing is written)",
    )  # fmt: skip
    _add_json(parser)


# Maps.


def maps_list(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 maps list", "dm2 maps list --json")
    _add_json(parser)


def maps_show(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 maps show corridor", "dm2 maps show my_scenario.yaml")
    parser.add_argument("map", metavar="NAME | FILE", help="name of a map, or a scenario's YAML file")
    _add_json(parser)


def maps_check(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 maps check my_scenario.yaml")
    parser.add_argument("file", metavar="FILE", help="a scenario's YAML file")


def maps_difficulty(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 maps difficulty", "dm2 maps difficulty 3m my_scenario.yaml --battles 200")
    parser.add_argument("settings", nargs="*", metavar="MAP", help="names or files (default: all of SMAC's maps)")
    parser.add_argument(
        "--battles", type=positive_int, default=1000, metavar="N", help="per team and map (default: %(default)s)"
    )
    _add_seed(parser, "of the battles")
    _add_json(parser)


def maps_calibrate(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 maps calibrate --show",
        "dm2 maps calibrate 5m_vs_6m 3s_vs_3z --seeds 2 --jobs 2 --out runs/calibration",
        "dm2 maps calibrate 3m --algorithms ippo mappo --env-steps 300000",
        "dm2 maps calibrate --from runs/ippo-5m_vs_6m-0 runs/ippo-5m_vs_6m-1 --save measured_curves.json",
        note="Training on a hard map takes hours on one core. A calibration that was stopped continues when the same\n"
        "command is given again, with more --env-steps, too.",
    )
    parser.add_argument(
        "settings", nargs="*", metavar="MAP | KEY=VALUE",
        help="maps (default: all for which there is a band), and settings of all runs",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--show", action="store_true", help="train nothing, show the packaged curves, which were measured before"
    )
    what.add_argument(
        "--from", dest="runs", nargs="+", type=Path, metavar="RUN_DIR", help="train nothing, show these runs"
    )
    parser.add_argument(
        "--algorithms", nargs="+", choices=("ippo", "mappo"), metavar="ALGORITHM",
        help="ippo, mappo or both (default: those that have a band on the map)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=positive_int, metavar="N", help="train with seeds 0 to N - 1 (default: 2)")
    parser.add_argument(
        "--env-steps", type=positive_int, metavar="T", help="length of every run (default: what the bands need)"
    )
    parser.add_argument("--jobs", type=positive_int, metavar="J", help="runs at a time, one core each (default: 1)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="where runs, result.md, result.json and result.png are written (default: runs/calibration; with --show or "
        "--from, nothing is written)",
    )  # fmt: skip
    parser.add_argument(
        "--save", type=Path, metavar="FILE.json",
        help="add the thinned curves of the runs to this file, which has the format of the packaged one",
    )  # fmt: skip
    parser.add_argument(
        "--engine-version", metavar="V", help="version of the engine of runs that did not store it, with --from"
    )
    _add_json(parser)


# Clusters and machines.


def submit(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 submit --variant dm2 --map 5m_vs_6m --demos /shared/demos/5m_vs_6m --env-steps 10000000 \\",
        "           --address http://HEAD:8265 --env-runners 32 --run-dir /shared/runs/first --follow",
        "dm2 submit my_experiment.yaml seed=3 checkpoint.uri=s3://bucket/runs",
        "dm2 submit --resume /shared/runs/first --env-steps 20000000",
        note="With --follow, the exit code is the job's own; 130 if the job was stopped or you pressed Ctrl-C.",
    )
    _add_experiment(parser)
    _add_dashboard_address(parser)
    parser.add_argument(
        "--env-runners", type=positive_int, metavar="N", help="processes that play (rollout.env_runners)"
    )
    parser.add_argument(
        "--run-dir", metavar="DIR",
        help="on the cluster; a relative path starts in the home directory of its user (default: dm2-runs/ID)",
    )  # fmt: skip
    parser.add_argument(
        "--resume", metavar="RUN_DIR | URI",
        help="instead of a new experiment, continue this run of the cluster, or its copy below checkpoint.uri",
    )  # fmt: skip
    parser.add_argument(
        "--name", metavar="ID", help="unique name of the job (default: made of variant, map, seed and time)"
    )
    parser.add_argument(
        "--package", action="store_true",
        help="for development: send this package's source along (default: the nodes use the installed one)",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="show the job's output until it ends")
    _add_json(parser, "print one JSON object to stdout, the job's output to stderr")


def jobs(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 jobs --address http://HEAD:8265", "dm2 jobs ID", "dm2 jobs ID --follow")
    parser.add_argument("job_id", nargs="?", metavar="ID", help="the job to show (default: list all jobs)")
    _add_dashboard_address(parser)
    parser.add_argument(
        "--lines", type=positive_int, default=20, metavar="N", help="last lines of its output (default: %(default)s)"
    )
    parser.add_argument(
        "--follow", action="store_true", help="show all of its output until it ends, and return its exit code"
    )
    _add_json(parser)


def stop(parser: ArgumentParser) -> None:
    _add_examples(parser, "dm2 stop ID --address http://HEAD:8265")
    parser.add_argument("job_id", metavar="ID", help="the job, see `dm2 jobs`")
    _add_dashboard_address(parser)
    parser.add_argument(
        "--timeout", type=positive_float, metavar="S",
        help="seconds to wait until it has ended (default: the time that the job may take to save)",
    )  # fmt: skip
    _add_json(parser)


def doctor(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 doctor",
        "dm2 doctor --variant dm2 --map 5m_vs_6m --address http://HEAD:8265 rollout.env_runners=32",
        note="The exit code is 1 if a check fails.",
    )
    _add_configuration(parser)
    parser.add_argument(
        "--run-dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs will be (default: %(default)s)"
    )
    parser.add_argument(
        "--address", metavar="URL",
        help="dashboard of a cluster to check as well (default: $RAY_API_SERVER_ADDRESS; if neither is given, none)",
    )  # fmt: skip
    _add_json(parser)


def bench(parser: ArgumentParser) -> None:
    _add_examples(
        parser,
        "dm2 bench",
        "dm2 bench --map 3m --json",
        "dm2 bench --world",
        "dm2 bench --world --map MMM2 --map corridor --json",
        "dm2 bench --faults --kills 60",
        "dm2 bench --driver --workers 1,2,4,8,16,32",
        "dm2 bench --memory runs/dm2-3m-0",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--world",
        action="store_true",
        help="instead measure the world alone, in one thread: engine, SMACEnv, first call",
    )
    what.add_argument(
        "--faults", action="store_true",
        help="instead kill processes of a run at random moments: does it learn the same, how soon are they back",
    )  # fmt: skip
    what.add_argument(
        "--driver", action="store_true", help="instead measure the driver's time per iteration by number of workers"
    )
    what.add_argument(
        "--memory", type=Path, metavar="RUN_DIR", help="instead check whether the memory of a run's processes grows"
    )
    parser.add_argument(
        "--map", action="append", metavar="MAP",
        help="SMAC map or scenario (default: 5m_vs_6m; with --faults 3m); with --world it may be given several times "
        "(default: six maps of 6 to 66 units)",
    )  # fmt: skip
    parser.add_argument(
        "--repetitions", type=positive_int, default=3, metavar="N", help="rounds of measurements (default: %(default)s)"
    )
    parser.add_argument(
        "--kills",
        type=positive_int,
        default=60,
        metavar="K",
        help="with --faults: number of processes killed (default: %(default)s)",
    )
    _add_seed(parser, "of the run and the kills, with --faults")
    parser.add_argument(
        "--iterations", type=positive_int, metavar="I",
        help="with --faults: length of the run (default: 120); with --driver: iterations measured (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=positive_ints, metavar="W,W,…",
        help="with --driver: numbers of rollout workers (default: 1,2,4,8,16,32)",
    )  # fmt: skip
    _add_json(parser)


# Arguments that several commands share.


def _add_examples(parser: ArgumentParser, *lines: str, note: str | None = None) -> None:
    parser.epilog = "\n  ".join(["examples:", *lines]) + (f"\n\n{note}" if note else "")


def _add_json(parser: ArgumentParser, help: str = "print one JSON object to stdout") -> None:
    parser.add_argument("--json", action="store_true", help=help)


def _add_seed(parser: ArgumentParser, help: str) -> None:
    parser.add_argument(
        "--seed", type=nonnegative_int, default=0, metavar="S", help=f"seed {help} (default: %(default)s)"
    )


def _add_team(parser: ArgumentParser, name: str) -> None:
    """Who plays, and how."""
    parser.add_argument(
        name, metavar="CHECKPOINT | zoo:MAP/NAME | scripted:NAME",
        help="a checkpoint, a run directory (its newest checkpoint), a trained team of the package (see `dm2 zoo "
        "list`), or a scripted team: random, nearest, focus_fire, kite or hit_and_run",
    )  # fmt: skip
    parser.add_argument("--map", help=f"{MAP_HELP}; a trained team knows its own")
    parser.add_argument(
        "--stochastic", action="store_true", help="sample the actions (default: always the most probable one)"
    )


def _add_new_set(parser: ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="SET", help="directory of the new set")
    _add_json(parser, "print the manifest of the new set as one JSON object")


def _add_configuration(parser: ArgumentParser) -> None:
    parser.add_argument(
        "settings", nargs="*", metavar="CONFIG | KEY=VALUE", help="a YAML file, and settings that override it"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="another way to name the YAML file")
    parser.add_argument("--variant", help="ippo, dm2, … (see configs/variants; default: the file's, else dm2)")
    parser.add_argument("--map", help=f"{MAP_HELP}; default: the file's, else 3m")


def _add_experiment(parser: ArgumentParser) -> None:
    """What is run, and until when; `experiment_options.requested_experiment` reads it."""
    _add_configuration(parser)
    parser.add_argument(
        "--demos", action="append", metavar="SET",
        help="demonstration set (demonstrations.path). Given once per agent, the i-th set is the i-th agent's and the "
        "experts are independent (demonstrations.paths_per_agent). With demonstrations.source=live: a checkpoint, run "
        "directory, zoo:MAP/NAME or scripted:NAME",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=nonnegative_int, metavar="S", help="random seed of the run (default: the file's, else 0)"
    )
    _add_limits(parser)


def _add_limits(parser: ArgumentParser) -> None:
    parser.add_argument("--iterations", type=positive_int, metavar="K", help="end after K iterations in total")
    parser.add_argument("--env-steps", type=positive_int, metavar="T", help="end after T env steps in total")


def _add_ray_address(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="RAY", help="a running Ray cluster, e.g. auto (default: start Ray on this machine)"
    )


def _add_dashboard_address(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="URL",
        help="the cluster's dashboard (default: $RAY_API_SERVER_ADDRESS, else $RAY_ADDRESS if it is a URL, else "
        "http://127.0.0.1:8265)",
    )  # fmt: skip
