"""SMAC's heuristic_ai on many battles at once: deterministic, whatever goes on beside it."""

from __future__ import annotations

import numpy as np
import pytest

from dm2_ray.world import BattleVector, load_map

SHOWN = {"heuristic_ai": True, "obs_last_action": True}


def given(battles: BattleVector, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, battles.num_actions, (battles.num_battles, battles.num_agents))


@pytest.mark.parametrize("rest", [False, True])
def test_columns_do_not_influence_one_another(rest: bool) -> None:
    many = BattleVector("MMM", 3, seed=1, heuristic_rest=rest, **SHOWN)
    alone = [BattleVector("MMM", 1, seed=1, first_battle=b, heuristic_rest=rest, **SHOWN) for b in range(3)]
    for battles in (many, *alone):
        battles.reset()
    still_first = np.ones(3, bool)
    for step in range(80):
        actions = given(many, step)
        many.step(actions)
        for b in np.flatnonzero(still_first):
            alone[b].step(actions[b : b + 1])
            ended = bool(many.terminated[b])
            arrays = ("final_observations", "final_state") if ended else ("observations", "state", "last_actions")
            for name in (*arrays, "rewards", "battle_won", "played_actions"):
                np.testing.assert_array_equal(getattr(many, name)[b], getattr(alone[b], name)[0], err_msg=name)
            still_first[b] = not ended
    assert not still_first.any()


def test_battles_that_pause_keep_their_targets() -> None:
    paused, plain = (BattleVector("2s3z", 2, seed=3, **SHOWN) for _ in range(2))
    for battles in (paused, plain):
        battles.reset()
    for step in range(25):
        actions = given(plain, step)
        plain.step(actions)
        paused.step(actions, running=[True, False])
        paused.step(actions, running=[False, True])
        np.testing.assert_array_equal(paused.state, plain.state)


def test_a_snapshot_holds_the_targets() -> None:
    battles, other = (BattleVector("MMM", 2, seed=3, **SHOWN) for _ in range(2))
    battles.reset()
    for step in range(20):
        battles.step(given(battles, step))
    other.restore(battles.snapshot())
    for step in range(20, 60):
        battles.step(given(battles, step))
        other.step(given(battles, step))
        for name in ("observations", "state", "rewards", "played_actions"):
            np.testing.assert_array_equal(getattr(battles, name), getattr(other, name))
    with pytest.raises(ValueError, match="heuristic_targets differ"):
        battles.restore(BattleVector("MMM", 2, seed=3, obs_last_action=True).snapshot())


@pytest.mark.parametrize("rest", [False, True])
def test_agents_go_to_enemies_beyond_their_reach(rest: bool) -> None:
    battles = BattleVector("3m", 1, heuristic_ai=True, heuristic_rest=rest)
    battles.reset()
    battles.place_units(0, allies={i: {"x": 2.0} for i in range(3)}, enemies={i: {"x": 30.0} for i in range(3)})
    before = battles.units().agents.x.copy()
    battles.step(np.zeros((1, 3), np.int64))
    assert (battles.units().agents.x - before > 0.9).all()
    assert (battles.played_actions == (4 if rest else battles.played_actions.clip(min=6))).all()


def test_a_battle_is_fought_to_its_end_and_often_won() -> None:
    battles = BattleVector("3m", 200, heuristic_ai=True)
    battles.reset()
    won, ended = 0, np.zeros(200, bool)
    while not ended.all():
        battles.step(np.zeros((200, 3), np.int64))
        won += np.count_nonzero(battles.battle_won & ~ended)
        ended |= battles.terminated
    assert 0.2 < won / 200 < 0.7


def test_medivacs_heal_the_nearest_hurt_and_others_never_do() -> None:
    spec = load_map("MMM")
    battles = BattleVector("MMM", 1, heuristic_ai=True)
    battles.reset()
    medivac = spec.ally_kinds.index("medivac")
    battles.step(np.zeros((1, 10), np.int64))
    assert battles.played_actions[0, medivac] == 0  # nobody is hurt
    place = battles.unit_records(0).allies[medivac]
    hurt = {2: {"health": 10, "x": place.x + 2}, 3: {"health": 40, "x": place.x + 0.5, "y": place.y}}
    battles.place_units(0, allies=hurt)
    battles.step(np.zeros((1, 10), np.int64))
    assert battles.played_actions[0, medivac] == 6 + 3
    assert battles.units().health[0, 3] > 40


def test_a_medivac_without_a_patient_gets_no_command_and_its_order_stands() -> None:
    battles = BattleVector("MMM", 1, heuristic_ai=True)
    battles.reset()
    marine, medivac = 2, 9
    battles.place_units(0, allies={marine: {"health": 44.0}})
    stop = np.where(battles.alive, 1, 0)
    battles.step(stop)
    assert battles.played_actions[0, medivac] == 6 + marine and battles.units().health[0, marine] == 45.0
    battles.step(stop)
    assert battles.played_actions[0, medivac] == 0, "nobody is hurt"
    assert battles.units().target[0, medivac] == marine
