"""Where demonstrations come from: sets read once, teams that play live, the team's own best battles."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.checkpoints import save_checkpoint
from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations import AgentDemonstration, DemonstrationError
from dm2_ray.demonstrations.best_episodes import discounted_returns
from dm2_ray.distributed.demonstration_sources.checks import check_experts
from dm2_ray.distributed.demonstration_sources.factory import build_source
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource, StoredDemonstrations
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.files import file_sha256
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.recording.recorder import record
from dm2_ray.world import BattleVector
from dm2_ray.world.configured import ConfiguredWorld

pytestmark = pytest.mark.usefixtures("local_ray")

MAP = "2m_vs_1z"
AGENTS = 2


def experiment(**demonstrations: Any) -> Experiment:
    settings = {"expert_actors": 0, "episodes_per_draw": 4, **demonstrations}
    return (
        DM2Config().dm2(world={"map": MAP}, matching={"coefficient": 0.3}, seed=3, demonstrations=settings).experiment
    )


@contextmanager
def started(asked: Experiment) -> Iterator[DemonstrationSource]:
    experts = build_source(asked)
    try:
        experts.wait_until_ready()
        yield experts
    finally:
        experts.shutdown()


def drawn(experts: DemonstrationSource, iteration: int, trajectories: Any = ()) -> list[AgentDemonstration]:
    return [ray.get(x) if isinstance(x, ray.ObjectRef) else x for x in experts.draw(iteration, trajectories)]


def assert_same(left: list[AgentDemonstration], right: list[AgentDemonstration]) -> None:
    assert len(left) == len(right) == AGENTS
    for a, b in zip(left, right, strict=True):
        assert a.agent_index == b.agent_index
        for name in ("observations", "actions", "action_mask", "alive", "episode_lengths", "episode_ids"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> list[str]:
    """Checkpoints of two teams that have hardly learnt."""
    found = []
    for seed in range(2):
        config = DM2Config().dm2(
            seed=seed,
            world={"map": MAP},
            rollout={"env_runners": 0, "battles_per_env_runner": 4, "env_steps": 64},
            policy={"hidden_size": 8 + seed},
            ppo={"epochs": 1},
            learners={"processes": "driver"},
        )
        algorithm = config.build_algo()
        algorithm.train()
        root = tmp_path_factory.mktemp(f"team-{seed}") / "checkpoints"
        save_checkpoint(root, config.experiment, algorithm.learning_state(), sizes=config.run_spec.sizes, win_rate=None)
        algorithm.stop()
        found.append(str(root.parent))
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("stored") / "set"
    record("scripted:kite", map_name=MAP, episodes=12, out=out, greedy=True, seed=0)
    return str(out)


# Stored sets.


def test_a_set_is_read_once_and_never_again(stored: str, tmp_path: Path) -> None:
    """What was read lies in shared memory. When the set is gone, every process still draws from it, one that has just
    been restarted too."""
    shutil.copytree(stored, tmp_path / "set")
    copied = experiment(path=f"{tmp_path}/set", expert_actors=2)
    with started(experiment(path=stored)) as here, started(copied) as apart:
        shutil.rmtree(tmp_path / "set")
        for process in apart.actors:
            episodes = apart._episodes[0]
            is_writable = process.__ray_call__.remote(lambda _, found: found.actions.flags.writeable, episodes)
            assert not ray.get(is_writable)
        for iteration in range(2):
            assert_same(drawn(here, iteration), drawn(apart, iteration))
        for process in apart.actors:
            ray.kill(process, no_restart=False)
        for iteration in range(2, 4):
            assert_same(drawn(here, iteration), drawn(apart, iteration))


# Live experts.


def test_live_battles_are_the_joint_battles_they_claim_to_be(teams: list[str]) -> None:
    """Played again from seed and actions alone, they show what the slices say."""
    with started(experiment(source="live", path=teams[0])) as experts:
        slices = drawn(experts, 5)
        report = experts.report()
    assert [found.agent_index for found in slices] == [0, 1]
    assert report["episodes"] == 4
    battles = BattleVector(MAP, 1, seed=derive_seed(3, StreamRole.EXPERT_BATTLES, 5, 0))
    row = won = 0
    total = 0.0
    for number, length in enumerate(slices[0].episode_lengths):
        battles.reset(first_battle=number)
        for step in range(length):
            for agent, found in enumerate(slices):
                np.testing.assert_array_equal(battles.observations[0, agent], found.observations[row])
                np.testing.assert_array_equal(battles.action_mask[0, agent], found.action_mask[row])
                assert battles.alive[0, agent] == found.alive[row]
            battles.step(np.array([[found.actions[row] for found in slices]]))
            total += battles.rewards[0]
            row += 1
            assert bool(battles.terminated[0]) == (step == length - 1)
        won += int(battles.battle_won[0])
    assert row == slices[0].num_steps
    assert report["win_rate"] == won / 4
    assert report["return_mean"] == pytest.approx(total / 4)


def test_live_draws_are_the_same_in_driver_and_processes(teams: list[str]) -> None:
    asked = {"source": "live", "paths_per_agent": (teams[0], "scripted:kite"), "sampling": "non_concurrent"}
    shown: set[int] = set()
    with started(experiment(**asked)) as here, started(experiment(**asked, expert_actors=1)) as apart:
        for iteration in (0, 1, 5):
            found = drawn(here, iteration)
            assert_same(found, drawn(apart, iteration))
            for demonstration in found:
                assert not shown & set(demonstration.episode_ids.tolist())  # neither two agents nor two iterations
                shown |= set(demonstration.episode_ids.tolist())
    assert len(shown) == 3 * 2 * 4


def test_concurrent_live_draws_are_of_the_same_battles(teams: list[str]) -> None:
    for named in ({"path": teams[1]}, {"paths_per_agent": (teams[0], "scripted:kite")}):
        with started(experiment(source="live", **named)) as experts:
            draws = [[found.episode_ids.tolist() for found in drawn(experts, iteration)] for iteration in (0, 1)]
        assert all(of_agent_0 == of_agent_1 for of_agent_0, of_agent_1 in draws)
        assert not set(draws[0][0]) & set(draws[1][0])


def test_non_concurrent_live_battles_are_other_battles(teams: list[str]) -> None:
    with started(experiment(source="live", path=teams[0], sampling="non_concurrent")) as experts:
        first, second = drawn(experts, 0)
    with started(experiment(source="live", path=teams[0], episodes_per_draw=8)) as experts:
        everything = drawn(experts, 0)
    assert_same([first, everything[1]], [everything[0].select(np.arange(4)), everything[1]])
    np.testing.assert_array_equal(second.observations, everything[1].select(np.arange(4, 8)).observations)


def test_independent_live_agents_imitate_their_own_team(teams: list[str]) -> None:
    independent = experiment(source="live", paths_per_agent=(teams[0], "scripted:kite"))
    with started(independent) as experts:
        first, second = drawn(experts, 0)
    with started(experiment(source="live", path=teams[0])) as experts:
        learnt = drawn(experts, 0)
    np.testing.assert_array_equal(first.observations, learnt[0].observations)
    # The other one's is what the script does where it plays: its greedy rule has no other randomness than the battles'.
    battles = BattleVector(MAP, 1, seed=derive_seed(3, StreamRole.EXPERT_BATTLES, 0, 1))
    battles.reset(first_battle=0)
    np.testing.assert_array_equal(second.observations[0], battles.observations[0, 1])


def test_live_experts_play_greedily_where_asked(teams: list[str]) -> None:
    with started(experiment(source="live", path=teams[0], live_greedy=True)) as experts:
        greedy = drawn(experts, 0)
    with started(experiment(source="live", path=teams[0])) as experts:
        sampled = drawn(experts, 0)
    assert any(not np.array_equal(a.actions, b.actions) for a, b in zip(greedy, sampled, strict=True))


# Self-imitation.


def battles_of_iteration(iteration: int, rollouts: int = 2) -> list[list[AgentTrajectory]]:
    """Element [i][r] is agent i's part of rollout r; an observation says (agent, iteration, episode of iteration)."""
    rng = np.random.default_rng(iteration)
    lengths = [rng.integers(1, 5, rng.integers(1, 4)) for _ in range(rollouts)]
    rewards = [rng.integers(0, 3, own.sum()).astype(np.float32) for own in lengths]
    first = np.cumsum([0, *map(len, lengths)])

    def part(agent: int, rollout: int) -> AgentTrajectory:
        steps = int(lengths[rollout].sum())
        episodes = np.repeat(first[rollout] + np.arange(len(lengths[rollout])), lengths[rollout])
        return AgentTrajectory(
            observations=np.stack([np.full(steps, agent), np.full(steps, iteration), episodes], 1).astype(np.float32),
            action_mask=np.ones((steps, 3), bool),
            actions=rng.integers(0, 3, steps),
            behavior_logp=np.zeros(steps, np.float32),
            rewards=rewards[rollout],
            alive=np.ones(steps, bool),
            episode_lengths=lengths[rollout],
            terminated=np.ones(len(lengths[rollout]), bool),
            final_observations=np.zeros((len(lengths[rollout]), 3), np.float32),
            policy_version=iteration,
        )

    return [[part(agent, rollout) for rollout in range(rollouts)] for agent in range(AGENTS)]


