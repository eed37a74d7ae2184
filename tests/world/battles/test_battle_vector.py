"""BattleVector: battles are pure functions of (seed, number, actions), auto-reset, errors, snapshots."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.maps import EVERY_MAP

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine.battle_step import step_battles
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.smac_maps import map_names
from dm2_ray.world.scripted.scripted_team import ScriptedTeam

RECORDED = ("observations", "action_mask", "state", "alive", "battle_step")


def record(battles, team, last_battle, pauses=None):
    """What each battle looked like at every step, by battle number; plays battles first_battle..last_battle - 1.

    `pauses`, a random generator, stops columns at random.
    """
    story = {}
    battles.reset()
    team.reset_states(battles)
    unfinished = battles.battle_number < last_battle
    while unfinished.any():
        running = unfinished.copy() if pauses is None else unfinished & (pauses.random(len(unfinished)) < 0.7)
        numbers = battles.battle_number.copy()
        before = [getattr(battles, name).copy() for name in RECORDED]
        actions = team.act(battles)
        battles.step(actions, running)
        ended = battles.terminated | battles.truncated
        for b in np.flatnonzero(running):
            outcome = [array[b] for array in before] + [actions[b], battles.rewards[b], battles.battle_won[b]]
            if ended[b]:
                outcome += [battles.final_observations[b].copy(), battles.final_state[b].copy()]
            story.setdefault(int(numbers[b]), []).append(outcome)
        team.reset_finished(ended)
        unfinished = battles.battle_number < last_battle
    return story


def assert_equal_stories(found, expected):
    for number, steps in found.items():
        assert len(steps) == len(expected[number])
        for left, right in zip(steps, expected[number], strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("map_name", EVERY_MAP)
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(-(2**70), 2**70),
    num_battles=st.integers(1, 5),
    first_battle=st.integers(0, 3),
    pause_seed=st.integers(0, 2**32),
)
def test_a_battle_depends_on_seed_number_and_actions_only(map_name, seed, num_battles, first_battle, pause_seed):
    reference = BattleVector(map_name, 3, seed)
    expected = record(reference, ScriptedTeam("random", reference, seed=3), 5)
    other = BattleVector(map_name, num_battles, seed, first_battle=first_battle)
    found = record(other, ScriptedTeam("random", other, seed=3), 5, np.random.default_rng(pause_seed))
    assert set(found) >= set(range(first_battle, 5))
    assert_equal_stories({number: found[number] for number in range(first_battle, 5)}, expected)


def test_seeds_and_numbers_make_different_battles():
    def cooldowns(seed, first_battle):
        battles = BattleVector("5m_vs_6m", 1, seed, first_battle=first_battle)
        battles.reset()
        team = ScriptedTeam("nearest", battles)
        for _ in range(12):
            battles.step(team.act(battles))
        return battles.units().cooldown.copy()

    assert np.array_equal(cooldowns(1, 0), cooldowns(1, 0))
    assert not np.array_equal(cooldowns(1, 0), cooldowns(2, 0))
    assert not np.array_equal(cooldowns(1, 0), cooldowns(1, 1))


def test_after_a_battle_the_next_one_begins_at_once():
    battles = BattleVector("3m", 3, seed=5)
    battles.reset()
    first = battles.observations.copy()
    team = ScriptedTeam("nearest", battles)
    for _ in range(battles.episode_limit):
        before = battles.battle_number.copy()
        battles.step(team.act(battles))
        ended = battles.terminated.copy()
        team.reset_finished(ended)
        assert np.array_equal(battles.battle_number, before + 3 * ended)
        assert np.array_equal(battles.battle_step == 0, ended)
        for b in np.flatnonzero(ended):
            fresh = BattleVector("3m", 1, seed=5, first_battle=int(battles.battle_number[b]))
            fresh.reset()
            assert np.array_equal(battles.observations[b], fresh.observations[0])
            assert np.array_equal(battles.state[b], fresh.state[0])
            assert battles.alive[b].all() and (battles.last_actions[b] == -1).all()
            survivors = battles.final_units().alive[b]
            assert battles.battle_won[b] == (survivors[:3].any() and not survivors[3:].any())
            assert np.array_equal(battles.final_observations[b].any(axis=1), survivors[:3])
            assert battles.dead_allies[b] == 3 - survivors[:3].sum()
            assert battles.dead_enemies[b] == 3 - survivors[3:].sum()
            assert not np.array_equal(battles.final_observations[b], first[b])
        if ended.all():
            break
    assert (battles.battle_number >= 3).any()


def test_paused_battles_stay_as_they_are():
    battles = BattleVector("2s3z", 4)
    battles.reset()
    team = ScriptedTeam("random", battles)
    for _ in range(5):
        battles.step(team.act(battles))
    before = battles.snapshot()
    running = np.array([True, False, True, False])
    battles.step(team.act(battles), running)
    after = battles.snapshot()
    assert battles.rewards[~running].tolist() == [0.0, 0.0]
    for name in ("units", "flags", "observations", "action_mask", "state", "steps", "loop", "last_actions"):
        assert np.array_equal(after[name][~running], before[name][~running])
        assert name == "action_mask" or not np.array_equal(after[name][running], before[name][running])


@settings(max_examples=10, deadline=None)
@given(map_name=st.sampled_from(map_names()), seed=st.integers(0, 99), steps=st.integers(0, 60))
def test_restoring_a_snapshot_goes_on_bit_for_bit(map_name, seed, steps):
    battles = BattleVector(map_name, 2, seed)
    battles.reset()
    team = ScriptedTeam("random", battles)
    for _ in range(steps):
        battles.step(team.act(battles))
    kept = battles.snapshot()
    other = BattleVector(map_name, 2, seed)
    other.restore(kept)
    for _ in range(20):
        actions = team.act(battles)
        assert np.array_equal(actions, team.act(other))
        battles.step(actions)
        other.step(actions)
    for name, array in battles.snapshot().items():
        assert np.array_equal(array, other.snapshot()[name]), name


def test_a_snapshot_of_other_battles_is_refused_and_nothing_changes():
    battles = BattleVector("3m", 2)
    battles.reset()
    before = battles.snapshot()
    foreign = BattleVector("8m", 2)
    foreign.reset()
    with pytest.raises(ValueError, match="does not fit 2 battles on '3m'.*observations"):
        battles.restore(foreign.snapshot())
    assert all(np.array_equal(array, before[name]) for name, array in battles.snapshot().items())


def test_unavailable_actions_are_refused_before_anything_is_played():
    battles = BattleVector("3m", 2, first_battle=10)
    battles.reset()
    before = battles.snapshot()
    actions = np.ones((2, 3), np.int64)
    for bad in (0, 6, 99, -1):
        actions[1, 2] = bad
        with pytest.raises(ValueError, match=rf"column 1 \(battle 11\), agent 2: action {bad} is not available"):
            battles.step(actions)
    battles.step(actions, running=[True, False])  # ignored where the battle is paused
    actions[1, 2] = 1
    assert np.array_equal(battles.snapshot()["units"][1], before["units"][1])
    battles.step(actions)


def test_read_only_and_narrow_actions_are_played_like_any_others():
    usual, other = BattleVector("3m", 2, seed=4), BattleVector("3m", 2, seed=4)
    for battles in (usual, other):
        battles.reset()
    for step in range(40):
        actions = np.argmax(usual.action_mask, axis=-1)
        unusual = actions.astype(np.int8) if step % 2 else np.broadcast_to(actions, actions.shape)
        usual.step(actions)
        other.step(unusual)
        np.testing.assert_array_equal(other.observations, usual.observations)
        np.testing.assert_array_equal(other.rewards, usual.rewards)
    assert len(step_battles.signatures) == 1  # another would take half a minute to compile


def test_wrong_calls_say_what_was_expected():
    battles = BattleVector("3m", 2)
    with pytest.raises(RuntimeError, match="reset"):
        battles.step(np.ones((2, 3), np.int64))
    battles.reset()
    with pytest.raises(ValueError, match=r"actions have shape \(3,\); expected .* \(2, 3\)"):
        battles.step(np.ones(3, np.int64))
    with pytest.raises(TypeError, match="float64; expected integers"):
        battles.step(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"running has shape \(3,\)"):
        battles.step(np.ones((2, 3), np.int64), running=[True] * 3)
    with pytest.raises(ValueError, match="num_battles is 0"):
        BattleVector("3m", 0)
    with pytest.raises(ValueError, match="first_battle is -1"):
        BattleVector("3m", 1, first_battle=-1)
    with pytest.raises(TypeError, match="reward_sparse"):
        BattleVector("3m", 1, reward_spars=True)
    with pytest.raises(ValueError, match="read-only"):
        battles.observations[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        battles.units().x[0] = 0.0


def test_an_unknown_map_names_the_nearest():
    with pytest.raises(UnknownMapError, match="3s_vs_5z"):
        BattleVector("3s_vs_5zz", 1)


def test_the_time_limit_truncates_only_when_the_episode_continues():
    for continuing in (False, True):
        battles = BattleVector("2m_vs_1z", 1, continuing_episode=continuing)
        battles.reset()
        kept = battles.snapshot()
        kept["steps"][:] = battles.episode_limit - 1
        battles.restore(kept)
        battles.step([[1, 1]])
        assert battles.timed_out[0] and not battles.battle_won[0]
        assert battles.terminated[0] == (not continuing)
        assert battles.truncated[0] == continuing
        assert battles.battle_number[0] == 1


def test_step_mul_sets_the_loops_per_step():
    short, usual = BattleVector("3m", 1, step_mul=2), BattleVector("3m", 1)
    short.reset()
    usual.reset()
    for _ in range(4):
        short.step([[1, 1, 1]])
    usual.step([[1, 1, 1]])
    assert np.array_equal(short.units().x, usual.units().x)


def test_numbers_of_numpy_mean_the_same_battles() -> None:
    plain, numpy = BattleVector("3m", 2, 3), BattleVector("3m", 2, np.int64(3))
    plain.reset(seed=4, first_battle=5)
    numpy.reset(seed=np.int64(4), first_battle=np.int32(5))
    assert numpy.battle_number.tolist() == plain.battle_number.tolist() == [5, 6]
    assert np.array_equal(numpy.units().x, plain.units().x)
