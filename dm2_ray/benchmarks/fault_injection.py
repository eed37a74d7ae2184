"""`dm2 bench --faults`: compares a run whose processes are killed at random moments with an undisturbed run.

demonstrations ──► dm2 train, undisturbed ───────────────┐
             └──► dm2 train, with kills of workers, learners and demonstration servers ──► compare
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dm2_ray.benchmarks.process_killer import POLL_S, Kill, ProcessKiller
from dm2_ray.checkpoints import intact_checkpoints
from dm2_ray.errors import RunFailed
from dm2_ray.runs.run_directory import RunDirectory
from dm2_ray.terminal import format_duration
from dm2_ray.tracking import read_metrics

logger = logging.getLogger(__name__)

SETTINGS = (
    "rollout.env_runners=2",
    "rollout.battles_per_env_runner=16",
    "rollout.env_steps=1024",
    "evaluation.env_runners=1",
    "evaluation.every_env_steps=6000",
    "evaluation.episodes=64",
    "demonstrations.expert_actors=1",
    "checkpoint.every_iterations=5",
    "checkpoint.keep=0",
    "tracking.tensorboard=false",
)
"""One or more processes of every kind; all checkpoints are kept."""
DEMONSTRATIONS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultInjectionPlan:
    """What is run, and how many processes are killed; `seed` is that of the run and of the kills."""

    map: str = "3m"
    kills: int = 60
    seed: int = 0
    iterations: int = 120
    settings: Sequence[str] = SETTINGS


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultInjectionResult:
    """The two runs compared.

    Attributes:
        plan: What was run.
        kills: The processes that were killed.
        undisturbed_s: Duration of the undisturbed run.
        disturbed_s: Duration of the run with kills.
        win_rates: Final greedy win rates of both runs, in this order.
        difference: Where the runs' metrics first differ, apart from `timing`; None if nowhere.
        checkpoints: Number of checkpoints of the disturbed run.
        corrupt: How many of them are damaged.
        faults: The faults in the disturbed run's summary.
    """

    plan: FaultInjectionPlan
    kills: Sequence[Kill]
    undisturbed_s: float
    disturbed_s: float
    win_rates: tuple[float, float]
    difference: str | None
    checkpoints: int
    corrupt: int
    faults: Any

    @property
    def passed(self) -> bool:
        return len(self.kills) >= self.plan.kills and self.difference is None and not self.corrupt

    def record(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            **{name: getattr(self, name) for name in ("passed", "difference", "checkpoints", "corrupt", "faults")},
            "map": self.plan.map,
            "seed": self.plan.seed,
            "iterations": self.plan.iterations,
            "seconds": {"undisturbed": self.undisturbed_s, "disturbed": self.disturbed_s},
            "final_win_rate": {"undisturbed": self.win_rates[0], "disturbed": self.win_rates[1]},
            "recovery": {kind: asdict(recovery) for kind, recovery in self.recoveries().items()},
            "kills": [asdict(kill) for kill in self.kills],
        }

    def recoveries(self) -> dict[str, Recovery]:
        """How the processes of each kind recovered."""
        kinds = sorted({kill.kind for kill in self.kills})
        return {kind: Recovery.of([kill for kill in self.kills if kill.kind == kind]) for kind in kinds}

    def text(self) -> str:
        """The result as text: a table and the comparison."""
        lines = [
            f"\n{self.plan.map}, {self.plan.iterations} iterations, seed {self.plan.seed}: {len(self.kills)} processes "
            f"killed at random moments",
            f"{'':20}{'kills':>7}{'busy':>9}{'recovery, s':>16}{'longest':>9}",
        ]
        for kind, recovery in self.recoveries().items():
            lines.append(
                f"{kind.replace('_', ' '):20}{recovery.kills:>7}{recovery.at_work:>9}"
                f"{_seconds(recovery.median_s):>16}{_seconds(recovery.longest_s):>9}"
            )
        same = "equal in every number" if self.difference is None else f"DIFFERENT: {self.difference}"
        lines += [
            "",
            f"metrics          {same}",
            f"final win rate   {self.win_rates[0]:.3f} undisturbed, {self.win_rates[1]:.3f} with kills",
            f"checkpoints      {self.checkpoints} intact, {self.corrupt} corrupt",
            f"time             {self.undisturbed_s:.0f} s undisturbed, {self.disturbed_s:.0f} s with kills",
        ]
        if len(self.kills) < self.plan.kills:
            lines.append(f"only {len(self.kills)} of {self.plan.kills} kills: the run ended too early")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """How processes of one kind recovered.

    Attributes:
        kills: Number of kills.
        at_work: How many of them hit a process in the middle of a call.
        median_s: Median time from a kill until the replacement was ready; None if none was.
        longest_s: Longest such time.
        never: Number of processes without a replacement when the run ended.
    """

    kills: int
    at_work: int
    median_s: float | None
    longest_s: float | None
    never: int

    @staticmethod
    def of(kills: Sequence[Kill]) -> Recovery:
        times = [kill.back_s for kill in kills if kill.back_s is not None]
        return Recovery(
            kills=len(kills),
            at_work=sum(kill.during != "idle" for kill in kills),
            median_s=statistics.median(times) if times else None,
            longest_s=max(times, default=None),
            never=len(kills) - len(times),
        )


class FaultInjectionFailed(RunFailed, RuntimeError):
    """A run failed."""


def bench_faults(plan: FaultInjectionPlan, *, as_json: bool) -> int:
    """Runs the plan and prints a table (or one JSON object); progress goes to stderr.

    Returns:
        Exit code: 0 if both runs have equal metrics and all checkpoints of the disturbed one are intact.
    """
    with _sigterm_unwinds():
        result = run_fault_injection(plan)
    print(json.dumps(result.record()) if as_json else result.text())
    return 0 if result.passed else 1


def run_fault_injection(plan: FaultInjectionPlan) -> FaultInjectionResult:
    """Runs both runs, one after the other, each in its own process.

    Raises:
        FaultInjectionFailed: A run failed; its directory is kept.
    """
    directory = Path(tempfile.mkdtemp(prefix="dm2-faults-"))
    logger.info(f"working in {directory}")
    demonstrations = directory / "demonstrations"
    recording = _dm2(
        "demos", "record", "scripted:focus_fire", "--map", plan.map, "--episodes", str(DEMONSTRATIONS),
        "--out", str(demonstrations), log=directory / "demonstrations.log",
    )  # fmt: skip
    _check(recording.wait(), "demonstrations", directory / "demonstrations.log")
    undisturbed, undisturbed_s = _run(plan, directory / "undisturbed", demonstrations, lambda _: None)
    # With this mean gap, the last kill is well before the end: between recoveries, both runs are equally fast.
    training_s = read_metrics(undisturbed.metrics)[-1]["timing"]["wall_s"]
    gap_s = 0.6 * training_s / plan.kills
    killer = ProcessKiller(kills=plan.kills, mean_gap_s=gap_s, seed=plan.seed)
    disturbed, disturbed_s = _run(plan, directory / "disturbed", demonstrations, killer.poll)
    summaries = [json.loads(run.summary.read_text()) for run in (undisturbed, disturbed)]
    kept = [path for path in disturbed.checkpoints.iterdir() if path.is_dir()]
    result = FaultInjectionResult(
        plan=plan,
        kills=killer.kills,
        undisturbed_s=undisturbed_s,
        disturbed_s=disturbed_s,
        win_rates=(summaries[0]["final_evaluation"]["win_rate"], summaries[1]["final_evaluation"]["win_rate"]),
        difference=_difference(undisturbed, disturbed),
        checkpoints=len(kept),
        corrupt=len(kept) - len(intact_checkpoints(disturbed.checkpoints)),
        faults=summaries[1].get("faults"),
    )
    if result.passed:
        shutil.rmtree(directory)
    return result


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Turns SIGTERM into an exception; otherwise, the training process would survive this one."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(
    plan: FaultInjectionPlan,
    directory: Path,
    demonstrations: Path,
    poll: Callable[[int], None],
) -> tuple[RunDirectory, float]:
    """Trains in another process and calls `poll` with its process id every POLL_S; returns the run and its duration."""
    log = directory.with_suffix(".log")
    process = _dm2(
        "train", "--variant", "dm2", "--map", plan.map, "--demos", str(demonstrations), "--run-dir", str(directory),
        "--seed", str(plan.seed), "--iterations", str(plan.iterations), *plan.settings, log=log,
    )  # fmt: skip
    started = reported = time.monotonic()
    try:
        while process.poll() is None:
            poll(process.pid)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                logger.info(f"{directory.name}, {format_duration(reported - started)}: {_last_line(log)}")
            time.sleep(POLL_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    _check(process.returncode, directory.name, log)
    return RunDirectory(directory), time.monotonic() - started


def _check(exit_code: int, what: str, log: Path) -> None:
    if exit_code != 0:
        raise FaultInjectionFailed(f"{what}: exit code {exit_code}: {_last_line(log)} (see {log})")


def _last_line(log: Path) -> str:
    return (log.read_text().splitlines() or ["(no output)"])[-1]


def _dm2(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with open(log, "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "dm2_ray.cli", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip


def _difference(undisturbed: RunDirectory, disturbed: RunDirectory) -> str | None:
    """Where two runs' metrics first differ."""
    ours, theirs = read_metrics(undisturbed.metrics), read_metrics(disturbed.metrics)
    for one, other in zip(ours, theirs, strict=False):
        differing = [name for name in sorted({*one, *other} - {"timing"}) if one.get(name) != other.get(name)]
        if differing:
            return f"iteration {one['iteration']}: {', '.join(differing)}"
    return None if len(ours) == len(theirs) else f"{len(ours)} iterations undisturbed, {len(theirs)} with kills"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
