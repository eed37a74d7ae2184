"""Difficulty of maps: win rates of the scripted teams.

Shapes: B battles side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dm2_ray.statistics import wilson_interval
from dm2_ray.terminal import format_markdown_table
from dm2_ray.world import SCRIPTED_TEAMS, BattleVector, MapSpec, ScriptedTeam
from dm2_ray.world.battles.play_battles import play_battles

BATTLES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class MapDifficulty:
    """How many battles the scripted teams won on one map."""

    map: str
    battles: int
    """Number of battles that each team played."""
    won: dict[str, int]
    """Number of battles won, by team."""

    def win_rate(self, team: str) -> float:
        return self.won[team] / self.battles

    def interval(self, team: str) -> tuple[float, float]:
        """95 % Wilson interval of the team's win rate."""
        return wilson_interval(self.win_rate(team), self.battles)

    def record(self) -> dict[str, Any]:
        """The same as one JSON object."""
        teams = {
            team: {
                "won": self.won[team],
                "win_rate": self.win_rate(team),
                "win_rate_low": self.interval(team)[0],
                "win_rate_high": self.interval(team)[1],
            }
            for team in self.won
        }
        return {"map": self.map, "battles": self.battles, "teams": teams}


def measure_win_rates(
    map_spec: MapSpec,
    *,
    battles: int,
    seed: int = 0,
    teams: Iterable[str] = SCRIPTED_TEAMS,
    progress: Callable[[str, int], None] | None = None,
) -> MapDifficulty:
    """Lets every team play the same battles, numbers 0 to battles - 1; a pure function of its arguments.

    Args:
        map_spec: The map.
        battles: Exactly how many battles each team plays.
        seed: Of the battles, and of the random team.
        teams: Names of scripted teams.
        progress: Called with (team, battles ended) after every step.
    """
    won = {}
    vector = BattleVector(map_spec, min(battles, BATTLES_AT_ONCE), seed)
    for team in teams:
        won[team] = _battles_won(ScriptedTeam(team, vector, seed), vector, battles, progress)
    return MapDifficulty(map=map_spec.name, battles=battles, won=won)


def _battles_won(
    team: ScriptedTeam, vector: BattleVector, battles: int, progress: Callable[[str, int], None] | None
) -> int:
    won = ended = 0
    vector.reset(first_battle=0)
    team.reset_states(vector)
    for step in play_battles(vector, team, running=lambda: vector.battle_number < battles):
        won += int(vector.battle_won.sum())
        ended += int(step.finished.sum())
        if progress is not None:
            progress(team.name, ended)
    return won


def markdown_table(results: Iterable[MapDifficulty]) -> str:
    """A row per map, a column per team; each cell is a win rate and its interval."""
    rows = list(results)
    teams = list(rows[0].won)
    lines = []
    for row in rows:
        cells = [row.map]
        for team in teams:
            low, high = row.interval(team)
            cells.append(f"{row.win_rate(team):.2f} [{low:.2f}, {high:.2f}]")
        lines.append(cells)
    return format_markdown_table(["map", *teams], lines)
