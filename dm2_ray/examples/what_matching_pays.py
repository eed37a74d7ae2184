"""Does matching these demonstrations pay a beginner for fighting, or for running away?

What it shows: an effect that can be measured in a minute, before any training. A team takes random actions, so what an
agent does at a step is independent of everything else, and the mean difference between the matching returns after a
shot and after any other action is an effect of the shot. Where it is negative, a beginner is taught not to shoot.

How to run it:

    python -m dm2_ray.examples.what_matching_pays experts

or with an input or padding of the discriminator: `… experts --input state_action --padding masked`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import get_args

import gymnasium
import numpy as np
import torch

from dm2_ray.config.schema import DiscriminatorSettings, PPOSettings, WorldSettings
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.demonstrations.episode_player import play_joint_episodes
from dm2_ray.demonstrations.joint_episode import JointEpisode, agent_demonstration
from dm2_ray.learning.advantages import generalized_advantages
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.learning.rewards import absorbing_state_weight, add_at_last_step
from dm2_ray.learning.visitation import DISCRIMINATOR_INPUTS, Padding, VisitedRows, discriminator_inputs
from dm2_ray.world import ScriptedTeam
from dm2_ray.world.backends import build_battles
from dm2_ray.world.configured import resolve_world
from dm2_ray.world.smac.rules import FIRST_TARGET


@dataclass(frozen=True)
class Effect:
    """What a shot changes in the discounted return, on average.

    Attributes:
        matching: Of the matching reward, before the coefficient.
        matching_error: Its standard error, over battles.
        team: Of the team's reward.
        team_error: Its standard error.
    """

    matching: float
    matching_error: float
    team: float
    team_error: float


def effects_of_shots(
    path: str, *, kind: str = "state", padding: Padding = "absorbing", battles: int = 200, updates: int = 300
) -> list[Effect]:
    """One effect per agent, for the set at `path` on one of SMAC's maps.

    Args:
        kind: The discriminator's input.
        padding: The discriminator's input after a battle's end.
        battles: Battles of the random team, and as many of the demonstrations.
        updates: Gradient steps of each discriminator, with the defaults' other settings.
    """
    demonstrations = JointTrajectories.open(path)
    manifest = demonstrations.manifest
    world = resolve_world(WorldSettings(map=manifest.map, smac=manifest.smac, engine=manifest.engine))
    with closing(build_battles(world, 64, seed=0)) as backend:
        demonstrations.check_world(manifest.map, backend.num_agents, backend.obs_size, backend.num_actions)
        played = list(play_joint_episodes(ScriptedTeam("random", backend, seed=0), backend, battles))
        horizon = backend.episode_limit
    shown = np.arange(min(battles, demonstrations.num_episodes))
    settings = DiscriminatorSettings(input=kind, updates=updates, minibatch_episodes=8)
    return [
        _effect(agent, demonstrations.agent_slice(agent, shown), played, settings, padding, horizon)
        for agent in range(manifest.num_agents)
    ]


def _effect(
    agent: int,
    expert: AgentDemonstration,
    played: Sequence[JointEpisode],
    settings: DiscriminatorSettings,
    padding: Padding,
    horizon: int,
) -> Effect:
    own = agent_demonstration(played, agent, np.arange(len(played)))
    num_actions = own.action_mask.shape[1]

    def rows(side: AgentDemonstration) -> VisitedRows:
        return discriminator_inputs(
            side.observations, side.episode_lengths, padding, horizon,
            kind=settings.input, actions=side.actions, num_actions=num_actions,
        )  # fmt: skip

    discriminator = Discriminator(
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (own.observations.shape[1],)),
        action_space=gymnasium.spaces.Discrete(num_actions),
        model_config={"discriminator": settings.model_dump(), "padding": padding, "seed": agent},
        learner_only=True,
    )
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=settings.lr)
    generator = torch.Generator().manual_seed(agent)
    train_discriminator(discriminator, optimizer, rows(expert), rows(own), generator, owner=f"agent {agent}")

    # The matching reward of form airl: the logit, and after a battle's end the padding state's.
    visited, lengths = rows(own), own.episode_lengths
    with torch.no_grad():
        logits = discriminator.forward_train({"obs": visited.rows})["logits"]
    ended = np.array([episode.num_steps < horizon for episode in played])
    matching = logits[: visited.num_real]
    if visited.has_padding_row:
        weights = absorbing_state_weight(lengths, ended, horizon, PPOSettings().gamma)
        matching = add_at_last_step(matching, logits[-1] * torch.from_numpy(weights), lengths)
    team = torch.from_numpy(np.concatenate([episode.rewards for episode in played]))
    battle = np.repeat(np.arange(len(lengths)), lengths)
    estimates: list[float] = []
    for rewards in (matching.double(), team):
        zeros = torch.zeros(len(lengths), dtype=rewards.dtype)
        _, returns = generalized_advantages(
            rewards, torch.zeros_like(rewards), lengths, torch.from_numpy(ended), zeros, PPOSettings().gamma, 1.0
        )
        estimates += difference_of_returns(returns.numpy(), own.observations, own.actions, own.action_mask, battle)
    return Effect(*estimates)


def difference_of_returns(
    returns: np.ndarray, observations: np.ndarray, actions: np.ndarray, mask: np.ndarray, battle: np.ndarray
) -> tuple[float, float]:
    """Mean return after a shot minus that after other actions, over steps at which both were available, and its error.

    Actions are uniform among the available ones, so steps are weighted by the inverse of that probability. What the
    observation predicts of the return is subtracted first: it is independent of the action, and only adds noise.
    """
    chance = mask[:, FIRST_TARGET:].sum(1) / mask.sum(1)
    both = np.flatnonzero((chance > 0) & (chance < 1))
    seen = observations[both].astype(np.float64)
    predictors = np.column_stack([seen, seen**2, np.ones(len(both))])
    residuals = returns[both] - predictors @ np.linalg.lstsq(predictors, returns[both], rcond=None)[0]
    is_shot, chance = actions[both] >= FIRST_TARGET, chance[both]
    effects = residuals * np.where(is_shot, 1.0 / chance, -1.0 / (1.0 - chance))
    mean = effects.mean()
    # Steps of a battle depend on each other: the error is that of a ratio of sums over battles.
    deviations = np.bincount(battle[both], effects - mean)
    return float(mean), float(np.sqrt(np.square(deviations).sum()) / len(both))


def main() -> None:
    parser = argparse.ArgumentParser(description="Does matching pay a beginner for shooting?")
    parser.add_argument("demonstrations", help="a set recorded with `dm2 demos record`, on one of SMAC's maps")
    parser.add_argument("--input", default="state", choices=list(DISCRIMINATOR_INPUTS))
    parser.add_argument("--padding", default="absorbing", choices=get_args(Padding))
    options = parser.parse_args()
    print("effect of a shot on the discounted return of a team that acts at random, ± standard error")
    effects = effects_of_shots(options.demonstrations, kind=options.input, padding=options.padding)
    for agent, effect in enumerate(effects):
        print(f"agent {agent}: matching {effect.matching:+.2f} ± {effect.matching_error:.2f}, "
              f"team {effect.team:+.2f} ± {effect.team_error:.2f}")  # fmt: skip
    mean = np.mean([effect.matching for effect in effects])
    error = np.sqrt(np.sum([effect.matching_error**2 for effect in effects])) / len(effects)
    print(f"mean: matching {mean:+.2f} ± {error:.2f}")


if __name__ == "__main__":
    main()
