"""Recording real battles on 3m: exactly the requested episodes, complete, and the same when they are played again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dm2_ray.demonstrations import JointTrajectories, JointTrajectoryWriter, Manifest, Provenance
from dm2_ray.demonstrations.episode_player import write_played_episodes
from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.scripted.scripted_team import ScriptedTeam

POLICY = Provenance(kind="scripted", source="focus_fire", greedy=True, seed=4)


def record(path: Path, episodes: int, columns: int, team: str = "focus_fire", **world: object) -> Manifest:
    battles = BattleVector("3m", columns, seed=4, **world)  # type: ignore[arg-type]
    with JointTrajectoryWriter(path) as writer:
        return write_played_episodes(ScriptedTeam(team, battles), battles, episodes, writer, POLICY)


@pytest.mark.parametrize(("episodes", "columns"), [(1, 4), (4, 4), (7, 3)])
def test_exactly_the_requested_episodes_are_recorded(tmp_path: Path, episodes: int, columns: int) -> None:
    manifest = record(tmp_path / "demos", episodes, columns)
    demos = JointTrajectories.open(tmp_path / "demos")
    assert demos.num_episodes == manifest.episodes == episodes
    demos.check_world("3m", 3, 30, 9)


def test_the_set_does_not_depend_on_how_many_battles_run_side_by_side(tmp_path: Path) -> None:
    for columns in (1, 5):
        record(tmp_path / str(columns), 6, columns, team="random")
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "5" / file.name).read_bytes()


def test_recorded_battles_can_be_played_again(tmp_path: Path) -> None:
    """The same seed and the recorded actions give the recorded observations, masks, rewards and outcomes."""
    record(tmp_path / "demos", 5, 2)
    demos = JointTrajectories.open(tmp_path / "demos")
    ids = np.arange(5)
    agents = [demos.agent_slice(agent, ids) for agent in range(3)]
    battles = BattleVector("3m", 1, seed=4)
    battles.reset()
    row = 0
    for number, length in enumerate(demos.episode_lengths):
        team_return = 0.0
        for step in range(length):
            assert battles.battle_number[0] == number
            for agent, demonstration in enumerate(agents):
                np.testing.assert_array_equal(demonstration.observations[row], battles.observations[0, agent])
                np.testing.assert_array_equal(demonstration.action_mask[row], battles.action_mask[0, agent])
                assert demonstration.alive[row] == battles.alive[0, agent]
            battles.step(np.array([[demonstration.actions[row] for demonstration in agents]]))
            team_return += battles.rewards[0]
            assert battles.terminated[0] == (step == length - 1)
            row += 1
        assert demos.returns[number] == pytest.approx(team_return)
        assert demos.battle_won[number] == battles.battle_won[0]
    assert row == demos.manifest.env_steps


def test_the_manifest_names_what_differs_from_the_default_world(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain", 1, 1)
    assert (plain.map, plain.backend, plain.engine, plain.smac) == ("3m", "embedded", {}, {})
    engine = EngineSettings(spawn_jitter=0.5)
    other = record(tmp_path / "other", 1, 1, engine=engine, obs_last_action=True)
    assert (other.engine, other.smac) == ({"spawn_jitter": 0.5}, {"obs_last_action": True})
    assert other.obs_size == 30 + 2 * 9


def test_a_team_is_reset_once_and_notified_of_finished_battles(tmp_path: Path) -> None:
    class Listener:
        """Does nothing until the time limit, and counts its calls."""

        def __init__(self) -> None:
            self.resets = 0
            self.finished = np.zeros(2, np.int64)

        def reset_states(self, battles: BattleVector) -> None:
            self.resets += 1
            np.testing.assert_array_equal(battles.battle_number, [0, 1])

        def act(self, battles: BattleVector) -> npt.NDArray[np.int64]:
            return np.argmax(battles.action_mask, axis=-1)

        def reset_finished(self, finished: npt.NDArray[np.bool_]) -> None:
            self.finished += finished

    team, progress = Listener(), []
    battles = BattleVector("3m", 2)
    with JointTrajectoryWriter(tmp_path / "demos") as writer:
        write_played_episodes(team, battles, 3, writer, POLICY, lambda done, total: progress.append((done, total)))
    assert team.resets == 1
    assert team.finished.tolist() == [2, 1]
    assert progress[-1] == (3, 3)


def test_a_recording_needs_at_least_one_episode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_episodes is 0"):
        record(tmp_path / "demos", 0, 1)
    assert list(tmp_path.iterdir()) == []
