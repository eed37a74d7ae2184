"""BattleRecording: one battle, step by step; BattleRecorder creates one while the battle is played.

Shapes: T env steps, N agents, M enemies, U = N + M units (agents first), A actions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.arrays import check_fields
from dm2_ray.world.battles.units_view import UnitColumns
from dm2_ray.world.units.state import UNIT_COLUMNS
from dm2_ray.world.viewing.frame import FrameState, between
from dm2_ray.world.viewing.scene import Scene

if TYPE_CHECKING:
    from dm2_ray.world.battles.backend import BattleBackend
    from dm2_ray.world.engine_settings import EngineSettings
    from dm2_ray.world.smac.options import SmacOptions

FORMAT = "dm2-ray-battle-1"

Outcome = Literal["won", "lost", "draw", "time limit", "unfinished"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleProvenance:
    """Which battle this is and who fought it; playing it again with these settings gives the same battle.

    Attributes:
        battle: Its number: battles of one seed are numbered from 0.
        team: Who chose the agents' actions, as free text; empty if not given.
        engine: The simulator and its version: `embedded 2`, `starcraft 4.10`.
        engine_settings: Settings of the embedded engine that differ from the defaults.
        smac: SMAC's constructor arguments that differ from its defaults.
        scenario_hash: Hash of the map's content if the map is not one of SMAC's.
    """

    map: str
    seed: int
    battle: int
    team: str
    engine: str
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    smac: Mapping[str, Any] = field(default_factory=dict)
    scenario_hash: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BattleRecording(UnitColumns[np.float32]):
    """One battle. The units' columns are [T + 1, U]: `x[k]` ... `target[k]` before step k, `[T]` at the end.

    Attributes:
        step_loops: Game loops of an env step.
        actions: [T, N].
        available: [T, N, A].
        rewards: [T] the team's.
        series: [T, N] other numbers known of each agent at each step: `matching_reward`, `action_probability`,
            `value`, ...; NaN where a number is missing.
    """

    scene: Scene
    provenance: BattleProvenance
    outcome: Outcome
    step_loops: int
    actions: NDArray[np.int64]
    available: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    series: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps, units, agents = self.num_steps, self.scene.num_units, self.scene.num_agents
        num_actions = self.scene.num_actions
        check_fields(
            self,
            {
                **{name: (np.float32, (steps + 1, units)) for name in UNIT_COLUMNS},
                "target": (np.int64, (steps + 1, units)),
                "actions": (np.int64, (steps, agents)),
                "available": (np.bool_, (steps, agents, num_actions)),
                "rewards": (np.float64, (steps,)),
            },
        )
        for name, values in self.series.items():
            if values.shape != (steps, agents):
                raise ValueError(f"series {name!r} must be {[steps, agents]}, found {list(values.shape)}")
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"outcome is {self.outcome!r}; expected one of {', '.join(get_args(Outcome))}")

    @property
    def num_steps(self) -> int:
        """T"""
        return len(self.rewards)

    def with_series(self, **series: ArrayLike) -> BattleRecording:
        """The same battle with additional [T, N] series."""
        added = {name: np.asarray(values, dtype=np.float32) for name, values in series.items()}
        return replace(self, series={**self.series, **added})

    def frame(self, time: float) -> FrameState:
        """All units at a time in env steps, 0 to T; between steps they are interpolated."""
        last = self.num_steps
        step = min(max(int(time), 0), last)
        share = min(max(time - step, 0.0), 1.0)
        before = self._at(step)
        if share == 0.0 or step == last:
            return before
        return between(before, self._at(step + 1), share, self.step_loops, self.scene.weapon_period)

    def _at(self, step: int) -> FrameState:
        dead_steps = (self.health[: step + 1] <= 0).sum(0) - 1
        columns = {name: getattr(self, name)[step].astype(np.float64) for name in UNIT_COLUMNS}
        return FrameState(**columns, target=self.target[step], dead_loops=np.maximum(dead_steps, 0.0) * self.step_loops)

    # Conversion to and from JSON.

    def to_json(self) -> str:
        """One JSON object; numbers are rounded to 1/1000, and columns that contain only zeros are left out."""
        columns = {name: values for name in UNIT_COLUMNS if (values := getattr(self, name)).any()}
        content = {
            "format": FORMAT,
            "provenance": asdict(self.provenance),
            "outcome": self.outcome,
            "step_loops": self.step_loops,
            "stage": self.scene.to_dict(),
            "units": {
                **{name: [_rounded(row) for row in values] for name, values in columns.items()},
                "target": self.target.tolist(),
            },
            "actions": self.actions.tolist(),
            "available": [[_as_hex(row) for row in step] for step in self.available],
            # More decimals, so that their sum is right, too.
            "rewards": _rounded(self.rewards, 6),
            "series": {name: [_rounded(row) for row in values] for name, values in self.series.items()},
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> BattleRecording:
        """The inverse of `to_json`.

        Raises:
            ValueError: The text is not a recording; the message says why.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"not a battle recording of this version (expected format {FORMAT!r})")
        try:
            scene = Scene.from_dict(content["stage"])
            rewards = np.array(content["rewards"], dtype=np.float64)
            steps, units, agents = len(rewards), scene.num_units, scene.num_agents
            nothing = np.zeros((steps + 1, units), np.float32)
            columns = {
                name: np.array(content["units"][name], np.float32) if name in content["units"] else nothing
                for name in UNIT_COLUMNS
            }
            num_actions = scene.num_actions
            available = np.array([[_from_hex(word, num_actions) for word in step] for step in content["available"]])
            return BattleRecording(
                scene=scene,
                provenance=BattleProvenance(**content["provenance"]),
                outcome=content["outcome"],
                step_loops=int(content["step_loops"]),
                **columns,
                target=np.array(content["units"]["target"], np.int64),
                actions=np.array(content["actions"], np.int64).reshape(steps, agents),
                available=available.astype(np.bool_).reshape(steps, agents, num_actions),
                rewards=rewards,
                series={
                    name: np.array(rows, np.float32).reshape(steps, agents) for name, rows in content["series"].items()
                },
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a battle recording: {type(error).__name__} at {error}") from error


class BattleRecorder:
    """Records one column of battles while they are played.

        battles.reset(); recorder.begin()
        battles.step(actions); recorder.step(actions[column])     until recorder.has_ended
        recorder.recording

    Args:
        battles: Battles of either backend.
        column: Index of the battle to record.
        team: Who chooses the agents' actions, as free text.
    """

    def __init__(self, battles: BattleBackend, column: int = 0, *, team: str = "") -> None:
        if not 0 <= column < battles.num_battles:
            raise ValueError(f"column is {column}; there are {battles.num_battles} battles")
        self._battles = battles
        self._column = column
        self._team = team
        self._scene = Scene.from_map(battles.map_spec, battles.engine_settings.balance)
        self._begun = False
        self._outcome: Outcome = "unfinished"
        self._provenance: BattleProvenance | None = None
        self._frames: list[FrameState] = []
        self._actions: list[NDArray[np.int64]] = []
        self._available: list[NDArray[np.bool_]] = []
        self._rewards: list[float] = []

    @property
    def has_ended(self) -> bool:
        """Whether the recorded battle is over."""
        return self._begun and self._outcome != "unfinished"

    def begin(self) -> None:
        """Start recording: a battle has begun in the column. An earlier battle's record is dropped."""
        self._begun = True
        self._outcome = "unfinished"
        self._provenance = BattleProvenance(
            map=self._battles.map_name,
            seed=int(self._battles.seed),
            battle=int(self._battles.battle_number[self._column]),
            team=self._team,
            engine=f"{self._battles.backend} {self._battles.engine_version}",
            engine_settings=_changed(self._battles.engine_settings),
            smac=_changed(self._battles.options),
            scenario_hash=self._battles.map_spec.scenario_hash,
        )
        self._frames = [FrameState.from_units(self._battles.units(), self._column)]
        self._actions, self._rewards = [], []
        self._available = [self._battles.action_mask[self._column].copy()]

    def step(self, actions: ArrayLike) -> None:
        """Record the env step that has just been played, and the battle's end if it was the last one. If the battle was
        lost with its game, its record is dropped and that of the battle in its place begins.

        Args:
            actions: [N] the joint action that was played.

        Raises:
            RuntimeError: No battle has begun, or it is over.
            ValueError: The actions have another shape.
        """
        if not self._begun or self.has_ended:
            raise RuntimeError(f"{'this battle is over' if self._begun else 'no battle has begun'}: call begin() first")
        battles, column = self._battles, self._column
        given = np.array(actions, dtype=np.int64)
        if given.shape != (battles.num_agents,):
            raise ValueError(f"actions have shape {given.shape}; expected (num_agents,) = {(battles.num_agents,)}")
        if battles.dropped[column]:
            self.begin()
            return
        ended = bool(battles.terminated[column] or battles.truncated[column])
        self._frames.append(FrameState.from_units(battles.final_units() if ended else battles.units(), column))
        self._actions.append(given)
        self._rewards.append(float(battles.rewards[column]))
        if ended:
            self._outcome = _outcome(battles, column)
        else:
            self._available.append(battles.action_mask[column].copy())

    @property
    def recording(self) -> BattleRecording:
        """The battle up to now.

        Raises:
            RuntimeError: No battle has begun.
        """
        if self._provenance is None:
            raise RuntimeError("no battle has begun: call begin() first")
        steps, agents = len(self._rewards), self._scene.num_agents
        columns: dict[str, Any] = {
            name: np.array([getattr(frame, name) for frame in self._frames], np.float32) for name in UNIT_COLUMNS
        }
        return BattleRecording(
            scene=self._scene,
            provenance=self._provenance,
            outcome=self._outcome,
            step_loops=self._battles.options.step_mul,
            **columns,
            target=np.array([frame.target for frame in self._frames], np.int64),
            actions=np.array(self._actions, np.int64).reshape(steps, agents),
            available=np.array(self._available[:steps], np.bool_).reshape(steps, agents, self._battles.num_actions),
            rewards=np.array(self._rewards, np.float64),
        )


def _outcome(battles: BattleBackend, column: int) -> Outcome:
    if battles.battle_won[column]:
        return "won"
    if battles.timed_out[column]:
        return "time limit"
    all_dead = not battles.final_units().alive[column].any()
    # On MMM maps SMAC tests for the agents' defeat first.
    return "draw" if all_dead and battles.map_spec.map_type != "MMM" else "lost"


def _changed(settings: EngineSettings | SmacOptions) -> dict[str, Any]:
    """Names and values of the fields that differ from their defaults."""
    return {f.name: value for f in fields(settings) if (value := getattr(settings, f.name)) != f.default}


def _rounded(values: NDArray[np.floating], decimals: int = 3) -> list[float | None]:
    """Rounded numbers for JSON: whole numbers without a decimal point, NaN as null."""
    rounded = np.round(values.astype(np.float64), decimals)
    return [None if v != v else int(v) if v == int(v) else v for v in rounded.tolist()]


def _as_hex(row: NDArray[np.bool_]) -> str:
    """A mask as a hexadecimal number whose bit a stands for action a."""
    return format(sum(1 << int(a) for a in np.flatnonzero(row)), "x")


def _from_hex(word: str, count: int) -> list[bool]:
    number = int(word, 16)
    return [bool(number >> a & 1) for a in range(count)]
