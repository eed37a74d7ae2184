"""Cloning on real battles: three agents that never meet imitate a script, each from its own slice of its battles."""

from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import PolicySettings, WorldSettings
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.distributed.rollout.battle_collector import BattleCollector, BattleStatistics
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.behavior_cloning import cloning_losses, prepare_cloning_batch
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.learning.ppo_batch import minibatches
from dm2_ray.recording.recorder import record
from dm2_ray.world.backends import build_battles


def untrained(settings: PolicySettings, agents: int, obs_size: int, actions: int) -> list[AgentPolicy]:
    return [
        RLModuleSpec(
            AgentPolicy,
            gym.spaces.Box(-1, 1, (obs_size,)),
            gym.spaces.Discrete(actions),
            model_config={"num_agents": agents, "agent_index": i, "policy": settings.model_dump(), "seed": i},
        ).build()
        for i in range(agents)
    ]


def played(modules: list[AgentPolicy], settings: PolicySettings, *, greedy: bool) -> BattleStatistics:
    with closing(build_battles(WorldSettings(map="3m"), 32, seed=5)) as battles:
        team = StackedPolicies(battles.num_agents, battles.obs_size, battles.num_actions, settings, greedy=greedy)
        team.load([module.state_dict() for module in modules])
        quota = BattleQuota(episodes=64)
        _, statistics = BattleCollector(battles, team).collect_battles(quota, battle_seed=6, action_seed=7, keep=False)
    return statistics


def test_a_cloned_script_fights_where_chance_does_not(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    record("scripted:focus_fire", map_name="3m", episodes=160, out=tmp_path / "set", greedy=True, seed=3)
    demonstrations = JointTrajectories.open(tmp_path / "set")
    settings = PolicySettings(hidden_size=32)
    manifest = demonstrations.manifest
    modules = untrained(settings, manifest.num_agents, manifest.obs_size, manifest.num_actions)
    chance = played(modules, settings, greedy=False)
    generator = torch.Generator().manual_seed(0)
    for agent, module in enumerate(modules):
        optimizer = torch.optim.Adam(module.actor.parameters(), lr=3e-3)
        batch = prepare_cloning_batch(module, demonstrations.agent_slice(agent, np.arange(160)))
        for _ in range(12):
            for columns in minibatches(batch, 4, generator):
                logits = module.forward_train(columns)[Columns.ACTION_DIST_INPUTS]
                losses = cloning_losses(logits, columns["actions"], columns["alive"])
                optimizer.zero_grad(set_to_none=True)
                losses["total_loss"].backward()
                optimizer.step()
        assert losses["cloning_accuracy"] > 0.8
    cloned = played(modules, settings, greedy=True)
    assert chance.won.mean() < 0.05
    assert cloned.won.mean() > 0.05
    assert cloned.returns.mean() > chance.returns.mean() + 6