def test_self_imitation_shows_all_agents_the_best_joint_battles_so_far() -> None:
    asked = experiment(source="self_imitation", store_episodes=5, episodes_per_draw=5)
    everything: list[tuple[float, int, int]] = []
    with started(asked) as experts:
        for iteration in range(6):
            own = battles_of_iteration(iteration)
            episode = 0
            for part in own[0]:
                for score in discounted_returns(part.rewards, part.episode_lengths, asked.ppo.gamma):
                    everything.append((float(score), iteration, episode))
                    episode += 1
            best = sorted(everything, reverse=True)[:5]
            slices = drawn(experts, iteration, own)
            shown = []
            for agent, found in enumerate(slices):
                assert set(found.observations[:, 0]) == {agent}
                firsts = np.cumsum(found.episode_lengths) - found.episode_lengths
                shown.append([(int(k), int(e)) for _, k, e in found.observations[firsts]])
                assert found.episode_ids.tolist() == [k * 2**32 + e for k, e in shown[-1]]
            assert shown[0] == shown[1]
            assert set(shown[0]) == {(k, e) for _, k, e in best}
            scores = [score for score, *_ in best]
            assert experts.report() == {
                "episodes": len(best),
                "episodes_new": sum(k == iteration for _, k, _ in best),
                "score_lowest": min(scores),
                "score_mean": pytest.approx(np.mean(scores)),
            }


