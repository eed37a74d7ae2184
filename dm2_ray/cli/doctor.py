"""`dm2 doctor`: one line for everything that a run needs, and what to do where something is missing.

It imports what it needs, so that `--help` does not wait.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.parsing import add_command
from dm2_ray.errors import UserError

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers
    from dm2_ray.config.schema import Experiment


def add_parser(subparsers: Subparsers) -> None:
    """Adds `dm2 doctor`."""
    parser = add_command(
        subparsers, "doctor", doctor, "check this machine, and a cluster, against what a run needs",
        "  dm2 doctor\n  dm2 doctor --variant dm2 --map 5m_vs_6m --address http://HEAD:8265 rollout.env_runners=32\n"
        "exit code 1 if anything fails\n",
    )  # fmt: skip
    parser.add_argument(
        "settings", nargs="*", metavar="CONFIG | KEY=VALUE", help="the run to check for: a YAML file, single settings"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the YAML file, named")
    parser.add_argument("--variant", help="ippo, dm2, …")
    parser.add_argument("--map", help="SMAC map or scenario")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), metavar="DIR", help="(%(default)s)")
    parser.add_argument(
        "--address", metavar="URL",
        help="of a cluster's dashboard; without it, and without $RAY_API_SERVER_ADDRESS, none is asked",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def doctor(options: argparse.Namespace) -> int:
    from dm2_ray.jobs.cluster_checks import cluster_checks
    from dm2_ray.jobs.dashboard import dashboard_address
    from dm2_ray.jobs.machine_checks import machine_checks

    named = options.settings or options.config or options.variant or options.map
    experiment = _loaded(options) if named else None
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS")
    found = []
    checks = machine_checks(experiment, options.run_dir)
    if address:
        checks = chain(checks, cluster_checks(dashboard_address(address), experiment))
    for result in checks:
        found.append(result)
        if not options.json:
            print(result.line(), flush=True)
    failed = [result.check for result in found if result.level == "fail"]
    if options.json:
        print(json.dumps({"ok": not failed, "findings": [result.record() for result in found]}))
    return 1 if failed else 0


def _loaded(options: argparse.Namespace) -> Experiment:
    from dm2_ray.cli.experiment_options import split_settings
    from dm2_ray.config.errors import ConfigError
    from dm2_ray.runs.experiment_loading import load_experiment

    file, overrides = split_settings(options.settings)
    if options.config is not None and file is not None:
        raise UserError(f"two configuration files given: {options.config} and {file}")
    layers = {"variant": options.variant, "map_name": options.map}
    try:
        return load_experiment(options.config or file, **layers, overrides=overrides)
    except ConfigError:
        # A doctor may be asked before there are demonstrations: any name serves.
        try:
            placeholder = "demonstrations.path=scripted:random"
            return load_experiment(options.config or file, **layers, overrides=[*overrides, placeholder])
        except ConfigError:
            pass
        raise
