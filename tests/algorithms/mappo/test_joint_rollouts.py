"""The global states that rollouts bring along: the right ones, and nothing else changes for it."""

from contextlib import closing

import numpy as np

from dm2_ray.algorithms.mappo.central_policy import CentralPolicy
from dm2_ray.config.schema import PolicySettings, WorldSettings
from dm2_ray.distributed.rollout.battle_collector import BattleCollector
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.world.backends import build_battles


def collected(smac: dict, *, keep_states: bool) -> tuple[BattleCollector, list[AgentTrajectory]]:
    settings = PolicySettings(hidden_size=8, actor_gain=1.0)
    with closing(build_battles(WorldSettings(map="2m_vs_1z", smac=smac), 4, seed=1)) as battles:
        sizes = (battles.num_agents, battles.obs_size, battles.num_actions)
        weights = CentralPolicy(*sizes, battles.state_size, settings, seed=0).state_dict()
        team = StackedPolicies(*sizes, settings)
        team.load([weights] * battles.num_agents)
        collector = BattleCollector(battles, team, keep_states=keep_states)
        quota = BattleQuota(episodes=11)
        trajectories, _ = collector.collect_battles(quota, battle_seed=2, action_seed=3)
    return collector, trajectories


def test_states_are_those_of_the_steps_they_stand_beside() -> None:
    # With this switch SMAC's state is all agents' observations side by side, so each can be checked against the other.
    collector, trajectories = collected({"obs_instead_of_state": True}, keep_states=True)
    kept = collector.global_states
    assert kept is not None
    side_by_side = np.concatenate([view.observations for view in trajectories], axis=1)
    assert np.array_equal(kept.states, side_by_side)
    final = np.concatenate([view.final_observations for view in trajectories], axis=1)
    assert np.array_equal(kept.final_states, final)
    assert len(np.unique(kept.states, axis=0)) > 50


def test_trajectories_are_the_same_with_and_without_states() -> None:
    plain, without = collected({}, keep_states=False)
    _, beside = collected({}, keep_states=True)
    assert plain.global_states is None
    for one, other in zip(without, beside, strict=True):
        ours, theirs = one.to_arrays(), other.to_arrays()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
