"""`dm2 bench --world`: how fast battles are played in one thread, by the engine alone and through SMAC's methods.

Actions are random available ones; the time to choose them does not count, but observations, state, available actions,
rewards and the start of new battles do. Maps take turns in every round, so that other work on the machine affects all
of them equally. CPU time is measured as well, because other work changes it far less than wall-clock time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dm2_ray.terminal import StatusLine, format_table
from dm2_ray.world import BattleVector, MapSpec, ScriptedTeam, SMACEnv, load_map

MAPS = ("3m", "5m_vs_6m", "2s3z", "MMM2", "27m_vs_30m", "2c_vs_64zg")
BATTLES = 64

_WARM_UP_STEPS = 100
"""Steps until battles that started together are at different stages."""
_WARM_PROCESSES = 3
_FIRST_CALL = f"""
import sys
from dm2_ray.world import BattleVector
battles = BattleVector(sys.argv[1], {BATTLES})
battles.reset()
battles.step(battles.alive.astype(int))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Env steps per second: medians over rounds."""

    env_steps_per_s: float
    env_steps_per_cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MapSpeed:
    """How fast one map is played.

    Attributes:
        map: Name of the map.
        agents: Number of agents.
        enemies: Number of enemies.
        engine: Rate of BATTLES battles side by side.
        smac_env: Rate of one battle: `step`, `get_obs`, `get_state`, `get_avail_actions`.
    """

    map: str
    agents: int
    enemies: int
    engine: Rate
    smac_env: Rate


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstCall:
    """Time from the start of a new process to the end of its first step.

    Attributes:
        map: Name of the map.
        cold_s: Wall-clock time if everything has to be compiled.
        cold_cpu_s: CPU time in this case.
        warm_s: Wall-clock time if compiled code is on disk; median of several processes.
        warm_cpu_s: CPU time in this case.
    """

    map: str
    cold_s: float
    cold_cpu_s: float
    warm_s: float
    warm_cpu_s: float


class _Stopwatch:
    """Sums up the time inside `running` blocks."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall


class _Player(Protocol):
    env_steps_per_play: int

    def play(self, stopwatch: _Stopwatch) -> None: ...


class _EnginePlayer:
    env_steps_per_play = BATTLES

    def __init__(self, spec: MapSpec) -> None:
        self._battles = BattleVector(spec, BATTLES)
        self._battles.reset()
        self._team = ScriptedTeam("random", self._battles)

    def play(self, stopwatch: _Stopwatch) -> None:
        actions = self._team.act(self._battles)
        with stopwatch.running():
            self._battles.step(actions)


class _SmacPlayer:
    env_steps_per_play = 1

    def __init__(self, spec: MapSpec) -> None:
        self._env = SMACEnv(spec)
        self._env.reset()
        self._available = self._env.get_avail_actions()
        self._rng = np.random.default_rng(0)

    def play(self, stopwatch: _Stopwatch) -> None:
        mask = np.array(self._available)
        actions = (self._rng.random(mask.shape) * mask).argmax(axis=1)
        env = self._env
        with stopwatch.running():
            _, terminated, _ = env.step(actions)
            if terminated:
                env.reset()
            env.get_obs()
            env.get_state()
            self._available = env.get_avail_actions()


def bench_world(maps: Sequence[str], *, repetitions: int, as_json: bool) -> int:
    """Measures speeds on `maps` and the first call on the first of them; prints a table (or one JSON object).

    Raises:
        UnknownMapError, ScenarioError, TerrainError: A map cannot be played.
    """
    specs = [load_map(name) for name in maps]
    status = StatusLine(sys.stderr, plain_every_s=None)
    speeds = measure_speeds(specs, repetitions=repetitions, seconds=0.5, progress=status.show)
    status.show("first call: compiling")
    with tempfile.TemporaryDirectory() as cache:
        first_call = measure_first_call(maps[0], Path(cache))
    status.close()
    if as_json:
        record = {
            "battles": BATTLES,
            "threads": 1,
            "repetitions": repetitions,
            "maps": [asdict(speed) for speed in speeds],
            "first_call": asdict(first_call),
        }
        print(json.dumps(record))
    else:
        print(
            f"one thread, {BATTLES} battles side by side (SMACEnv: one), random actions; median of {repetitions} rounds"
        )
        print(speed_table(speeds))
        print(
            f"first call in a new process, {first_call.map}: "
            f"{first_call.cold_s:.1f} s ({first_call.cold_cpu_s:.1f} s of CPU time) with nothing compiled, "
            f"then {first_call.warm_s:.1f} s ({first_call.warm_cpu_s:.1f} s)"
        )
    return 0