def test_self_imitation_is_the_same_in_processes_and_when_battles_are_played_again() -> None:
    asked = {"source": "self_imitation", "store_episodes": 3}
    with started(experiment(**asked)) as here, started(experiment(**asked, expert_actors=2)) as apart:
        for iteration in range(4):
            own = battles_of_iteration(iteration)
            references = [[ray.put(part) for part in parts] for parts in own]
            expected = drawn(here, iteration, own)
            assert_same(expected, drawn(apart, iteration, references))
            assert_same(expected, drawn(apart, iteration, references))  # as after a loss of rollouts
            assert here.report() == apart.report()
        state, same = here.state(), apart.state()
        assert state is not None and same is not None
        for agent in ("agent_0", "agent_1"):
            for name, value in state[agent].items():
                np.testing.assert_array_equal(value, same[agent][name])


def test_too_few_own_battles_for_disjoint_draws_are_refused() -> None:
    one = [[parts[0].select(np.array([0]))] for parts in battles_of_iteration(0)]
    with started(experiment(source="self_imitation", sampling="non_concurrent")) as experts:
        with pytest.raises(DemonstrationError, match="best own battles after iteration 0: .* needs 2 episodes"):
            experts.draw(0, one)


# What is refused before anything starts.


def rename_map(run: Path, name: str) -> None:
    """The checkpoint says that it was trained on another map, with hashes that fit."""
    (checkpoint,) = (run / "checkpoints").iterdir()
    file, manifest = checkpoint / "experiment.yaml", checkpoint / "manifest.json"
    file.write_text(file.read_text().replace(f"map: {MAP}", f"map: {name}"))
    content = json.loads(manifest.read_text())
    content["sha256"]["experiment.yaml"] = file_sha256(file)
    manifest.write_text(json.dumps({**content, "map": name}))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"source": "live", "path": "{tmp}/nowhere"}, "live expert: .*nowhere: no such checkpoint"),
        ({"source": "live", "path": "scripted:clever"}, "unknown scripted team 'clever'; known teams: random, nearest"),
        ({"source": "live", "paths_per_agent": ("scripted:kite",)}, "names 1 teams, this run has 2 agents"),
        ({"source": "live", "path": "{other}"}, "was trained with map_name 3m, but this run has 2m_vs_1z"),
        ({"source": "live", "path": "{damaged}"}, "agent_0.pt was altered"),
        ({"source": "self_imitation", "path": "{tmp}"}, "does not use demonstrations.path"),
        ({"source": "self_imitation", "sampling": "non_concurrent", "store_episodes": 1}, "needs 2 episodes"),
        ({"source": "set", "path": "{tmp}/nowhere"}, "nowhere does not exist"),
        ({"source": "set", "paths_per_agent": ("a", "b", "c")}, "names 3 teams"),
    ],
)
def test_experts_that_cannot_be_are_refused_in_one_line(
    teams: list[str], tmp_path: Path, named: dict[str, Any], words: str
) -> None:
    damaged, other = tmp_path / "damaged", tmp_path / "other"
    shutil.copytree(teams[0], damaged)
    next((damaged / "checkpoints").glob("*/agent_0.pt")).write_bytes(b"x")
    shutil.copytree(teams[0], other)
    rename_map(other, "3m")
    places = {"tmp": tmp_path, "damaged": damaged, "other": other}
    asked = experiment(**{key: v.format(**places) if isinstance(v, str) else v for key, v in named.items()})
    for refusing in (check_experts, build_source):
        with pytest.raises(DemonstrationError, match=words) as refused:
            refusing(asked)
        assert "\n" not in str(refused.value)


def test_processes_that_serve_sets_or_own_battles_load_neither_torch_nor_rllib() -> None:
    package = "dm2_ray.distributed.demonstration_sources"
    imported = f"import sys, {package}.sources, {package}.self_imitation"
    code = f"{imported}; assert not {{'torch', 'ray.rllib'}} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_damaged_set_is_refused_where_it_is_read(stored: str, tmp_path: Path) -> None:
    """A process that finds what the check before could not: one line here as well."""
    copy = tmp_path / "set"
    shutil.copytree(stored, copy)
    asked = experiment(path=str(copy), expert_actors=1)
    next(copy.glob("*.parquet")).write_bytes(b"nothing")
    world = ConfiguredWorld.from_settings(asked.world)
    experts = StoredDemonstrations(asked.demonstrations, world, seed=0, options=ActorOptions())
    with pytest.raises(DemonstrationError, match="is damaged or was altered") as refused:
        experts.wait_until_ready()
    assert "\n" not in str(refused.value)
    experts.shutdown()
