"""Scripted teams: only available actions, purity, the calibration bands of the engine they play in."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from support.maps import EVERY_MAP

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.scripted import SCRIPTED_TEAMS
from dm2_ray.world.scripted.scripted_team import ScriptedTeam

pytestmark = pytest.mark.slow


def win_rate(map_name, team_name, num_battles, seed=0, engine=None):
    """Share of battles 0..num_battles - 1 that the team wins."""
    battles = BattleVector(map_name, min(num_battles, 64), seed, engine=engine)
    battles.reset()
    team = ScriptedTeam(team_name, battles, seed)
    team.reset_states(battles)
    won = 0
    running = battles.battle_number < num_battles
    while running.any():
        battles.step(team.act(battles), running)
        won += int(battles.battle_won.sum())
        team.reset_finished(battles.terminated | battles.truncated)
        running = battles.battle_number < num_battles
    return won / num_battles


@pytest.mark.parametrize("map_name", EVERY_MAP)
@pytest.mark.parametrize("team_name", SCRIPTED_TEAMS)
def test_only_available_actions_are_chosen(map_name, team_name):
    battles = BattleVector(map_name, 3, seed=1, engine=EngineSettings(spawn_jitter=0.4))
    battles.reset()
    team = ScriptedTeam(team_name, battles)
    for _ in range(40):
        actions = team.act(battles)
        assert actions.shape == (3, battles.num_agents) and actions.dtype == np.int64
        assert np.take_along_axis(battles.action_mask, actions[..., None], axis=-1).all()
        battles.step(actions)
        team.reset_finished(battles.terminated)


def test_random_is_uniform_and_a_function_of_seed_battle_step_and_agent():
    battles = BattleVector("5m_vs_6m", 64)
    battles.reset()
    team = ScriptedTeam("random", battles, seed=7)
    assert np.array_equal(team.act(battles), team.act(battles))
    assert np.array_equal(team.act(battles), ScriptedTeam("random", battles, seed=7).act(battles))
    assert not np.array_equal(team.act(battles), ScriptedTeam("random", battles, seed=8).act(battles))
    counts = np.zeros((5, battles.num_actions))
    for number in range(0, 64 * 30, 64):
        battles.reset(first_battle=number)
        actions = team.act(battles)
        counts += (actions[..., None] == np.arange(battles.num_actions)).sum(axis=0)
    available = battles.action_mask[0]
    assert (counts[~available] == 0).all()
    expected = counts.sum(axis=1, keepdims=True) / available.sum(axis=1, keepdims=True)
    chi_squared = ((counts - expected) ** 2 / expected)[available].sum()
    assert chi_squared < available.sum() + 5 * np.sqrt(2 * available.sum())


def test_a_team_forgets_ended_battles_and_refuses_others():
    battles = BattleVector("3m", 2)
    battles.reset()
    team = ScriptedTeam("nearest", battles)
    first = team.act(battles)
    for _ in range(10):
        battles.step(team.act(battles))
    team.reset_states(battles)
    battles.reset()
    assert np.array_equal(team.act(battles), first)
    with pytest.raises(ValueError, match="plays 2 battles on '3m', not 3 on '8m'"):
        team.reset_states(BattleVector("8m", 3))
    with pytest.raises(ValueError, match="did you mean 'focus_fire'"):
        ScriptedTeam("focusfire", battles)


@pytest.mark.parametrize(("team_name", "depends"), [("kite", True), ("hit_and_run", False)])
def test_only_kite_depends_on_the_cooldowns_of_its_weapons(team_name, depends):
    battles = BattleVector("3s_vs_3z", 16)
    battles.reset()
    team = ScriptedTeam(team_name, battles)
    is_ready, differs = (
        SimpleNamespace(**{name: getattr(battles, name) for name in ("num_battles", "num_agents")}),
        False,
    )
    for _ in range(40):
        units = battles.units()
        for name in ("action_mask", "last_actions", "battle_number", "battle_step"):
            setattr(is_ready, name, getattr(battles, name))
        is_ready.units = lambda units=units: dataclasses.replace(units, cooldown=np.zeros_like(units.cooldown))
        actions = team.act(battles)
        differs |= not np.array_equal(team.act(is_ready), actions)
        battles.step(actions)
    assert differs == depends


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_random_play_never_wins_but_where_the_enemy_kills_itself(map_name):
    most = {"so_many_baneling": 0.35, "bane_vs_bane": 0.95, "2c_vs_64zg": 0.1}.get(map_name, 0.0)
    assert win_rate(map_name, "random", 16 if map_name in ("25m", "27m_vs_30m") else 48) <= most


@pytest.mark.parametrize(
    ("map_name", "team_name", "least", "most"),
    [
        ("3m", "nearest", 0.6, 0.95),
        ("3m", "focus_fire", 0.7, 1.0),
        ("8m", "nearest", 0.05, 0.6),
        ("5m_vs_6m", "nearest", 0.0, 0.05),
        ("5m_vs_6m", "focus_fire", 0.0, 0.15),
        ("8m_vs_9m", "nearest", 0.0, 0.05),
        ("3s_vs_3z", "nearest", 0.0, 0.05),
        ("3s_vs_3z", "kite", 0.85, 1.0),
        ("3s_vs_4z", "focus_fire", 0.0, 0.05),
        ("3s_vs_4z", "kite", 0.3, 0.7),
        ("3s_vs_5z", "focus_fire", 0.0, 0.05),
        ("3s_vs_5z", "kite", 0.0, 0.2),
        ("2s3z", "kite", 0.85, 1.0),
        ("3s5z_vs_3s6z", "kite", 0.05, 0.4),
        ("2m_vs_1z", "kite", 0.02, 0.6),
        ("3s_vs_3z", "hit_and_run", 0.95, 1.0),
        ("3s_vs_5z", "hit_and_run", 0.95, 1.0),
        ("2s3z", "hit_and_run", 0.95, 1.0),
        ("3s5z_vs_3s6z", "hit_and_run", 0.9, 1.0),
    ],
)
def test_calibration_bands(map_name, team_name, least, most):
    """Difficulty as in StarCraft II: kiting is necessary and sufficient against zealots, superior numbers of marines
    beat simple rules, and every map can be won."""
    assert least <= win_rate(map_name, team_name, 192) <= most
