"""Long play on every map under an umpire's eyes, and how the cost of a step grows with the number of units."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from support.maps import EVERY_MAP
from support.umpire import SELDOM, Umpire

from dm2_ray.world import BattleVector, ScriptedTeam, load_map, map_names, scenario_names
from dm2_ray.world.maps.scenario import scenario_from_mapping
from dm2_ray.world.units.state import HEALTH, SHIELD, X, Y


def begin(map_name: str, num_battles: int, seed: int, team_name: str) -> tuple[Umpire, ScriptedTeam]:
    battles = BattleVector(map_name, num_battles, seed)
    battles.reset()
    return Umpire(battles), ScriptedTeam(team_name, battles, seed)


def play(map_name: str, env_steps: int, team_name: str = "random", seed: int = 0) -> Umpire:
    """At least so many env steps."""
    spec = load_map(map_name)
    # So many side by side that the time of small maps is not numpy's.
    num_battles = 256 if spec.num_agents + spec.num_enemies <= 20 else 64
    umpire, team = begin(map_name, num_battles, seed, team_name)
    for _ in range(-(-env_steps // num_battles)):
        team.reset_finished(umpire.step(team.act(umpire.battles)))
    assert umpire.ended > 0
    return umpire


@pytest.mark.slow
@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_twenty_thousand_random_steps(map_name: str) -> None:
    play(map_name, 20_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("map_name", map_names())
def test_long_random_play(map_name: str) -> None:
    spec = load_map(map_name)
    play(map_name, 1_000_000 if spec.num_agents + spec.num_enemies <= 30 else 400_000, seed=1)


@pytest.mark.parametrize("map_name", [name for name in scenario_names() if load_map(name).num_agents < 100])
def test_scenarios(map_name: str) -> None:
    play(map_name, 15_000)


@pytest.mark.parametrize(
    ("map_name", "team_name", "env_steps"),
    [
        ("3m", "nearest", 10_000),
        ("8m", "nearest", 10_000),
        ("2s3z", "kite", 40_000),
        ("3s5z", "kite", 40_000),
        ("2c_vs_64zg", "nearest", 10_000),
    ],
)
def test_teams_that_win(map_name: str, team_name: str, env_steps: int) -> None:
    assert play(map_name, env_steps, team_name).won > 0


def raise_the_dead(units: np.ndarray) -> None:
    units[0, HEALTH, units[0, HEALTH] == 0.0] = 20.0


def heal(units: np.ndarray) -> None:
    units[0, HEALTH] *= 1.05


def hurt(units: np.ndarray) -> None:
    units[0, HEALTH, -1] *= 0.95


def shield(units: np.ndarray) -> None:
    units[0, SHIELD, units[0, HEALTH] > 0.0] += 0.5


def carry_away(units: np.ndarray) -> None:
    units[0, X, 0] += 4.0


def wall_in(units: np.ndarray) -> None:
    units[0, Y, 0] = 5.0


def pile_up(units: np.ndarray) -> None:
    living = np.flatnonzero(units[0, HEALTH] > 0.0)
    for row in (X, Y):
        units[0, row, living] = units[0, row, living[0]]


@pytest.mark.parametrize(
    ("tamper", "objection"),
    [
        (raise_the_dead, "risen from the dead"),
        (heal, "health out of"),
        (hurt, "reward"),
        (shield, "shield grows soon after a hit|shield out of"),
        (carry_away, "moves too far"),
        (wall_in, "moves too far|closed to its layer"),
        (pile_up, "moves too far|in one place"),
    ],
)
def test_the_umpire_is_not_blind(tamper, objection: str) -> None:
    umpire, team = begin("2s3z", 4, 3, "nearest")
    battles = umpire.battles
    while battles.alive[0].all() or umpire.steps % SELDOM != SELDOM - 1:
        umpire.step(team.act(battles))
    assert battles.battle_number[0] == 0
    kept = battles.snapshot()
    tamper(kept["units"])
    actions = team.act(battles)
    battles.restore(kept)
    step = battles.battle_step[0] + 1
    with pytest.raises(AssertionError, match=f"^2s3z, seed 3: .*({objection}).*: battle 0, step {step},"):
        umpire.step(actions)


def marines(count: int) -> BattleVector:
    content = {
        "name": f"{count}m_vs_{count}m",
        "episode_limit": 150,
        "agents": [{"kind": "marine", "count": count, "x": 25, "y": 32}],
        "enemies": [{"kind": "marine", "count": count, "x": 39, "y": 32}],
        "terrain": {"size": [64, 64]},
    }
    return BattleVector(scenario_from_mapping(content, "a test"), 16)


def cpu_seconds(battles: BattleVector, steps: int) -> float:
    """Of `steps` steps from the beginning on, by the random team, whose own time does not count."""
    battles.reset()
    team = ScriptedTeam("random", battles)
    elapsed = 0.0
    for _ in range(steps):
        actions = team.act(battles)
        started = time.process_time()
        battles.step(actions)
        elapsed += time.process_time() - started
    return elapsed


@pytest.mark.long
def test_cost_grows_no_faster_than_the_square_of_the_units() -> None:
    sizes = (10, 20, 40, 80)
    fights = [marines(count) for count in sizes]
    cpu_seconds(fights[0], 1)
    rounds = [[cpu_seconds(battles, 100) for battles in fights] for _ in range(5)]
    costs = [statistics.median(column) for column in zip(*rounds, strict=True)]
    exponent = np.polyfit(np.log(sizes), np.log(costs), 1)[0]
    print(dict(zip(sizes, (f"{cost / 1600 * 1e6:.0f} us" for cost in costs), strict=True)), f"exponent {exponent:.2f}")
    assert exponent <= 2.2
