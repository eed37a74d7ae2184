"""What `dm2 submit`, `dm2 jobs` and `dm2 stop` do.

Each imports what it needs, so that `--help` and refusals do not wait.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dm2_ray.cli.experiment_options import add_experiment_arguments
from dm2_ray.cli.parsing import add_command, factor, positive
from dm2_ray.errors import UserError

if TYPE_CHECKING:
    from dm2_ray.cli.parsing import Subparsers
    from dm2_ray.config.schema import Experiment
    from dm2_ray.jobs.dashboard import Dashboard
    from dm2_ray.jobs.job_record import JobRecord
    from dm2_ray.jobs.submission import Submission


def add_parsers(subparsers: Subparsers) -> None:
    """Adds the three commands."""
    parser = add_command(
        subparsers, "submit", submit, "hand a run to a Ray cluster as a job",
        "  dm2 submit --variant dm2 --map 5m_vs_6m --demos /shared/demos/5m_vs_6m --env-steps 10000000 \\\n"
        "             --address http://HEAD:8265 --env-runners 32 --run-dir /shared/runs/first --follow\n"
        "  dm2 submit my_experiment.yaml seed=3 checkpoint.uri=s3://bucket/runs\n"
        "  dm2 submit --resume /shared/runs/first --env-steps 20000000\n"
        "a --follow returns the job's own exit code; 130 if the job was stopped, or the following interrupted\n",
    )  # fmt: skip
    add_experiment_arguments(parser)
    _add_address(parser)
    parser.add_argument("--env-runners", type=positive, metavar="N", help="processes that play (rollout.env_runners)")
    parser.add_argument("--run-dir", metavar="DIR", help="on the cluster; relative: below its user's home directory "
                        "(dm2-runs/ID)")  # fmt: skip
    parser.add_argument(
        "--resume",
        metavar="RUN_DIR | URI",
        help="instead of an experiment: go on with this run of the cluster, or with its copy below checkpoint.uri",
    )
    parser.add_argument("--name", metavar="ID", help="of the job; none is given twice (variant, map, seed and time)")
    parser.add_argument("--package", action="store_true", help="send this package's source along, for development; "
                        "without, the nodes' installed one runs")  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="write what the job writes; return its exit code")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the job's output to stderr")
    parser = add_command(
        subparsers, "jobs", jobs, "list a cluster's jobs, or look at one",
        "  dm2 jobs --address http://HEAD:8265\n  dm2 jobs ID\n  dm2 jobs ID --follow\n",
    )  # fmt: skip
    parser.add_argument("job_id", nargs="?", metavar="ID", help="the job to look at")
    _add_address(parser)
    parser.add_argument("--lines", type=positive, default=20, metavar="N", help="of its output (%(default)s)")
    parser.add_argument("--follow", action="store_true", help="its output from the beginning, until it ends; "
                        "return its exit code")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser = add_command(
        subparsers, "stop", stop, "stop a job: it saves a checkpoint and ends",
        "  dm2 stop ID --address http://HEAD:8265\n",
    )  # fmt: skip
    parser.add_argument("job_id", metavar="ID")
    _add_address(parser)
    parser.add_argument(
        "--timeout", type=factor, metavar="S", help="seconds to wait for its end (what the job may take to save)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def submit(options: argparse.Namespace) -> int:
    from dm2_ray.jobs.dashboard import Dashboard, dashboard_address
    from dm2_ray.jobs.submission import refuse_duplicate
    from dm2_ray.jobs.submission import submit as hand_in

    experiment = None if options.resume is not None else _experiment(options)
    submission = _submission(options, experiment)
    dashboard = Dashboard(dashboard_address(options.address))
    refuse_duplicate(dashboard, submission.job_id)
    arithmetic = None
    if experiment is not None:
        # Last, because it waits for RLlib.
        from dm2_ray.jobs.capacity import check_capacity, demand_of

        demand = demand_of(experiment)
        check_capacity(demand, dashboard.nodes())
        arithmetic = demand.arithmetic()
    hand_in(dashboard, submission)
    _say(
        f"job {submission.job_id} at {dashboard.address}"
        + (f": {arithmetic}" if arithmetic else "")
        + f"; writes to {_readable(submission.run_dir)} there"
    )
    facts = {"id": submission.job_id, "address": dashboard.address, "run_dir": _readable(submission.run_dir)}
    if not options.follow:
        _say(_how_to_continue(submission.job_id, dashboard))
        if options.json:
            print(json.dumps({**facts, "status": "PENDING", "exit_code": None}))
        return 0
    job = _follow(dashboard, submission.job_id, to_stderr=options.json)
    if options.json:
        print(json.dumps({**facts, "status": job.status, "exit_code": job.exit_code}))
    return _ended(job, dashboard)


def jobs(options: argparse.Namespace) -> int:
    from dm2_ray.jobs.dashboard import Dashboard, dashboard_address
    from dm2_ray.jobs.job_record import JobRecord, find_job, job_table

    dashboard = Dashboard(dashboard_address(options.address))
    if options.job_id is None:
        if options.follow:
            raise UserError("which job? dm2 jobs ID --follow")
        found = [JobRecord.of(details) for details in dashboard.jobs()]
        if options.json:
            print(json.dumps({"jobs": [job.record() for job in found]}))
        else:
            print(job_table(found) if found else f"no jobs at {dashboard.address}")
        return 0
    job = find_job(dashboard, options.job_id)
    if options.follow:
        job = _follow(dashboard, job.id, to_stderr=options.json)
        if options.json:
            print(json.dumps(job.record()))
        return _ended(job, dashboard)
    lines = dashboard.job_logs(job.id).splitlines()[-options.lines :]
    if options.json:
        print(json.dumps({**job.record(), "log": lines}))
        return 0
    print(job_table([job]))
    if "run_dir" in job.metadata:
        print(f"writes to {_readable(job.metadata['run_dir'])}")
    if job.message and not (lines and job.status == "FAILED"):
        print(job.message)
    print("\n".join(["", *lines]) if lines else "(it has written nothing)")
    return 0


def stop(options: argparse.Namespace) -> int:
    from dm2_ray.jobs.dashboard import Dashboard, dashboard_address
    from dm2_ray.jobs.job_control import stop_job
    from dm2_ray.jobs.job_record import find_job

    dashboard = Dashboard(dashboard_address(options.address))
    before = find_job(dashboard, options.job_id)
    if before.status == "RUNNING":
        _say(f"job {before.id} is asked to save and end; it has {before.stop_wait_s:g} s for that")
    job = stop_job(dashboard, before, wait_s=options.timeout)
    if options.json:
        print(json.dumps(job.record()))
    if before.ended:
        _say(f"job {job.id} had ended before: {job.status}")
        return 0
    if job.ended:
        _say(f"job {job.id}: {job.status}{_resume_hint(job)}")
        return 0
    if job.status == "PENDING":
        _say(
            f"job {job.id} is pending and cannot be stopped before it starts ({job.message or 'no reason given'}); Ray "
            "gives it up by itself after 15 minutes ($RAY_JOB_START_TIMEOUT_SECONDS of the head)"
        )
    else:
        _say(f"job {job.id} has not ended yet ({job.status}); Ray kills it when its time is over: dm2 jobs {job.id}")
    return 1


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="URL",
        help="of the cluster's dashboard ($RAY_API_SERVER_ADDRESS, else $RAY_ADDRESS if it is one, else "
        "http://127.0.0.1:8265)",
    )  # fmt: skip


def _experiment(options: argparse.Namespace) -> Experiment:
    """The experiment to submit, checked as far as it can be here."""
    from dm2_ray.cli.experiment_options import check_world, requested_experiment

    runners = [] if options.env_runners is None else [f"rollout.env_runners={options.env_runners}"]
    experiment = requested_experiment(options, runners)
    check_world(experiment, "cluster")
    settings = experiment.demonstrations
    paths = [path for path in (settings.path, *settings.paths_per_agent) if path is not None]
    elsewhere = [path for path in paths if not path.startswith("scripted:") and not Path(path).exists()]
    if elsewhere:
        _say(f"{', '.join(elsewhere)}: not on this machine, so it is checked on the cluster, when the run starts")
    else:
        from dm2_ray.distributed.demonstration_sources.checks import check_experts

        check_experts(experiment)
    return experiment


def _submission(options: argparse.Namespace, experiment: Experiment | None) -> Submission:
    from dm2_ray.jobs.submission import new_run, resumed_run

    if experiment is not None:
        return new_run(experiment, job_id=options.name, run_dir=options.run_dir, package=options.package)
    given = [
        name
        for name in ("settings", "config", "variant", "map", "demos", "seed", "env_runners")
        if getattr(options, name) not in (None, [])
    ]
    if given:
        raise UserError(f"--resume goes on with a run as it is; leave out {', '.join(given)}")
    return resumed_run(
        options.resume,
        job_id=options.name,
        run_dir=options.run_dir,
        iterations=options.iterations,
        env_steps=options.env_steps,
        package=options.package,
    )


def _follow(dashboard: Dashboard, job_id: str, *, to_stderr: bool) -> JobRecord:
    """The job when it has ended. Interrupted, it says how to come back: the job goes on."""
    from dm2_ray.jobs.job_control import follow

    stream = sys.stderr if to_stderr else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        return follow(dashboard, job_id, write)
    except KeyboardInterrupt:
        _say(f"\njob {job_id} goes on. {_how_to_continue(job_id, dashboard)}")
        raise


def _ended(job: JobRecord, dashboard: Dashboard) -> int:
    from dm2_ray.jobs.job_record import EXIT_STOPPED

    code = job.exit_code
    assert code is not None
    reason = f" ({job.message})" if job.status == "FAILED" and job.driver_exit_code is None and job.message else ""
    hint = _resume_hint(job) if code in (3, EXIT_STOPPED, 137, 143) else ""
    _say(f"job {job.id}: {job.status}, exit code {code}{reason}{hint}")
    return code


def _resume_hint(job: JobRecord) -> str:
    run_dir = job.metadata.get("run_dir")
    return f"; go on with: dm2 submit --resume {_readable(run_dir)}" if run_dir and job.status != "SUCCEEDED" else ""


def _how_to_continue(job_id: str, dashboard: Dashboard) -> str:
    where = f"--address {dashboard.address}"
    return f"follow it: dm2 jobs {job_id} --follow {where}; stop it: dm2 stop {job_id} {where}"


def _readable(run_dir: str) -> str:
    """Without the quotes that are there for the cluster's shell."""
    return run_dir.replace('"$HOME"/', "~/")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
