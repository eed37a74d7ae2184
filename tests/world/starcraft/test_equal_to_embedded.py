"""Over the game server, whose world is the embedded engine, StarCraftVector gives what BattleVector gives: exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.scripted.scripted_team import ScriptedTeam
from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector

pytestmark = pytest.mark.cli

NOW = ("observations", "action_mask", "state", "alive", "battle_step", "last_actions")
OUTCOME = ("rewards", "terminated", "truncated", "timed_out", "battle_won", "dead_allies", "dead_enemies")
FINAL = ("final_observations", "final_action_mask", "final_state")
UNITS = ("x", "y", "health", "shield", "energy", "cooldown")


def choose(mask: NDArray[np.bool_], rng: np.random.Generator, attack: float = 0.7) -> NDArray[np.int64]:
    """Available actions [B, N]: with probability `attack` the first target in range, else any, so that battles are
    decided and some of them won."""
    anything = (mask * rng.random(mask.shape)).argmax(-1)
    targets = mask[..., 6:]
    fights = targets.any(-1) & (rng.random(mask.shape[:2]) < attack)
    return np.where(fights, 6 + targets.argmax(-1), anything)


def embedded_twins(vector: StarCraftVector, installation: Any, **options: Any) -> list[BattleVector]:
    """For each column, the battles that its game plays."""
    twins = []
    for pid in vector.game_pids:
        (create,) = [m.create_game for m in installation.messages(pid) if m.HasField("create_game")]
        twin = BattleVector(vector.map_name, 1, create.random_seed, **options)
        twin.reset()
        twins.append(twin)
    return twins


def assert_equal(vector: StarCraftVector, twins: list[BattleVector], names: tuple[str, ...]) -> None:
    for b, twin in enumerate(twins):
        for name in names:
            found, expected = getattr(vector, name), getattr(twin, name)
            assert found.dtype == expected.dtype and np.array_equal(found[b], expected[0]), (name, b)


def assert_equal_units(vector: StarCraftVector, twins: list[BattleVector]) -> None:
    for b, twin in enumerate(twins):
        found, expected = vector.units(), twin.units()
        alive = expected.alive[0]
        assert np.array_equal(found.alive[b], alive)
        for name in UNITS:
            seen = getattr(expected, name)[0, alive].astype(np.float32)  # the protocol's numbers have 32 bits
            assert np.array_equal(getattr(found, name)[b, alive], seen), name
        assert np.array_equal(found.target[b, alive], expected.target[0, alive])


def play(vector: StarCraftVector, twins: list[BattleVector], *, battles: int) -> int:
    """Plays until so many battles have ended, compares everything at every step; the number of wins."""
    rng = np.random.default_rng(0)
    team = ScriptedTeam("focus_fire", vector)
    ended = won = 0
    assert_equal(vector, twins, NOW)
    while ended < battles:
        actions = team.act(vector) if rng.random() < 0.9 else choose(vector.action_mask, rng)
        running = rng.random(vector.num_battles) < 0.8
        vector.step(actions, running)
        for b, twin in enumerate(twins):
            twin.step(actions[b : b + 1], running[b : b + 1])
        assert_equal(vector, twins, (*NOW, *OUTCOME))
        for b in np.flatnonzero(running):
            assert np.array_equal(vector.played_actions[b], twins[b].played_actions[0])
        assert_equal_units(vector, twins)
        assert not vector.dropped.any()
        over = np.flatnonzero(vector.terminated | vector.truncated)
        for b in over:
            for name in FINAL:
                assert np.array_equal(getattr(vector, name)[b], getattr(twins[b], name)[0]), name
            alive = vector.final_units().alive[b]
            assert np.array_equal(alive, twins[b].final_units().alive[0])
        ended += len(over)
        won += int(vector.battle_won.sum())
    return won


# Battles by map. Medivacs heal, colossi and banelings hit many units at once.
MAPS = {"3m": 30, "2s3z": 12, "MMM": 4, "1c3s5z": 4, "so_many_baneling": 3}


@pytest.mark.parametrize(
    "map_name",
    [*MAPS, *(pytest.param(name, marks=pytest.mark.long) for name in map_names() if name not in MAPS)],
)
def test_everything_that_agents_see_and_earn(installation, open_vector, map_name: str) -> None:
    vector = open_vector(map_name, 2 if map_name == "3m" else 1, seed=3)
    vector.reset()
    won = play(vector, embedded_twins(vector, installation), battles=MAPS.get(map_name, 2))
    assert map_name != "3m" or won > 0
    assert (vector.crash_restarts, vector.scheduled_restarts) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"obs_last_action": True, "obs_pathing_grid": True, "state_timestep_number": True, "continuing_episode": True},
        {"obs_timestep_number": True, "obs_all_health": False, "obs_instead_of_state": True, "move_amount": 1},
        {"reward_only_positive": False, "reward_win": 100, "reward_scale_rate": 10, "step_mul": 4},
        {"reward_sparse": True, "reward_scale": False, "state_last_action": False, "heuristic_ai": True},
    ],
)
def test_switches(installation, open_vector, options: dict[str, Any]) -> None:
    installation.command("late_loops", 3)  # not all units are there at first
    vector = open_vector("2s3z", 1, **options)
    vector.reset()
    play(vector, embedded_twins(vector, installation, **options), battles=3)
