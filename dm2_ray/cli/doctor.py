"""`dm2 doctor`: one line for everything that a run needs, and what to do where it is missing."""

from __future__ import annotations

import argparse
import json
import os
from itertools import chain

from dm2_ray.cli.experiment_options import any_experiment
from dm2_ray.jobs.dashboard import dashboard_address
from dm2_ray.jobs.machine_checks import machine_checks


def doctor(options: argparse.Namespace) -> int:
    named = options.settings or options.config or options.variant or options.map
    experiment = any_experiment(options) if named else None
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS")
    found = []
    checks = machine_checks(experiment, options.run_dir)
    if address:
        # Ray takes 0.4 s to import; a check of this machine alone does not need it.
        from dm2_ray.jobs.cluster_checks import cluster_checks

        checks = chain(checks, cluster_checks(dashboard_address(address), experiment))
    for result in checks:
        found.append(result)
        if not options.json:
            print(result.line(), flush=True)
    failed = [result.check for result in found if result.level == "fail"]
    if options.json:
        print(json.dumps({"ok": not failed, "findings": [result.record() for result in found]}))
    return 1 if failed else 0
