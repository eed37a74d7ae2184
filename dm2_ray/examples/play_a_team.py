"""A trained team acts from Python, without Ray and without the `dm2` command.

What it shows: `dm2_ray.load_team`, in one PettingZoo battle and in many battles side by side.

How to run it:

    python -m dm2_ray.examples.play_a_team zoo:3m/ippo-1.0

or with a run directory or a checkpoint of your own instead of a team of the package.
"""

from __future__ import annotations

import argparse

import numpy as np

import dm2_ray
from dm2_ray.world import parallel_env


def play_one_battle(name: str, seed: int = 0) -> float:
    """The team's return in one battle of the PettingZoo environment."""
    team = dm2_ray.load_team(name)
    env = parallel_env(team.map_name, seed=seed)
    observations, _ = env.reset(seed=seed)
    total = 0.0
    while env.agents:
        observations, rewards, *_ = env.step(team.act_by_agent(observations))
        total += max(rewards.values())  # the team's reward, the same for every agent
    return total


def win_rate(name: str, episodes: int = 64, seed: int = 0) -> float:
    """The share of battles won, all of them played side by side."""
    team = dm2_ray.load_team(name)
    battles = team.build_battles(episodes, seed)
    battles.reset()
    running, won = np.ones(episodes, bool), np.zeros(episodes, bool)
    while running.any():
        battles.step(team.act(battles.observations, battles.action_mask), running)
        ended = (battles.terminated | battles.truncated) & running
        won |= battles.battle_won & ended
        team.reset_finished(ended)
        running &= ~ended
    return float(won.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="A trained team plays")
    parser.add_argument("team", help="zoo:MAP/NAME (see `dm2 zoo list`), a run directory or a checkpoint")
    name = parser.parse_args().team
    print(f"one battle: return {play_one_battle(name):.2f}")
    print(f"64 battles: win rate {win_rate(name):.2f}")


if __name__ == "__main__":
    main()
