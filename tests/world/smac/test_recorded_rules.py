"""RulesReplay: SMAC's endings and quirks one by one, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from dm2_ray.world import RulesReplay, load_map
from dm2_ray.world.unit_kinds import unit_kind

STOP = 1


def side(kinds: tuple[str, ...], x: float, alive: list[bool] | None = None) -> np.ndarray:
    """Whole units in a column at x; the dead ones as SMAC's recordings have them."""
    rows = np.zeros((len(kinds), 6), dtype=np.float32)
    for i, kind in enumerate(kinds):
        rows[i, :4] = x, 10 + i, unit_kind(kind).health, unit_kind(kind).shield
    if alive is not None:
        rows[~np.array(alive), 2] = 0
    return rows


def end(map_name: str, allies_alive: list[bool], enemies_alive: list[bool], **arguments):
    """One step from two whole sides, far apart, to what is left of them."""
    spec = load_map(map_name)
    replay = RulesReplay(map_name, **arguments)
    replay.reset(side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28))
    actions = [STOP] * spec.num_agents
    *_, reward, terminated, info = replay.step(
        actions, side(spec.ally_kinds, 4, allies_alive), side(spec.enemy_kinds, 28, enemies_alive)
    )
    return reward, terminated, info


def test_perfect_battle_returns_twenty() -> None:
    reward, terminated, info = end("3m", [True] * 3, [False] * 3)
    assert reward == 20.0
    assert terminated
    assert info == {"battle_won": True, "dead_allies": 0, "dead_enemies": 3}


def test_defeat_adds_the_defeat_reward() -> None:
    reward, terminated, info = end("3m", [False] * 3, [True] * 3, reward_defeat=-5, reward_scale=False)
    assert (reward, terminated, info["battle_won"], info["dead_allies"]) == (-5.0, True, False, 3)


def test_both_sides_gone_is_a_draw_without_bonus() -> None:
    reward, terminated, info = end("3m", [False] * 3, [False] * 3, reward_scale=False, reward_defeat=-5)
    assert (reward, terminated, info["battle_won"]) == (3 * (45 + 10), True, False)


def test_both_sides_gone_on_mmm_is_a_defeat() -> None:
    reward, terminated, info = end("MMM", [False] * 10, [False] * 10, reward_sparse=True, reward_scale=False)
    assert (reward, terminated, info["battle_won"]) == (-1.0, True, False)


def test_medivac_alone_has_lost_on_mmm_even_without_enemies() -> None:
    only_medivac = [False] * 9 + [True]
    assert end("MMM", only_medivac, [True] * 10, reward_sparse=True, reward_scale=False)[0] == -1.0
    assert end("MMM", only_medivac, [False] * 10, reward_sparse=True, reward_scale=False)[0] == -1.0


def test_enemy_medivac_alone_is_a_victory_on_mmm() -> None:
    reward, terminated, info = end("MMM", [True] * 10, [False] * 9 + [True], reward_sparse=True, reward_scale=False)
    assert (reward, terminated, info["battle_won"], info["dead_enemies"]) == (1.0, True, True, 9)


def test_sparse_rewards_are_scaled_too() -> None:
    assert end("3m", [True] * 3, [False] * 3, reward_sparse=True)[0] == 1 / (365 / 20)


def test_regeneration_of_enemy_shields_is_rewarded() -> None:
    spec = load_map("3s_vs_5z")
    replay = RulesReplay("3s_vs_5z")
    allies, enemies = side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28)
    enemies[:, 3] = 20
    replay.reset(allies, enemies)
    enemies[:, 3] = 21
    reward = replay.step([STOP] * 3, allies, enemies)[3]
    assert reward == pytest.approx(0.1)


def test_allies_losses_count_only_without_reward_only_positive() -> None:
    dead_agent = [False, True, True]
    assert end("3m", dead_agent, [True] * 3, reward_scale=False)[0] == 0.0
    reward, *_ = end("3m", dead_agent, [True] * 3, reward_scale=False, reward_only_positive=False)
    assert reward == -0.5 * (45 + 10)