def measure_speeds(
    specs: Sequence[MapSpec],
    *,
    repetitions: int,
    seconds: float,
    warm_up_steps: int = _WARM_UP_STEPS,
    progress: Callable[[str], None] | None = None,
) -> list[MapSpeed]:
    """Measures how fast maps are played.

    Args:
        specs: The maps.
        repetitions: Number of rounds.
        seconds: Seconds of play per round, map and kind of player.
        warm_up_steps: Steps before the first round.
        progress: Called with a line of text before every round.
    """
    kinds: tuple[Callable[[MapSpec], _Player], ...] = (_EnginePlayer, _SmacPlayer)
    players = [make(spec) for spec in specs for make in kinds]
    for player in players:
        for _ in range(warm_up_steps):
            player.play(_Stopwatch())
    rounds = []
    for number in range(1, repetitions + 1):
        if progress is not None:
            progress(f"round {number} of {repetitions}")
        rounds.append([_play(player, seconds) for player in players])
    rates = iter([_median(samples) for samples in zip(*rounds, strict=True)])
    return [
        MapSpeed(
            map=spec.name, agents=spec.num_agents, enemies=spec.num_enemies, engine=next(rates), smac_env=next(rates)
        )
        for spec in specs
    ]


def _play(player: _Player, seconds: float) -> Rate:
    stopwatch, env_steps = _Stopwatch(), 0
    while stopwatch.wall_s < seconds:
        player.play(stopwatch)
        env_steps += player.env_steps_per_play
    return Rate(env_steps_per_s=env_steps / stopwatch.wall_s, env_steps_per_cpu_s=env_steps / stopwatch.cpu_s)


def _median(samples: Sequence[Rate]) -> Rate:
    return Rate(
        env_steps_per_s=statistics.median(sample.env_steps_per_s for sample in samples),
        env_steps_per_cpu_s=statistics.median(sample.env_steps_per_cpu_s for sample in samples),
    )


def measure_first_call(map_name: str, cache: Path) -> FirstCall:
    """Times processes that play one step on a map; compiled code is stored in `cache`."""
    cold, *warm = [_first_call(map_name, cache) for _ in range(1 + _WARM_PROCESSES)]
    warm_s, warm_cpu_s = (statistics.median(column) for column in zip(*warm, strict=True))
    return FirstCall(map=map_name, cold_s=cold[0], cold_cpu_s=cold[1], warm_s=warm_s, warm_cpu_s=warm_cpu_s)


def _first_call(map_name: str, cache: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds that one process takes."""
    wall, cpu = time.perf_counter(), _cpu_s_of_children()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", _FIRST_CALL, map_name], env=environment, check=True)
    return time.perf_counter() - wall, _cpu_s_of_children() - cpu


def _cpu_s_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def speed_table(speeds: Sequence[MapSpeed]) -> str:
    """A table with one row per map."""
    rows = [("map", "units", "env steps/s", "per CPU s", "us/env step", "SMACEnv steps/s")]
    for speed in speeds:
        engine = speed.engine
        rows.append(
            (
                speed.map,
                f"{speed.agents}+{speed.enemies}",
                f"{engine.env_steps_per_s:,.0f}",
                f"{engine.env_steps_per_cpu_s:,.0f}",
                f"{1e6 / engine.env_steps_per_s:.2f}",
                f"{speed.smac_env.env_steps_per_s:,.0f}",
            )
        )
    return format_table(rows, numbers=True)
