"""Builders shared by the learning tests: small modules and random battles with everything that can occur in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import DiscriminatorSettings, PolicySettings
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.learning.policy import AgentPolicy

OBSERVATION_SIZE, NUM_ACTIONS = 6, 4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def policy_spec() -> Callable[..., RLModuleSpec]:
    def build(*, inference_only: bool = False, seed: int | None = 0, agent_index: int = 1, **settings: Any):
        return RLModuleSpec(
            module_class=AgentPolicy,
            observation_space=gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATION_SIZE,)),
            action_space=gymnasium.spaces.Discrete(NUM_ACTIONS),
            inference_only=inference_only,
            model_config={
                "num_agents": 3,
                "agent_index": agent_index,
                # A large actor gain: with the usual one all actions are equally likely and little can be told apart.
                "policy": PolicySettings(**{"hidden_size": 8, "actor_gain": 1.0, **settings}).model_dump(),
                "seed": seed,
            },
        )

    return build


@pytest.fixture
def policy(policy_spec: Callable[..., RLModuleSpec]) -> Callable[..., AgentPolicy]:
    return lambda **settings: policy_spec(**settings).build()


@pytest.fixture
def discriminator() -> Callable[..., Discriminator]:
    def build(
        *,
        observation_size: int = OBSERVATION_SIZE,
        num_actions: int = NUM_ACTIONS,
        action_space: gymnasium.Space | None = None,
        padding: str = "masked",
        seed: int | None = 0,
        **settings,
    ):
        return RLModuleSpec(
            module_class=Discriminator,
            observation_space=gymnasium.spaces.Box(-1.0, 1.0, (observation_size,)),
            action_space=action_space or gymnasium.spaces.Discrete(num_actions),
            learner_only=True,
            model_config={
                "discriminator": DiscriminatorSettings(**settings).model_dump(),
                "padding": padding,
                "seed": seed,
            },
        ).build()

    return build


@pytest.fixture
def battles() -> Callable[..., AgentTrajectory]:
    def build(lengths: Sequence[int], *, seed: int = 0, all_terminated: bool = False) -> AgentTrajectory:
        rng = np.random.default_rng(seed)
        steps = sum(lengths)
        action_mask = rng.random((steps, NUM_ACTIONS)) < 0.6
        actions = rng.integers(NUM_ACTIONS, size=steps)
        action_mask[np.arange(steps), actions] = True
        return AgentTrajectory(
            observations=rng.uniform(-1, 1, (steps, OBSERVATION_SIZE)).astype(np.float32),
            action_mask=action_mask,
            actions=actions,
            behavior_logp=np.log(rng.uniform(0.1, 0.9, steps)).astype(np.float32),
            rewards=rng.normal(size=steps).astype(np.float32),
            alive=rng.random(steps) < 0.8,
            episode_lengths=np.asarray(lengths, dtype=np.int64),
            terminated=np.full(len(lengths), True) if all_terminated else rng.random(len(lengths)) < 0.5,
            final_observations=rng.uniform(-1, 1, (len(lengths), OBSERVATION_SIZE)).astype(np.float32),
            policy_version=seed,
        )

    return build