def test_death_counts_once() -> None:
    spec = load_map("3m")
    replay = RulesReplay("3m", reward_scale=False)
    allies, enemies = side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28, [False, True, True])
    replay.reset(allies, side(spec.enemy_kinds, 28))
    assert replay.step([STOP] * 3, allies, enemies)[3] == 55.0
    assert replay.step([STOP] * 3, allies, enemies)[3] == 0.0


@pytest.mark.parametrize("continuing", [False, True])
def test_time_limit(continuing: bool) -> None:
    spec = load_map("3m")
    replay = RulesReplay("3m", continuing_episode=continuing, obs_timestep_number=True, state_timestep_number=True)
    allies, enemies = side(spec.ally_kinds, 4, [True, False, True]), side(spec.enemy_kinds, 28)
    replay.reset(allies, enemies)
    for t in range(1, spec.episode_limit + 1):
        obs, state, _, _, terminated, info = replay.step([STOP, 0, STOP], allies, enemies)
        assert terminated == (t == spec.episode_limit)
        assert info.get("episode_limit", False) == (continuing and terminated)
        assert (obs[:, -1] == t / 60).all()  # the dead are told the time too, and in float64
        assert state[-1] == np.float32(t / 60)
    assert obs.dtype == np.float64
    assert (obs[1, :-1] == 0).all()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        replay.step([STOP, 0, STOP], allies, enemies)


def test_medivac_shows_who_can_be_healed_in_the_enemies_rows() -> None:
    spec = load_map("MMM")
    replay = RulesReplay("MMM")
    allies, enemies = side(spec.ally_kinds, 10), side(spec.enemy_kinds, 12)
    obs, _, avail = replay.reset(allies, enemies)
    medivac, tables = 9, replay.tables
    enemy_rows = obs[medivac, tables.enemies_at : tables.allies_at].reshape(10, tables.enemy_width)
    in_reach = [abs((10 + i) - 19) <= 6 and i != medivac for i in range(10)]
    np.testing.assert_array_equal(avail[medivac, 6:], in_reach)
    seen = [(2**2 + (19 - (10 + j)) ** 2) ** 0.5 < 9 for j in range(10)]
    np.testing.assert_array_equal(enemy_rows[:, 0], np.logical_and(in_reach, seen))


def test_truncation_lets_a_unit_at_the_west_edge_walk_west_but_not_east_at_the_other() -> None:
    spec = load_map("3s_vs_3z")
    replay = RulesReplay("3s_vs_3z")
    allies = side(spec.ally_kinds, 4)
    allies[:, 0] = 0.4, 1.0, 31.0
    _, _, avail = replay.reset(allies, side(spec.enemy_kinds, 28))
    np.testing.assert_array_equal(avail[:, 5], [1, 1, 1])
    np.testing.assert_array_equal(avail[:, 4], [1, 1, 0])


def test_battles_follow_one_another_on_one_object() -> None:
    spec = load_map("3m")
    replay = RulesReplay("3m")
    first = replay.reset(side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28))
    replay.step([2, STOP, STOP], side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28, [False, True, True]))
    again = replay.reset(side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_refuses_what_does_not_fit() -> None:
    spec = load_map("3m")
    replay = RulesReplay("3m")
    allies, enemies = side(spec.ally_kinds, 4), side(spec.enemy_kinds, 28)
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        replay.step([STOP] * 3, allies, enemies)
    with pytest.raises(ValueError, match="allies have shape"):
        replay.reset(allies[:2], enemies)
    replay.reset(allies, enemies)
    with pytest.raises(ValueError, match=r"agent 1 cannot take action 6; available: \[1, 2"):
        replay.step([STOP, 6, STOP], allies, enemies)
    with pytest.raises(ValueError, match="actions have shape"):
        replay.step([STOP], allies, enemies)
