"""Which agent gets which battles: sets are served in all four combinations, with data that say whose they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.demonstrations import (
    AgentDemonstration,
    DemonstrationError,
    EpisodeServer,
    JointEpisode,
    JointTrajectoryWriter,
    Provenance,
    RecordedWorld,
)
from dm2_ray.world.configured import ConfiguredWorld

AGENTS, ACTIONS = 3, 5
EPISODES = (9, 7, 12)
"""Sizes of the three teams' sets."""
WORLD = ConfiguredWorld(
    map_name="3m",
    num_agents=AGENTS,
    obs_size=4,
    num_actions=ACTIONS,
    scenario_hash=None,
    backend="embedded",
    engine_version="7",
)

modes = st.sampled_from(("concurrent", "non_concurrent"))
counts, seeds, iterations = st.integers(1, 30), st.integers(0, 2**63 - 1), st.integers(0, 10**6)


def revealing_episode(team: int, number: int) -> JointEpisode:
    """Every observation is (team, agent, episode, step)."""
    length = 1 + (3 * team + number) % 4
    observations = np.zeros((length, AGENTS, 4), np.float32)
    observations[..., 0], observations[..., 2] = team, number
    observations[..., 1] = np.arange(AGENTS)
    observations[..., 3] = np.arange(length)[:, None]
    return JointEpisode(
        observations=observations,
        actions=(observations.sum(-1).astype(np.int64)) % ACTIONS,
        action_mask=np.ones((length, AGENTS, ACTIONS), bool),
        alive=np.ones((length, AGENTS), bool),
        rewards=np.ones(length),
        battle_won=True,
    )


