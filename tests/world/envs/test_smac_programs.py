"""Programs written against SMAC's documented interface run on ours after one changed import.

The episode runner does what PyMARL's does with an environment, the script what SMAC's own example of random agents
does; both know nothing of this package but the name that they import.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dm2_ray.world import SMACEnv as StarCraft2Env

# What PyMARL's sc2.yaml passes.
ENV_ARGS = dict(
    continuing_episode=False, difficulty="7", game_version=None, move_amount=2, obs_all_health=True,
    obs_instead_of_state=False, obs_last_action=False, obs_own_health=True, obs_pathing_grid=False,
    obs_terrain_height=False, obs_timestep_number=False, reward_death_value=10, reward_defeat=0,
    reward_negative_scale=0.5, reward_only_positive=True, reward_scale=True, reward_scale_rate=20,
    reward_sparse=False, reward_win=200, replay_dir="", replay_prefix="", state_last_action=True,
    state_timestep_number=False, step_mul=8, seed=None, heuristic_ai=False, heuristic_rest=False, debug=False,
)  # fmt: skip


class EpisodeBatch:
    """Arrays of one episode whose shapes come from get_env_info() alone: what does not fit is an error."""

    def __init__(self, scheme: dict[str, tuple[tuple[int, ...], type]], length: int) -> None:
        self.data = {name: np.zeros((length, *shape), dtype) for name, (shape, dtype) in scheme.items()}
        self.data["filled"] = np.zeros(length, int)

    def update(self, values: dict, t: int) -> None:
        self.data["filled"][t] = 1
        for name, value in values.items():
            self.data[name][t] = np.array(value).reshape(self.data[name].shape[1:])


class RandomController:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def select_actions(self, batch: EpisodeBatch, t_ep: int) -> np.ndarray:
        avail = batch.data["avail_actions"][t_ep]
        return np.array([[self.rng.choice(np.flatnonzero(row)) for row in avail]])


class EpisodeRunner:
    """One environment, one episode at a time."""

    def __init__(self, env_args: dict, controller: RandomController) -> None:
        self.env = StarCraft2Env(**env_args)
        self.episode_limit = self.env.episode_limit
        self.controller = controller
        self.t = 0
        self.train_returns, self.train_stats = [], {}
        info = self.get_env_info()
        agents = (info["n_agents"],)
        self.scheme = {
            "state": ((info["state_shape"],), np.float32),
            "obs": ((*agents, info["obs_shape"]), np.float32),
            "actions": ((*agents, 1), np.int64),
            "avail_actions": ((*agents, info["n_actions"]), np.int32),
            "reward": ((1,), np.float32),
            "terminated": ((1,), np.uint8),
        }

    def get_env_info(self) -> dict:
        return self.env.get_env_info()

    def save_replay(self) -> None:
        self.env.save_replay()

    def close_env(self) -> None:
        self.env.close()

    def run(self) -> EpisodeBatch:
        batch = EpisodeBatch(self.scheme, self.episode_limit + 1)
        self.env.reset()
        self.t, terminated, episode_return = 0, False, 0
        while not terminated:
            batch.update(self.before(), self.t)
            actions = self.controller.select_actions(batch, t_ep=self.t)
            reward, terminated, env_info = self.env.step(actions[0])
            episode_return += reward
            # A battle cut by the time limit is not over as far as the value of its last state is concerned.
            is_over = terminated != env_info.get("episode_limit", False)
            batch.update({"actions": actions, "reward": [(reward,)], "terminated": [(is_over,)]}, self.t)
            self.t += 1
        batch.update(self.before(), self.t)
        batch.update({"actions": self.controller.select_actions(batch, t_ep=self.t)}, self.t)
        for name, value in {**env_info, "n_episodes": 1, "ep_length": self.t}.items():
            self.train_stats[name] = self.train_stats.get(name, 0) + value
        self.train_returns.append(episode_return)
        return batch

    def before(self) -> dict:
        return {
            "state": [self.env.get_state()],
            "avail_actions": [self.env.get_avail_actions()],
            "obs": [self.env.get_obs()],
        }


PROGRAMS = [
    ("3m", {}),
    ("2s3z", {"obs_last_action": True, "state_timestep_number": True}),
    ("MMM", {"obs_instead_of_state": True}),
    ("2m_vs_1z", {"reward_sparse": True, "obs_pathing_grid": True, "obs_terrain_height": True}),
    ("corridor", {"state_last_action": False, "obs_all_health": False, "obs_own_health": False}),
    ("so_many_baneling", {"reward_only_positive": False, "reward_scale": False}),
    ("bane_vs_bane", {"heuristic_ai": True}),
]


@pytest.mark.parametrize(("map_name", "switches"), PROGRAMS)
def test_an_episode_runner(map_name: str, switches: dict, tmp_path: Path) -> None:
    arguments = {**ENV_ARGS, **switches, "map_name": map_name, "seed": 5, "replay_dir": str(tmp_path)}
    runner = EpisodeRunner(arguments, RandomController(0))
    batches = [runner.run() for _ in range(3)]
    stats = runner.env.get_stats()
    assert stats["battles_game"] == runner.train_stats["n_episodes"] == 3
    assert stats["battles_won"] == runner.train_stats["battle_won"]
    assert stats["win_rate"] == stats["battles_won"] / 3
    for batch, episode_return in zip(batches, runner.train_returns, strict=True):
        length = int(batch.data["filled"].sum()) - 1
        assert batch.data["terminated"].ravel().nonzero()[0].tolist() == [length - 1]
        assert batch.data["reward"].sum() == pytest.approx(episode_return, rel=1e-4, abs=1e-4)
        assert np.isfinite(batch.data["obs"]).all()
    runner.save_replay()
    assert len(list(tmp_path.glob("*.html"))) == 1
    runner.close_env()


def test_with_the_heuristic_the_runner_stores_what_was_played() -> None:
    runner = EpisodeRunner({**ENV_ARGS, "map_name": "3m", "heuristic_ai": True}, RandomController(0))
    batch = runner.run()
    length = int(batch.data["filled"].sum()) - 1
    alive = batch.data["avail_actions"][:length, :, 0] == 0
    assert (batch.data["actions"][:length, :, 0][alive] >= 6).all()


@pytest.mark.parametrize("map_name", ["8m", "3s_vs_5z", "1c3s5z"])
def test_a_script_of_random_agents(map_name: str) -> None:
    env = StarCraft2Env(map_name=map_name)
    env_info = env.get_env_info()
    n_actions, n_agents = env_info["n_actions"], env_info["n_agents"]
    for _ in range(2):
        env.reset()
        terminated, episode_reward = False, 0
        while not terminated:
            obs, state, capacity = env.get_obs(), env.get_state(), env.get_total_actions()
            assert (len(obs), len(obs[0]), len(state)) == (n_agents, env_info["obs_shape"], env_info["state_shape"])
            assert capacity == n_actions
            actions = []
            for agent_id in range(n_agents):
                avail_actions = env.get_avail_agent_actions(agent_id)
                avail_actions_ind = np.nonzero(avail_actions)[0]
                actions.append(np.random.choice(avail_actions_ind))
            reward, terminated, _ = env.step(actions)
            episode_reward += reward
        assert 0 <= episode_reward < 25
    env.close()
