"""The Weights & Biases run of an experiment, whose failure never stops training.

Mode online needs an API key and a reachable server; without them the run is written offline, and a warning says so.
Metrics are then logged from a background thread: if W&B raises an error or hangs, only the logging to W&B stops.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import netrc
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests
import wandb
from wandb import env

from dm2_ray.config.schema import Experiment
from dm2_ray.files import write_atomically
from dm2_ray.terminal import one_line
from dm2_ray.timeouts import CallTimeout, call_with_timeout

logger = logging.getLogger(__name__)

RUN_ID_FILE = "wandb_run_id"
MARK_FILE = "wandb_last_iteration"
"""Holds the newest iteration that is certainly in W&B's files; the next driver logs later ones again."""
# W&B's service loses its buffer (32 KiB when measured) if its driver is killed. Once its file has grown by this many
# bytes after an iteration was logged, that iteration is on the disk.
SETTLED_BYTES = 2**18
PREFLIGHT_S = 3.0
INIT_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 60.0
# If more iterations than this wait to be logged, W&B counts as hung.
MAX_WAITING = 1000
# W&B's own time limit must pass first, so that it can still write into its files how the run ended.
FINISH_MARGIN_S = 5.0


class WandbRun:
    """The experiment's run at Weights & Biases; offline if online is not possible.

    The W&B run's id is stored in the run directory, so that a resumed experiment continues the same W&B run. MARK_FILE
    beside it holds the newest iteration that W&B has certainly stored. Iterations up to it are not logged again when
    they are repeated after a resume; those after it are logged again from metrics.jsonl. After a driver was killed,
    some iterations may therefore be in W&B's files twice, but none is missing. (An online run ignores repeated ones.)

    Args:
        run_dir: Directory of the run.
        experiment: Provides mode, project, group, name, tags and the configuration to display.
        earlier: The values of iterations that earlier drivers of this run completed.
        finish_timeout_s: Maximum time to wait for uploads at the end.
    """

    def __init__(
        self,
        run_dir: Path,
        experiment: Experiment,
        *,
        earlier: Mapping[int, Mapping[str, float]] | None = None,
        finish_timeout_s: float = FINISH_TIMEOUT_S,
    ) -> None:
        self._finish_timeout_s = finish_timeout_s
        self._run: wandb.Run | None = None
        self._directory = run_dir.absolute()
        is_new = not (self._directory / RUN_ID_FILE).exists()
        run_id = _stored_run_id(self._directory)
        self._mark = _stored_mark(self._directory, unknown=0 if is_new else max(earlier or {}, default=0))
        self._skip_up_to = self._mark
        # Logged iterations that are not marked yet, each with the size of W&B's file at that time.
        self._unsettled: collections.deque[tuple[int, int]] = collections.deque()
        self._waiting: queue.Queue[Callable[[wandb.Run], object] | None] = queue.Queue(MAX_WAITING)
        if experiment.tracking.wandb == "online":
            problem = offline_reason() or self._start("online", run_id, experiment)
            if problem:
                logger.warning(
                    f"W&B continues offline: {problem}. Upload later: wandb sync {self._directory}/wandb/offline-run-*"
                )
        if self._run is None and (problem := self._start("offline", run_id, experiment)):
            logger.warning(f"Nothing is logged to W&B: {problem}")
        if missing := {step: values for step, values in (earlier or {}).items() if step > self._mark}:
            self._waiting.put(lambda run: self._log_all(run, missing))
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> str | None:
        """`online`, `offline`, or None after W&B has failed."""
        return None if self._run is None else "offline" if self._run.offline else "online"

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Logs the flat values of an iteration, unless an earlier driver of this run did."""
        if self._run is None or iteration <= self._skip_up_to:
            return
        try:
            self._waiting.put_nowait(lambda run: self._log(run, iteration, values))
        except queue.Full:
            self._give_up(f"it has not accepted the last {MAX_WAITING} iterations")

    def finish(self, exit_code: int) -> None:
        """Ends the run; waits a limited time for uploads, and the rest stays on disk."""
        if self._run is None:
            return
        deadline = time.monotonic() + self._finish_timeout_s + FINISH_MARGIN_S
        for last in (lambda run: self._end_run(run, exit_code), None):
            with contextlib.suppress(queue.Full):
                self._waiting.put(last, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._give_up(f"it has not finished within {self._finish_timeout_s:.0f} s")
        self._run = None

    def _start(self, mode: str, run_id: str, experiment: Experiment) -> str | None:
        """Starts the W&B run; returns the problem if that fails."""
        tracking, world = experiment.tracking, experiment.world
        # A parent process's service may have ended, or still hold this run for a driver that was killed.
        os.environ.pop(env.SERVICE, None)
        try:
            self._run = wandb.init(
                mode=mode,  # type: ignore[arg-type]
                id=run_id,
                resume="allow",
                dir=self._directory,
                project=tracking.project,
                group=tracking.group or f"{world.map}-{experiment.variant}",
                name=tracking.name or f"{world.map}-{experiment.variant}-seed{experiment.seed}",
                job_type="train",
                tags=[*tracking.tags, world.map, experiment.variant],
                config=experiment.model_dump(mode="json"),
                settings=wandb.Settings(
                    # A console log may contain secrets, and lines printed by W&B would break the progress line.
                    console="off",
                    silent=True,
                    reinit="create_new",
                    save_code=False,
                    init_timeout=INIT_TIMEOUT_S,
                    finish_timeout=self._finish_timeout_s,
                    finish_timeout_raises=True,
                ),
            )
            self._run.define_metric("env_steps")
            self._run.define_metric("*", step_metric="env_steps")
        except Exception as error:  # W&B raises errors of many classes, and none of them may end a training run.
            self._run = None
            # Otherwise the service would refuse this run's id in the next attempt.
            _forget_service()
            return f"{type(error).__name__}: {one_line(error, 200)}"
        if mode == "online":
            logger.info(f"W&B: {self._run.url}")
        return None

    def _work(self) -> None:
        """Runs the actions in the queue until None comes or W&B fails."""
        while (action := self._waiting.get()) is not None and (run := self._run) is not None:
            try:
                action(run)
            except Exception as error:  # See _start.
                self._give_up(f"{type(error).__name__}: {one_line(error, 200)}")
                return

    def _log_all(self, run: wandb.Run, iterations: Mapping[int, Mapping[str, float]]) -> None:
        for iteration, values in iterations.items():
            self._log(run, iteration, values)

    def _log(self, run: wandb.Run, iteration: int, values: Mapping[str, float]) -> None:
        run.log(dict(values), step=iteration)
        size = sum(path.stat().st_size for path in Path(run.dir).parent.glob("*.wandb"))
        self._unsettled.append((iteration, size))
        mark = self._mark
        while self._unsettled and size >= self._unsettled[0][1] + SETTLED_BYTES:
            mark, _ = self._unsettled.popleft()
        self._store_mark(mark)

    def _end_run(self, run: wandb.Run, exit_code: int) -> None:
        run.finish(exit_code=exit_code)
        if self._unsettled:
            self._store_mark(self._unsettled[-1][0])

    def _store_mark(self, mark: int) -> None:
        if mark > self._mark:
            self._mark = mark
            write_atomically(self._directory / MARK_FILE, b"%d\n" % mark)

    def _give_up(self, problem: str) -> None:
        self._run = None
        logger.warning(f"Stopped logging to W&B: {problem}. Upload what was logged: wandb sync {self._directory}/wandb")
        # Otherwise W&B waits for its service at the end of the process, or prints the error that it died of.
        threading.Thread(target=_forget_service, daemon=True).start()


def _forget_service() -> None:
    # The service may be dead already; `teardown` would then end this process with its exit code.
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def _stored_run_id(directory: Path) -> str:
    path = directory / RUN_ID_FILE
    if path.exists():
        return path.read_text().strip()
    run_id = secrets.token_hex(6)
    write_atomically(path, run_id.encode())
    return run_id


def _stored_mark(directory: Path, unknown: int) -> int:
    """The mark in the run directory; if there is none, `unknown` is stored and returned."""
    path = directory / MARK_FILE
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_text())
    write_atomically(path, b"%d\n" % unknown)
    return unknown


def offline_reason() -> str | None:
    """Why the W&B server cannot be used; None if it can."""
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        return f"WANDB_MODE is {mode}"
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if not (settings.api_key or settings.identity_token_file or _netrc_has(settings.base_url)):
        return "there is no API key (wandb login, or WANDB_API_KEY)"
    if not _is_reachable(settings.base_url):
        return f"{settings.base_url} does not answer"
    return None


def _netrc_has(url: str) -> bool:
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(host) for host in (urlsplit(url).netloc, "api.wandb.ai"))


def _is_reachable(url: str) -> bool:
    """Whether an HTTP server answers at `url` within PREFLIGHT_S, with any status."""
    try:
        call_with_timeout(lambda: requests.head(url, timeout=PREFLIGHT_S), PREFLIGHT_S)
    except (CallTimeout, OSError, ValueError):
        return False
    return True
