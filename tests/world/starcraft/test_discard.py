"""Battles that are lost with their game are in no trajectory, no statistics, no demonstration set."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from dm2_ray.config.schema import PolicySettings
from dm2_ray.demonstrations import JointTrajectories, JointTrajectoryWriter, Provenance
from dm2_ray.demonstrations.episode_player import write_played_episodes
from dm2_ray.distributed.rollout.battle_collector import BattleCollector
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.world import BattleVector, ScriptedTeam

pytestmark = pytest.mark.cli


def finished_battles(installation) -> list[tuple[int, int]]:
    """(random_seed, number) of the battles that ended in some game, in the order of the games' launches.

    Every battle that was followed by another in the same game had come to its end.
    """
    found = []
    for pid in installation.launches():
        messages = installation.messages(pid)
        (create,) = [m.create_game for m in messages if m.HasField("create_game")]
        found += [(create.random_seed, number) for number in range(sum(m.HasField("debug") for m in messages))]
    return found


def policies_for(vector) -> StackedPolicies:
    """A team that knows nothing."""
    torch.manual_seed(0)
    settings = PolicySettings(hidden_size=8)
    policies = StackedPolicies(vector.num_agents, vector.obs_size, vector.num_actions, settings)
    modules = [
        AgentPolicy(
            observation_space=gym.spaces.Box(-1, 1, (vector.obs_size,)),
            action_space=gym.spaces.Discrete(vector.num_actions),
            model_config={"num_agents": vector.num_agents, "agent_index": agent, "policy": settings.model_dump()},
        )
        for agent in range(vector.num_agents)
    ]
    policies.load([module.state_dict() for module in modules])
    return policies


def assert_whole_battles(battles, lengths, returns, won, agents) -> None:
    """What was kept of `battles` is what they are on the embedded engine that the games had inside.

    Args:
        agents: per agent something with the columns observations, action_mask, actions, rewards, episodes end to end.
    """
    row = 0
    for (seed, number), length, value, is_won in zip(battles, lengths, returns, won, strict=True):
        twin = BattleVector("3m", 1, seed, first_battle=number)
        twin.reset()
        total = 0.0
        for step in range(length):
            for agent, kept in enumerate(agents):
                assert np.array_equal(kept.observations[row], twin.observations[0, agent])
                assert np.array_equal(kept.action_mask[row], twin.action_mask[0, agent])
            twin.step(np.array([[kept.actions[row] for kept in agents]]))
            total += twin.rewards[0]
            assert bool(twin.terminated[0]) == (step == length - 1)
            row += 1
        assert np.isclose(value, total, rtol=0, atol=1e-9) and bool(twin.battle_won[0]) == is_won


def test_collected_battles_are_whole_ones(installation, open_vector) -> None:
    installation.command("crash_after_steps", 35)  # every game, amid its second battle
    vector = open_vector("3m", 1)
    collector = BattleCollector(vector, policies_for(vector))
    trajectories, statistics = collector.collect_battles(BattleQuota(env_steps=40), battle_seed=1, action_seed=2)
    assert statistics.dropped == vector.crash_restarts >= 1
    assert statistics.env_steps >= 40 and statistics.env_steps == len(trajectories[0].observations)
    battles = finished_battles(installation)
    assert len(battles) == statistics.episodes and len({seed for seed, _ in battles}) >= 2
    assert_whole_battles(battles, statistics.lengths, statistics.returns, statistics.won, trajectories)


def test_recorded_battles_are_whole_ones(installation, open_vector, tmp_path: Path) -> None:
    installation.command("crash_after_steps", 35)
    vector = open_vector("3m", 1)
    team = ScriptedTeam("focus_fire", vector)
    provenance = Provenance(kind="scripted", source="focus_fire", greedy=True, seed=0)
    with JointTrajectoryWriter(tmp_path / "set") as writer:
        manifest = write_played_episodes(team, vector, 2, writer, provenance)
    assert vector.crash_restarts >= 1
    assert (manifest.backend, manifest.engine_version, manifest.engine) == ("starcraft", "4.10.0.75689", {})
    found = JointTrajectories.open(tmp_path / "set")
    agents = [found.agent_slice(agent, np.arange(2)) for agent in range(3)]
    assert_whole_battles(finished_battles(installation), found.episode_lengths, found.returns, found.battle_won, agents)