def recorded(path: Path, team: int, episodes: int) -> str:
    world = RecordedWorld(
        map="3m",
        backend="embedded",
        engine_version="7",
        engine={},
        smac={},
        num_agents=AGENTS,
        obs_size=4,
        num_actions=ACTIONS,
    )
    with JointTrajectoryWriter(path) as writer:
        for number in range(episodes):
            writer.append(revealing_episode(team, number))
        writer.finish(world, Provenance(kind="scripted", source=f"team {team}", greedy=True, seed=0))
    return str(path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("sets")
    return [recorded(root / f"team-{team}", team, episodes) for team, episodes in enumerate(EPISODES)]


@pytest.fixture(scope="module")
def wholes(sets: list[str]) -> dict[str, list[AgentDemonstration]]:
    """Returns what `read` returns for one joint set and for independent sets."""
    settings = {"joint": {"path": sets[0]}, "independent": {"paths_per_agent": tuple(sets)}}
    return {
        name: [EpisodeServer(DemonstrationSettings(**named), WORLD, 0).read(agent)[0] for agent in range(AGENTS)]
        for name, named in settings.items()
    }


def drawn(
    wholes: dict[str, list[AgentDemonstration]],
    experts: Literal["joint", "independent"],
    sampling: str,
    k: int,
    seed: int,
    iteration: int,
) -> list[AgentDemonstration]:
    settings = DemonstrationSettings(sampling=sampling, episodes_per_draw=k)  # type: ignore[arg-type]
    *slices, report = EpisodeServer(settings, WORLD, seed).draw(iteration, *wholes[experts])
    assert report == {}
    return slices


def assert_is(found: AgentDemonstration, agent: int, team: int) -> None:
    """Checks that the slice is that of `agent`, from the battles of `team` that its ids name."""
    expected = [revealing_episode(team, int(number)) for number in found.episode_ids]
    assert found.agent_index == agent
    assert found.episode_lengths.tolist() == [episode.num_steps for episode in expected]
    for name in ("observations", "actions", "action_mask", "alive"):
        rows = np.concatenate([getattr(episode, name)[:, agent] for episode in expected])
        np.testing.assert_array_equal(getattr(found, name), rows)
    assert set(found.observations[:, 0]) == {team} and set(found.observations[:, 1]) == {agent}


experts_kinds = st.sampled_from(("joint", "independent"))


@given(experts_kinds, modes, counts, seeds, iterations)
def test_an_agent_gets_its_part_of_the_joint_team_or_of_its_own_team(
    wholes: dict, experts: Any, sampling: str, k: int, seed: int, iteration: int
) -> None:
    for agent, found in enumerate(drawn(wholes, experts, sampling, k, seed, iteration)):
        assert found.num_episodes == k
        assert_is(found, agent, team=0 if experts == "joint" else agent)


@given(experts_kinds, counts, seeds, iterations)
def test_concurrent_is_the_same_battles_and_non_concurrent_disjoint_ones(
    wholes: dict, experts: Any, k: int, seed: int, iteration: int
) -> None:
    ids = [found.episode_ids.tolist() for found in drawn(wholes, experts, "concurrent", k, seed, iteration)]
    assert ids.count(ids[0]) == AGENTS
    owners = [set(found.episode_ids) for found in drawn(wholes, experts, "non_concurrent", k, seed, iteration)]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_a_draw_is_pinned(wholes: dict) -> None:
    ids = [found.episode_ids.tolist() for found in drawn(wholes, "independent", "non_concurrent", 3, 11, 2)]
    assert ids == [[5, 2, 5], [0, 1, 1], [6, 4, 6]]


def test_selected_episodes_are_copies_in_the_order_asked_for(wholes: dict) -> None:
    whole = wholes["joint"][1]
    selected = whole.select(np.array([5, 0, 5]))
    assert selected.episode_ids.tolist() == [5, 0, 5]
    assert_is(selected, agent=1, team=0)
    selected.observations[:] = -1
    assert (whole.observations >= 0).all()
    for places in ([], [EPISODES[0]], [-1]):
        with pytest.raises(IndexError, match="places must be 0 to 8"):
            whole.select(np.array(places, np.int64))


def test_a_set_is_read_agent_by_agent(sets: list[str]) -> None:
    expert = EpisodeServer(DemonstrationSettings(paths_per_agent=tuple(sets)), WORLD, 0)
    for agent in (2, 0, 1):
        whole, count = expert.read(agent)
        assert count == EPISODES[agent]
        assert_is(whole, agent, team=agent)


@pytest.mark.parametrize(
    ("named", "world", "words"),
    [
        ({}, {}, "demonstrations.path is not set"),
        ({"path": "{0}", "paths_per_agent": ("{0}", "{1}", "{2}")}, {}, "are both given"),
        ({"paths_per_agent": ("{0}", "{1}")}, {}, "names 2 teams, this run has 3 agents"),
        ({"path": "{0}"}, {"map_name": "8m"}, "map 3m, here map is 8m"),
        ({"path": "{0}"}, {"num_agents": 5}, "num_agents 3, here num_agents is 5"),
        ({"path": "{0}"}, {"obs_size": 30}, "obs_size 4, here obs_size is 30"),
        ({"path": "{0}"}, {"engine_version": "8"}, "version 7"),
        ({"path": "{0}", "other_engine": True}, {"engine_version": "8"}, None),
        ({"path": "{few}"}, {}, None),
        ({"path": "{few}", "sampling": "non_concurrent"}, {}, "few: sampling non_concurrent for 3 agents needs 3"),
        ({"paths_per_agent": ("{0}", "{1}", "{few}"), "sampling": "non_concurrent"}, {}, "few: sampling"),
        ({"paths_per_agent": ("{0}", "{1}", "{damaged}")}, {}, "damaged or was altered"),
        ({"path": "{0}/nowhere"}, {}, "does not exist"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    sets: list[str], tmp_path: Path, named: dict[str, Any], world: dict[str, Any], words: str | None
) -> None:
    few, damaged = recorded(tmp_path / "few", 0, 2), recorded(tmp_path / "damaged", 0, 3)
    shard = Path(damaged) / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])

    def place(text: Any) -> Any:
        if isinstance(text, tuple):
            return tuple(map(place, text))
        return text.format(*sets, few=few, damaged=damaged) if isinstance(text, str) else text

    settings = DemonstrationSettings(**{key: place(value) for key, value in named.items()})
    expert = EpisodeServer(settings, replace(WORLD, **world), 0)
    if words is None:
        expert.read(0)
        return
    with pytest.raises(DemonstrationError, match=words) as refused:
        expert.read(0)
    assert "\n" not in str(refused.value)


@pytest.mark.cli
def test_serving_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, dm2_ray.demonstrations.episode_server; assert not {'torch', 'ray'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
