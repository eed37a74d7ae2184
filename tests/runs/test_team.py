"""A trained team that acts from Python plays exactly what `dm2 evaluate` plays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tiny_runs import train

import dm2_ray
from dm2_ray.checkpoints import CheckpointError
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.runs.evaluation import TeamResult, evaluate_checkpoint
from dm2_ray.world import parallel_env

EPISODES, SEED = 8, 4


@pytest.fixture(scope="module", params=["ippo", "mappo"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "run"
    assert train(path, "--iterations", 2, variant=request.param) == 0
    return path


def played(team: dm2_ray.Team) -> TeamResult:
    """Plays the evaluation's battles side by side, each to its end."""
    battles = team.build_battles(EPISODES, SEED)
    battles.reset(seed=derive_seed(SEED, StreamRole.EVALUATION_BATTLES, 0), first_battle=0)
    running, lengths, returns, won = np.ones(EPISODES, bool), np.zeros(EPISODES), np.zeros(EPISODES), np.zeros(EPISODES)
    while running.any():
        battles.step(team.act(battles.observations, battles.action_mask), running)
        returns += battles.rewards
        lengths += running
        ended = (battles.terminated | battles.truncated) & running
        won[ended] = battles.battle_won[ended]
        team.reset_finished(ended)
        running &= ~ended
    return TeamResult(
        episodes=EPISODES,
        win_rate=float(won.mean()),
        win_rate_interval=(0.0, 1.0),
        return_mean=float(returns.mean()),
        episode_length_mean=float(lengths.mean()),
    )


@pytest.mark.parametrize("greedy", [True, False])
def test_a_team_plays_the_battles_of_the_evaluation(run: Path, greedy: bool) -> None:
    seed = derive_seed(SEED, StreamRole.EVALUATION_ACTIONS, 0)
    team = dm2_ray.load_team(run, greedy=greedy, seed=seed)
    expected = evaluate_checkpoint(team.checkpoint, episodes=EPISODES, seed=SEED, greedy=greedy)
    for _ in range(2):  # the second time after a reset
        result = played(team)
        assert (result.win_rate, result.return_mean, result.episode_length_mean) == (
            expected.win_rate,
            expected.return_mean,
            expected.episode_length_mean,
        )
        team.reset(seed=seed)


def test_one_battle_of_the_petting_zoo_environment(run: Path) -> None:
    team = dm2_ray.load_team(str(run))
    assert (team.map_name, team.num_agents, team.agent_ids) == ("2m_vs_1z", 2, ("agent_0", "agent_1"))
    env = parallel_env(team.map_name, seed=0)
    observations, _ = env.reset(seed=0)
    assert tuple(env.possible_agents) == team.agent_ids
    views = [observations[agent] for agent in team.agent_ids]
    arrays = [np.stack([view[name] for view in views]) for name in ("observation", "action_mask")]
    actions = team.act(*arrays)
    assert actions.shape == (2,) and actions.dtype == np.int64
    team.reset()
    assert list(team.act_by_agent(observations).values()) == actions.tolist()
    alone = team.act_by_agent({"agent_1": observations["agent_1"]})  # agent_0 is dead
    assert alone.keys() == {"agent_1"}


def test_memory_is_kept_per_battle_until_it_is_reset(run: Path) -> None:
    team = dm2_ray.load_team(run)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(5, 3, 2, team.obs_size)).astype(np.float32)
    mask = np.ones((3, 2, team.num_actions), bool)
    before = [team.act(step, mask) for step in observations]
    team.reset_finished(np.array([False, True, False]))
    after = [team.act(step, mask) for step in observations]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[1], new[1])
    team.reset()
    alone = [team.act(step[0], mask[0]) for step in observations]
    for old, new in zip(before, alone, strict=True):
        np.testing.assert_array_equal(old[0], new)


def test_wrong_shapes_and_paths_are_refused(run: Path, tmp_path: Path) -> None:
    team = dm2_ray.load_team(run, best=False)
    observations, mask = np.zeros((2, team.obs_size)), np.ones((2, team.num_actions))
    with pytest.raises(ValueError, match=rf"observations must be \[2, {team.obs_size}\], found \[2, 3\] \(2m_vs_1z"):
        team.act(observations[:, :3], mask)
    with pytest.raises(ValueError, match=r"action_mask must be \[2, \d+\], found \[2, 1\]"):
        team.act(observations, mask[:, :1])
    with pytest.raises(ValueError, match="must allow every agent at least one action"):
        team.act(observations, 0 * mask)
    team.act(observations, mask)
    with pytest.raises(ValueError, match="expected 1 battles, found 4"):
        team.act(np.stack([observations] * 4), np.stack([mask] * 4))
    with pytest.raises(ValueError, match=r"finished must be \[1\] bool, found \[2\]"):
        team.reset_finished(np.zeros(2, bool))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        dm2_ray.load_team(tmp_path / "nothing")


def test_loading_and_acting_do_not_start_ray(run: Path) -> None:
    code = (
        "import sys, ray, numpy, dm2_ray;"
        "team = dm2_ray.load_team(sys.argv[1]);"
        "team.act(numpy.zeros((2, team.obs_size)), numpy.ones((2, team.num_actions)));"
        "assert not ray.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
