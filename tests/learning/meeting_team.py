"""Trains teams in the meeting game with what trains them in battles: one AgentLearner per agent, nothing shared.

    StackedPolicies, BattleCollector ──► one AgentTrajectory per agent ──► AgentLearner i ──► weights i
    draw_episodes ─────────────────────► one AgentDemonstration per agent ─┘

Shapes: T time, P places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from meeting_game import OBS_SIZE, RIGHT, Corridors, MeetingGame, N, P, T, Team, Walk, observe
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.distributed.learners.agent_learner import AgentLearner
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.battle_collector import BattleCollector
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.distributed.run_spec import BattleQuota
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.learning.policy import AgentPolicy

EPISODES = 32
"""Of an iteration."""

SETTINGS: dict[str, dict[str, Any]] = {
    # Without memory and without the last action the observation is all that a policy depends on: it is a table.
    "policy": {
        "network": "mlp",
        "hidden_size": 16,
        "hidden_layers": 1,
        "observe_last_action": False,
        "observe_agent_id": False,
    },
    "ppo": {"lr_actor": 5e-3, "lr_critic": 1e-2, "epochs": 4},
    # The weaker the penalty, the nearer the logit comes to the log-ratio that the theory speaks of.
    "discriminator": {"hidden_size": 16, "lr": 1e-2, "updates": 10, "gradient_penalty": 0.1},
    "matching": {"coefficient": 0.0},
    "learners": {"processes": "driver"},
    "diagnostics": {"divergence_every": 0},
}

TEAM_AND_MATCHING = {"coefficient": 0.3}
MATCHING_ONLY = {"reward": "matching", "coefficient": 1.0}


def meeting_config(**sections: Any) -> DM2Config:
    """An experiment in the meeting game; of the map that `world.map` names nothing is used."""
    config = DM2Config().dm2(**sections)
    spec = config.run_spec
    config.run_spec = replace(
        spec,
        map_spec=replace(spec.map_spec, episode_limit=T),
        agent_ids=spec.agent_ids[:N],
        obs_size=OBS_SIZE,
        num_actions=2,
    )
    return config


def trained_team(
    game: MeetingGame,
    seed: int,
    *experts: Sequence[AgentDemonstration],
    matching: Mapping[str, Any] = TEAM_AND_MATCHING,
    sampling: Literal["concurrent", "non_concurrent"] = "concurrent",
    episodes_per_draw: int = 32,
    iterations: int = 20,
) -> list[Team]:
    """Trains a team; returns the tables of its policies after each iteration.

    Args:
        game: What is played.
        seed: Of everything random.
        *experts: None of them: independent PPO. One recorded team: a joint expert. Two: independent experts, agent i
            imitates agent i of the i-th.
        matching: The experiment's section, where there are experts.
        sampling: How they are drawn from.
        episodes_per_draw: Joint episodes of an iteration.
        iterations: Updates.
    """
    config = meeting_config(seed=seed, **{**SETTINGS, **({"matching": matching} if experts else {})})
    learners = learners_of(config)
    policies = StackedPolicies(N, OBS_SIZE, 2, config.experiment.policy)
    collector = BattleCollector(Corridors(game, EPISODES), policies)
    weights = [learner.admit()[0] for learner in learners]
    history: list[Team] = []
    for iteration in range(iterations):
        policies.load(weights)
        trajectories, _ = collector.collect_battles(
            BattleQuota(episodes=EPISODES),
            battle_seed=0,
            action_seed=derive_seed(seed, StreamRole.TRAINING_ACTIONS, iteration),
            policy_version=iteration,
        )
        demonstrations: list[AgentDemonstration | None] = [None] * N
        if experts:
            sizes = [slices[0].num_episodes for slices in experts]
            drawn = draw_episodes(sizes, N, episodes_per_draw, seed, iteration, sampling)
            demonstrations = [experts[i % len(experts)][i].select(drawn[i]) for i in range(N)]
        weights = [
            learner.train(iteration, demonstration, trajectory)[1]
            for learner, demonstration, trajectory in zip(learners, demonstrations, trajectories, strict=True)
        ]
        one, other = (table_of(learner.module[learner.agent_id]) for learner in learners)
        history.append((one, other))
    return history


def learners_of(config: DM2Config) -> list[AgentLearner]:
    """One learner per agent, each with its own agent's modules and no others."""
    specs = config.get_default_rl_module_spec().rl_module_specs
    learners = []
    for index, agent in enumerate(config.run_spec.agent_ids):
        names = [name for name in (agent, config.run_spec.discriminator_id(agent)) if name in specs]
        learners.append(
            AgentLearner(
                config=config.copy(copy_frozen=False),
                module_spec=MultiRLModuleSpec(rl_module_specs={name: specs[name] for name in names}),
                agent_index=index,
            )
        )
    return learners


def table_of(policy: AgentPolicy) -> Walk:
    """What a memoryless policy does at every time and place."""
    times, places = np.divmod(np.arange(T * P), P)
    batch = {
        Columns.OBS: torch.from_numpy(observe(places, times)),
        "last_actions": torch.full((T * P,), -1),
        "action_mask": torch.ones(T * P, 2, dtype=torch.bool),
    }
    with torch.no_grad():
        logits = policy.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
    return torch.softmax(logits.double(), dim=-1)[:, RIGHT].numpy().reshape(T, P)
