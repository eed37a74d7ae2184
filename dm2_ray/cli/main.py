"""The command line: `dm2 COMMAND --help`.

Exit codes: 0 done, 1 the run failed, 2 bad input (nothing was started), 3 the run was ended from outside and can be
resumed, 130 interrupted (state saved).
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli import (
    bench,
    cluster,
    demos,
    doctor,
    experiments,
    maps,
    runs,
)
from dm2_ray.cli.experiment_options import add_experiment_arguments, add_limits
from dm2_ray.cli.parsing import Command, add_command, factor, natural, positive
from dm2_ray.errors import Interrupted, RunFailed, RunStopped, UserError
from dm2_ray.terminal import write_line

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers

# Python reports a disk that is full, over quota, read-only or broken as plain OSError.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one place only; settings may stand anywhere on the line.
    settings = [word for word in rest if not word.startswith("-")]
    if len(settings) < len(rest) or (settings and "settings" not in options):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if settings:
        options.settings += settings
    command: Command = options.command
    try:
        with _log_messages_on_stderr():
            code = command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has seen enough (`dm2 maps list | head`); nothing more may go there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RunFailed.exit_code
    except (UserError, RunFailed, RunStopped, Interrupted) as error:
        return _print_error(error, error.exit_code)
    except KeyboardInterrupt:
        return _print_error("interrupted", Interrupted.exit_code)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            return _print_error(error, RunFailed.exit_code)
        raise


class _TerminalHandler(logging.Handler):
    """Writes records to standard error, above the status line if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record), sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def _log_messages_on_stderr() -> Iterator[None]:
    """Shows the package's messages for the duration of a command; as a library, the package installs no handler."""
    handler = _TerminalHandler()
    handler.setFormatter(logging.Formatter("dm2: %(message)s"))
    logger = logging.getLogger("dm2_ray")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library that configures the root logger must not repeat them
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def _print_error(error: object, exit_code: int) -> int:
    print(f"dm2: {error}", file=sys.stderr)
    return exit_code


# The parser.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm2", description="Distributed multi-agent imitation-guided learning (DM2) on Ray."
    )
    parser.add_argument("--version", action="version", version=f"dm2-ray {_version()}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_quickstart(subparsers)
    _add_train(subparsers)
    _add_resume(subparsers)
    _add_evaluate(subparsers)
    demos.add_parsers(subparsers)
    experiments.add_parsers(subparsers)
    _add_replay(subparsers)
    maps.add_parsers(subparsers)
    cluster.add_parsers(subparsers)
    doctor.add_parser(subparsers)
    bench.add_parsers(subparsers)
    return parser


def _add_quickstart(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "quickstart", runs.quickstart, "the whole story: expert, demonstrations, DM2 beside IPPO",
        "  dm2 quickstart\n  dm2 quickstart --seeds 3 --run-dir runs/three-seeds\n",
    )  # fmt: skip
    parser.add_argument("--run-dir", default="runs/quickstart", help="where everything is written (%(default)s)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="repeat with N seeds (%(default)s)")
    parser.add_argument("--map", default="2s3z", help="SMAC map or scenario (%(default)s)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings for both runs")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor on the env steps of the runs, e.g. 0.05 to see it work"
    )


def _add_train(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "train", runs.train, "train a team",
        "  dm2 train --variant ippo --map 3m --env-steps 500000\n"
        "  dm2 train --variant dm2 --map 3m --demos demos/3m --env-steps 500000 matching.coefficient=0.1\n"
        "  dm2 train --variant dm2_independent --map 2m_vs_1z --demos demos/a --demos demos/b --env-steps 500000\n"
        "  dm2 train --variant mappo --map 3m --env-steps 200000\n"
        "  dm2 train my_experiment.yaml seed=3 rollout.env_runners=8 --address auto\n",
    )  # fmt: skip
    add_experiment_arguments(parser)
    parser.add_argument("--run-dir", metavar="DIR", help="default: runs/VARIANT-MAP-SEED")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster; default: a local one")


def _add_resume(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "resume", runs.resume, "go on with a run from its newest intact checkpoint",
        "  dm2 resume runs/dm2-3m-0\n  dm2 resume runs/dm2-3m-0 --env-steps 2000000\n"
        "  dm2 resume s3://bucket/runs/dm2-3m-0 --run-dir runs/dm2-3m-0\n",
    )  # fmt: skip
    parser.add_argument(
        "run_dir", metavar="RUN_DIR | URI", help="the run, or its copy elsewhere, which is brought here first"
    )
    parser.add_argument(
        "--run-dir", dest="to", type=Path, metavar="DIR", help="where a copy is brought to (default: runs/NAME)"
    )
    add_limits(parser)
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster; default: a local one")


def _add_evaluate(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "evaluate", runs.evaluate, "play battles with a checkpoint's team or a scripted one",
        "  dm2 evaluate runs/dm2-3m-0 --episodes 1000\n"
        "  dm2 evaluate runs/dm2-3m-0 --best --episodes 1000\n"
        "  dm2 evaluate runs/dm2-3m-0/checkpoints/iteration_000010 --json\n"
        "  dm2 evaluate scripted:random --map 3m\n"
        "  dm2 evaluate runs/dm2-3m-0 --against demos/3m --out comparison\n",
    )  # fmt: skip
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT | scripted:NAME", help="a checkpoint, or a run directory (its newest one)"
    )
    parser.add_argument("--best", action="store_true", help="of a run directory, the best evaluated one that is kept")
    parser.add_argument("--map", help="SMAC map or scenario; a checkpoint knows its own")
    parser.add_argument("--episodes", type=positive, default=128, metavar="N", help="battles (%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="of the battles (%(default)s)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument(
        "--against", metavar="SET", help="compare what the team's agents visit with the experts of a demonstration set"
    )
    parser.add_argument("--out", metavar="DIR", help="write the comparison there: visitation.png, visitation.json")
    parser.add_argument("--agent", type=natural, metavar="I", help="draw this agent only")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_replay(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "replay", runs.replay, "play one battle and write it as a page or a film to look at",
        "  dm2 replay runs/dm2-3m-0\n"
        "  dm2 replay runs/dm2-3m-0 --until win --out battle.html --out battle.gif\n"
        "  dm2 replay scripted:kite --map 3s_vs_5z --battle 7 --out kiting.mp4\n",
    )  # fmt: skip
    parser.add_argument("team", metavar="CHECKPOINT | scripted:NAME")
    parser.add_argument("--map", help="SMAC map or scenario; a checkpoint knows its own")
    parser.add_argument(
        "--out", type=Path, action="append", metavar="FILE.html|.gif|.mp4",
        help="what to write, by its suffix; may be given again (replay.html)",
    )  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="of battles and actions (%(default)s)")
    parser.add_argument("--battle", type=natural, default=0, metavar="K", help="number of the battle (%(default)s)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most probable ones")
    parser.add_argument(
        "--speed", type=factor, default=1.0, metavar="X",
        help="of films; 1 is the game's speed Faster, 0.36 s for an env step (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--size", type=positive, metavar="PX", help="of films, longer side (GIF: 480, MP4: 960)")
    parser.add_argument("--close-up", action="store_true", help="films show only where units come")
    parser.add_argument(
        "--until", choices=("win", "loss"), help="go on to the next battle, up to 100 of them, until one ends so"
    )


def _version() -> str:
    try:
        return version("dm2-ray")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
