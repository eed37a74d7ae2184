"""One Weights & Biases run for one experiment, which never stands in training's way.

Online needs a key and a server that answers; where one is missing the run is written offline and one line says so.
After that W&B is told from a thread of its own: whatever it raises, or however long it takes, ends its part and nothing
else.
"""

from __future__ import annotations

import contextlib
import logging
import netrc
import os
import queue
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import wandb
from wandb import env

from dm2_ray.config.schema import Experiment
from dm2_ray.files import write_atomically
from dm2_ray.terminal import one_line
from dm2_ray.tracking.wandb_files import last_step

logger = logging.getLogger(__name__)

RUN_ID_FILE = "wandb_run_id"
PREFLIGHT_S = 3.0
INIT_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 60.0
# Iterations that wait for W&B to take them; beyond that it hangs.
MOST_WAITING = 1000
# W&B's own limit comes first: it then says in its files how the run ended.
FINISH_MARGIN_S = 5.0


class WandbRun:
    """The experiment's run at Weights & Biases, in the mode that is possible.

    The run's id is kept in the run directory: a resumed experiment goes on in the same run. The files that W&B keeps
    under `wandb/` of the run directory say which iteration was its last: those that are done again after a resume are
    not told again, and those that it had not taken yet when its driver was killed are told now.

    Args:
        run_dir: directory of the run.
        experiment: gives mode, project, group, name, tags and the configuration shown.
        earlier: values of the iterations that earlier drivers of this run did.
        finish_timeout_s: longest wait for uploads at the end.
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
        run_id = _stored_run_id(self._directory)
        told = last_step(self._directory, run_id)
        self._last_iteration = told or 0
        self._waiting: queue.Queue[Callable[[wandb.Run], object] | None] = queue.Queue(MOST_WAITING)
        if experiment.tracking.wandb == "online":
            problem = offline_reason() or self._start("online", run_id, experiment)
            if problem:
                logger.warning(
                    f"W&B goes on offline: {problem}. Upload later: wandb sync {self._directory}/wandb/offline-run-*"
                )
        if self._run is None and (problem := self._start("offline", run_id, experiment)):
            logger.warning(f"W&B is not written: {problem}")
        # Without files here, those of another machine may hold it all.
        if told is not None and (missing := {step: of for step, of in (earlier or {}).items() if step > told}):
            self._waiting.put(lambda run: [run.log(dict(values), step=step) for step, values in missing.items()])
        self._teller = threading.Thread(target=self._tell, name="wandb", daemon=True)
        self._teller.start()

    @property
    def mode(self) -> str | None:
        """online, offline, or None once W&B has failed."""
        return None if self._run is None else "offline" if self._run.offline else "online"

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Adds an iteration's flat values, unless an earlier driver of this run did."""
        if self._run is None or iteration <= self._last_iteration:
            return
        try:
            self._waiting.put_nowait(lambda run: run.log(dict(values), step=iteration))
        except queue.Full:
            self._give_up(f"it has not taken the last {MOST_WAITING} iterations")

    def finish(self, exit_code: int) -> None:
        """Ends the run; waits a limited time for uploads, what is left then stays on disk."""
        if self._run is None:
            return
        deadline = time.monotonic() + self._finish_timeout_s + FINISH_MARGIN_S
        for last in (lambda run: run.finish(exit_code=exit_code), None):
            with contextlib.suppress(queue.Full):
                self._waiting.put(last, timeout=max(0.0, deadline - time.monotonic()))
        self._teller.join(max(0.0, deadline - time.monotonic()))
        if self._teller.is_alive():
            self._give_up(f"it has not finished within {self._finish_timeout_s:.0f} s")
        self._run = None

    def _start(self, mode: str, run_id: str, experiment: Experiment) -> str | None:
        """Starts the run; returns what went wrong."""
        tracking, world = experiment.tracking, experiment.world
        # A service that belongs to a process above may be gone, or still hold this run for a driver that was killed.
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
                    # A console log may hold secrets, and the lines W&B prints tear up the progress line.
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
        except Exception as error:  # W&B raises errors of many families, and none of them may end a training run.
            self._run = None
            # The service would refuse the run's id to the next attempt.
            _forget_service()
            return f"{type(error).__name__}: {one_line(error, 200)}"
        if mode == "online":
            logger.info(f"W&B: {self._run.url}")
        return None

    def _tell(self) -> None:
        while (action := self._waiting.get()) is not None and (run := self._run) is not None:
            try:
                action(run)
            except Exception as error:  # See _start.
                self._give_up(f"{type(error).__name__}: {one_line(error, 200)}")
                return

    def _give_up(self, problem: str) -> None:
        self._run = None
        logger.warning(f"W&B is told no more: {problem}. What it has is in {self._directory}/wandb (wandb sync)")
        # Otherwise W&B waits for its service when the process ends, or shows what it died of.
        threading.Thread(target=_forget_service, daemon=True).start()


def _forget_service() -> None:
    # It may be gone, which is why it is forgotten; its exit code would become this process's.
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def _stored_run_id(directory: Path) -> str:
    path = directory / RUN_ID_FILE
    if path.exists():
        return path.read_text().strip()
    run_id = secrets.token_hex(6)
    write_atomically(path, run_id.encode())
    return run_id


def offline_reason() -> str | None:
    """Why the server cannot be used, None where it can."""
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        return f"WANDB_MODE is {mode}"
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if not (settings.api_key or settings.identity_token_file or _netrc_has(settings.base_url)):
        return "there is no API key (wandb login, or WANDB_API_KEY)"
    if not _answers(settings.base_url):
        return f"{settings.base_url} does not answer"
    return None


def _netrc_has(url: str) -> bool:
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(host) for host in (urlsplit(url).netloc, "api.wandb.ai"))


def _answers(url: str) -> bool:
    """Whether an HTTP server answers at `url`, whatever it says, within PREFLIGHT_S."""
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PREFLIGHT_S).close()
            answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)  # A refusal is an answer.
        except (OSError, ValueError):
            answers.put(False)

    # In a thread of its own, because no timeout covers the look-up of the name.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PREFLIGHT_S)
    except queue.Empty:
        return False
