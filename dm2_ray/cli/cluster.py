"""`dm2 submit`, `dm2 jobs` and `dm2 stop`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from dm2_ray.cli.experiment_options import check_world, requested_experiment
from dm2_ray.config.schema import Experiment
from dm2_ray.config.team_names import is_path
from dm2_ray.distributed.demonstration_sources.checks import check_experts
from dm2_ray.errors import UserError
from dm2_ray.jobs.dashboard import Dashboard, dashboard_address
from dm2_ray.jobs.job_control import follow, stop_job
from dm2_ray.jobs.job_record import EXIT_STOPPED, JobRecord, find_job, job_table
from dm2_ray.jobs.submission import Submission, new_run, refuse_duplicate, resumed_run
from dm2_ray.jobs.submission import submit as hand_in

log = logging.getLogger(__name__)


def submit(options: argparse.Namespace) -> int:
    experiment = None if options.resume is not None else _experiment(options)
    submission = _submission(options, experiment)
    dashboard = Dashboard(dashboard_address(options.address))
    refuse_duplicate(dashboard, submission.job_id)
    arithmetic = None
    if experiment is not None:
        # Last, because RLlib takes 3 s to import.
        from dm2_ray.jobs.capacity import check_capacity, demand_of

        demand = demand_of(experiment)
        check_capacity(demand, dashboard.nodes())
        arithmetic = demand.arithmetic()
    hand_in(dashboard, submission)
    log.info(
        "job %s at %s%s; writes to %s there",
        submission.job_id,
        dashboard.address,
        f": {arithmetic}" if arithmetic else "",
        _readable(submission.run_dir),
    )
    facts = {"id": submission.job_id, "address": dashboard.address, "run_dir": _readable(submission.run_dir)}
    if not options.follow:
        log.info(_how_to_continue(submission.job_id, dashboard))
        if options.json:
            print(json.dumps({**facts, "status": "PENDING", "exit_code": None}))
        return 0
    job = _follow(dashboard, submission.job_id, to_stderr=options.json)
    if options.json:
        print(json.dumps({**facts, "status": job.status, "exit_code": job.exit_code}))
    return _ended(job, dashboard)


def jobs(options: argparse.Namespace) -> int:
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
    dashboard = Dashboard(dashboard_address(options.address))
    before = find_job(dashboard, options.job_id)
    if before.status == "RUNNING":
        log.info("job %s is asked to save and end; it has %g s for that", before.id, before.stop_wait_s)
    job = stop_job(dashboard, before, wait_s=options.timeout)
    if options.json:
        print(json.dumps(job.record()))
    if before.ended:
        log.info("job %s had ended before: %s", job.id, job.status)
        return 0
    if job.ended:
        log.info("job %s: %s%s", job.id, job.status, _resume_hint(job))
        return 0
    if job.status == "PENDING":
        log.warning(
            "job %s is pending and cannot be stopped before it starts (%s); Ray gives up on it after 15 minutes "
            "($RAY_JOB_START_TIMEOUT_SECONDS of the head)",
            job.id,
            job.message or "no reason given",
        )
    else:
        log.warning(
            "job %s has not ended yet (%s); Ray kills it when its time is over: dm2 jobs %s", job.id, job.status, job.id
        )
    return 1


def _experiment(options: argparse.Namespace) -> Experiment:
    """The experiment to submit, checked as far as this machine can."""
    runners = [] if options.env_runners is None else [f"rollout.env_runners={options.env_runners}"]
    experiment = requested_experiment(options, runners)
    check_world(experiment, "cluster")
    settings = experiment.demonstrations
    paths = [path for path in (settings.path, *settings.paths_per_agent) if path is not None]
    elsewhere = [path for path in paths if is_path(path) and not Path(path).exists()]
    if elsewhere:
        log.info("%s: not on this machine, so it is checked on the cluster when the run starts", ", ".join(elsewhere))
    else:
        check_experts(experiment)
    return experiment


def _submission(options: argparse.Namespace, experiment: Experiment | None) -> Submission:
    if experiment is not None:
        return new_run(experiment, job_id=options.name, run_dir=options.run_dir, package=options.package)
    given = [
        name
        for name in ("settings", "config", "variant", "map", "demos", "seed", "env_runners")
        if getattr(options, name) not in (None, [])
    ]
    if given:
        raise UserError(f"--resume continues a run with its own settings; leave out {', '.join(given)}")
    return resumed_run(
        options.resume,
        job_id=options.name,
        run_dir=options.run_dir,
        iterations=options.iterations,
        env_steps=options.env_steps,
        package=options.package,
    )


def _follow(dashboard: Dashboard, job_id: str, *, to_stderr: bool) -> JobRecord:
    """Shows the job's output and returns the job when it has ended; after Ctrl-C, says how to follow it again."""
    stream = sys.stderr if to_stderr else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        return follow(dashboard, job_id, write)
    except KeyboardInterrupt:
        log.info("job %s continues. %s", job_id, _how_to_continue(job_id, dashboard))
        raise


def _ended(job: JobRecord, dashboard: Dashboard) -> int:
    code = job.exit_code
    assert code is not None
    reason = f" ({job.message})" if job.status == "FAILED" and job.driver_exit_code is None and job.message else ""
    hint = _resume_hint(job) if code in (3, EXIT_STOPPED, 137, 143) else ""
    log.info("job %s: %s, exit code %d%s%s", job.id, job.status, code, reason, hint)
    return code


def _resume_hint(job: JobRecord) -> str:
    run_dir = job.metadata.get("run_dir")
    return f"; continue with: dm2 submit --resume {_readable(run_dir)}" if run_dir and job.status != "SUCCEEDED" else ""


def _how_to_continue(job_id: str, dashboard: Dashboard) -> str:
    where = f"--address {dashboard.address}"
    return f"follow it: dm2 jobs {job_id} --follow {where}; stop it: dm2 stop {job_id} {where}"


def _readable(run_dir: str) -> str:
    """The directory without the quotes that the cluster's shell needs."""
    return run_dir.replace('"$HOME"/', "~/")
