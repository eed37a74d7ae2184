"""The loop that plays battles: what it calls, in which order, and what it yields."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from dm2_ray.world import BattleVector, ScriptedTeam
from dm2_ray.world.battles.play_battles import play_battles


class CountedBattles(SimpleNamespace):
    """Two columns; a battle takes two steps. The game of column 1 is lost at the third step of all."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__(observations=np.zeros(2), battle_number=np.array([0, 1]), time=0)
        self.calls, self.steps = calls, np.zeros(2, np.int64)

    def step(self, actions: npt.NDArray[np.int64], running: npt.NDArray[np.bool_]) -> None:
        self.calls.append("step")
        self.time += 1
        self.steps += running
        self.dropped = running & np.array([False, self.time == 3])
        self.terminated = running & (self.steps == 2) & ~self.dropped
        self.truncated = np.zeros(2, bool)
        self.steps[self.terminated | self.dropped] = 0
        self.battle_number = self.battle_number + 2 * self.terminated


class Policy:
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def reset_states(self, battles: object) -> None:
        raise AssertionError("the caller does that")

    def act(self, battles: CountedBattles) -> npt.NDArray[np.int64]:
        self.calls.append("act")
        return battles.battle_number[:, None]

    def reset_finished(self, finished: npt.NDArray[np.bool_]) -> None:
        self.calls.append(f"reset {np.flatnonzero(finished).tolist()}")


def test_order_of_calls_and_a_dropped_battle_that_is_played_again() -> None:
    calls: list[str] = []
    battles = CountedBattles(calls)
    steps = []
    for step in play_battles(
        battles,  # type: ignore[arg-type]
        Policy(calls),
        running=lambda: battles.battle_number < 4,
        before_step=lambda actions: calls.append(f"before {actions[:, 0].tolist()}"),
    ):
        calls.append("yield")
        steps.append([np.flatnonzero(mask).tolist() for mask in step[1:]])
    assert calls[:8] == ["act", "before [0, 1]", "step", "yield", "act", "before [0, 1]", "step", "reset [0, 1]"]
    # Running, finished and dropped columns of each step.
    assert steps == [
        [[0, 1], [], []],
        [[0, 1], [0, 1], []],
        [[0, 1], [], [1]],
        [[0, 1], [0], []],
        [[1], [1], []],
    ]
    assert [call for call in calls if call.startswith("reset")] == [
        "reset [0, 1]",
        "reset [1]",
        "reset [0]",
        "reset [1]",
    ]


def test_battles_are_those_of_a_loop_by_hand() -> None:
    def outcomes_by_hand(battles: BattleVector, team: ScriptedTeam) -> list[tuple[int, float]]:
        found = []
        while battles.battle_number[0] < 5:
            number = int(battles.battle_number[0])
            battles.step(team.act(battles))
            ended = battles.terminated | battles.truncated
            team.reset_finished(ended)
            if ended[0]:
                found.append((number, float(battles.rewards[0])))
        return found

    battles = BattleVector("3m", 1, seed=4)
    team = ScriptedTeam("nearest", battles)
    battles.reset(first_battle=0)
    team.reset_states(battles)
    expected = outcomes_by_hand(battles, team)

    battles.reset(first_battle=0)
    team.reset_states(battles)
    played = play_battles(battles, team, running=lambda: battles.battle_number < 5)
    found = [(int(battles.battle_number[0]) - 1, float(battles.rewards[0])) for step in played if step.finished[0]]
    assert found == expected and len(found) == 5


@pytest.mark.parametrize("columns", [1, 3])
def test_nothing_is_played_where_nothing_runs(columns: int) -> None:
    battles = BattleVector("3m", columns)
    team = ScriptedTeam("nearest", battles)
    assert list(play_battles(battles, team, running=lambda: np.zeros(columns, np.bool_))) == []
    assert battles.battle_step.tolist() == [0] * columns
