"""The pieces together, with plain Adam, on two tiny worlds that cannot be solved if one of them is wrong."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import MatchingSettings, PolicySettings, PPOSettings
from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.learning.policy import AgentPolicy, policy_parameter_groups
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.ppo_batch import learning_rewards, minibatches, prepare_policy_batch
from dm2_ray.learning.visitation import discriminator_inputs

pytestmark = pytest.mark.slow


class MemoryWorld:
    """A cue is seen in the first step only; the action of the last step must name it. Battles last 3 to 6 steps."""

    observation_size, num_actions, limit = 4, 2, 6

    def reset(self, count: int, rng: np.random.Generator) -> None:
        self.cues = rng.integers(2, size=count)
        self.lengths = rng.integers(3, 7, size=count)

    def observe(self, t: int) -> np.ndarray:
        cue = np.eye(2)[self.cues] * (t == 0)
        last = (self.lengths == t + 1)[:, None]
        return np.concatenate([cue, last, ~last], axis=1).astype(np.float32)

    def step(self, t: int, actions: np.ndarray) -> np.ndarray:
        return ((self.lengths == t + 1) & (actions == self.cues)).astype(np.float32)


class CorridorWorld:
    """Seven places in a row, start in the middle, left or right; no reward of its own."""

    observation_size, num_actions, limit = 7, 2, 8

    def reset(self, count: int, rng: np.random.Generator) -> None:
        self.places = np.full(count, 3)
        self.lengths = np.full(count, self.limit)

    def observe(self, t: int) -> np.ndarray:
        return np.eye(7, dtype=np.float32)[self.places]

    def step(self, t: int, actions: np.ndarray) -> np.ndarray:
        self.places = np.clip(self.places + 2 * actions - 1, 0, 6)
        return np.zeros(len(actions), dtype=np.float32)


def play(world, module, count, rng, generator) -> AgentTrajectory:
    world.reset(count, rng)
    last_actions, state = torch.full((count,), -1), {}
    steps: dict[str, list[np.ndarray]] = {name: [] for name in ("observations", "actions", "behavior_logp", "rewards")}
    for t in range(world.limit):
        observations = world.observe(t)
        batch = {
            Columns.OBS: torch.from_numpy(observations),
            "last_actions": last_actions,
            "action_mask": torch.ones(count, world.num_actions, dtype=torch.bool),
            **state,
        }
        output = module.forward_exploration(batch)
        logp = torch.log_softmax(output[Columns.ACTION_DIST_INPUTS], -1)
        last_actions = torch.multinomial(logp.exp(), 1, generator=generator).squeeze(-1)
        state = {Columns.STATE_IN: output[Columns.STATE_OUT]} if Columns.STATE_OUT in output else {}
        steps["observations"].append(observations)
        steps["actions"].append(last_actions.numpy())
        steps["behavior_logp"].append(logp.gather(-1, last_actions[:, None]).squeeze(-1).numpy())
        steps["rewards"].append(world.step(t, last_actions.numpy()))
    lived = np.arange(world.limit) < world.lengths[:, None]
    flat = {name: np.stack(columns, axis=1)[lived] for name, columns in steps.items()}
    return AgentTrajectory(
        **flat,
        action_mask=np.ones((lived.sum(), world.num_actions), dtype=bool),
        alive=np.ones(lived.sum(), dtype=bool),
        episode_lengths=world.lengths.astype(np.int64),
        terminated=np.ones(count, dtype=bool),
        final_observations=np.zeros((count, world.observation_size), dtype=np.float32),
        policy_version=0,
    )


class Learner:
    def __init__(self, world, ppo: PPOSettings, **policy) -> None:
        self.ppo = ppo
        self.module = RLModuleSpec(
            module_class=AgentPolicy,
            observation_space=gymnasium.spaces.Box(0.0, 1.0, (world.observation_size,)),
            action_space=gymnasium.spaces.Discrete(world.num_actions),
            model_config={
                "num_agents": 1,
                "agent_index": 0,
                "policy": PolicySettings(hidden_size=16, **policy).model_dump(),
                "seed": 0,
            },
        ).build()
        groups = policy_parameter_groups(self.module)
        rates = {"actor": ppo.lr_actor, "critic": ppo.lr_critic}
        self.optimizer = torch.optim.Adam(
            [{"params": parameters, "lr": rates[name]} for name, parameters in groups.items()], eps=ppo.adam_eps
        )
        self.generator = torch.Generator().manual_seed(0)

    def learn(self, trajectory, rewards) -> None:
        prepared = prepare_policy_batch(self.module, trajectory, rewards, self.ppo)
        for _ in range(self.ppo.epochs):
            for batch in minibatches(prepared, self.ppo.minibatches, self.generator):
                output = self.module.forward_train(batch)
                losses = ppo_losses(
                    output[Columns.ACTION_DIST_INPUTS], output["values"], PPOBatch.from_columns(batch), self.ppo
                )
                self.optimizer.zero_grad()
                losses["total_loss"].backward()
                for parameters in policy_parameter_groups(self.module).values():
                    torch.nn.utils.clip_grad_norm_(parameters, self.ppo.max_grad_norm)
                self.optimizer.step()


def success_in_memory_world(**policy) -> float:
    """Mean return of the last iterations; guessing earns 0.5."""
    world, rng = MemoryWorld(), np.random.default_rng(0)
    learner = Learner(
        world,
        PPOSettings(lr_actor=3e-3, lr_critic=3e-3, epochs=5, minibatches=2),
        observe_last_action=False,
        **policy,
    )
    returns = []
    for _ in range(60):
        trajectory = play(world, learner.module, 64, rng, learner.generator)
        learner.learn(trajectory, trajectory.rewards)
        returns.append(trajectory.rewards.sum() / trajectory.num_episodes)
    return float(np.mean(returns[-5:]))


def test_a_recurrent_policy_learns_to_remember():
    assert success_in_memory_world(network="gru") > 0.95


def test_a_policy_without_memory_cannot():
    assert success_in_memory_world(network="mlp") < 0.65


def test_matching_alone_takes_the_agent_where_its_expert_goes(discriminator):
    world, rng = CorridorWorld(), np.random.default_rng(0)
    learner = Learner(world, PPOSettings(lr_actor=3e-3, lr_critic=3e-3, epochs=5), network="mlp")
    module = discriminator(observation_size=7, updates=10, minibatch_episodes=16)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    # The expert walks to the right end and stays: 3, 4, 5, 6, 6, ...
    places = np.tile(np.minimum(3 + np.arange(world.limit), 6), 20)
    expert = discriminator_inputs(np.eye(7)[places], np.full(20, world.limit), "masked", world.limit)
    settings = MatchingSettings(coefficient=0.3)
    seen = []
    for _ in range(30):
        trajectory = play(world, learner.module, 64, rng, learner.generator)
        agent = discriminator_inputs(trajectory.observations, trajectory.episode_lengths, "masked", world.limit)
        train_discriminator(module, optimizer, expert, agent, learner.generator, owner="me")
        rewards, _ = learning_rewards(trajectory, module, agent, settings, world.limit, learner.ppo.gamma)
        learner.learn(trajectory, rewards)
        seen.append(float((trajectory.observations @ np.arange(7)).mean()))
    assert abs(seen[0] - 3) < 0.3
    assert np.mean(seen[-5:]) > places.mean() - 0.5
