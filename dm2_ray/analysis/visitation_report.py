"""Compares a team with its experts: win rates and returns, and where the visitations of their agents differ."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dm2_ray.analysis.joint_divergence import Divergence, JointComparison, measure_joint_divergence
from dm2_ray.analysis.visitation_plots import KnownWorld, draw_differences
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.distributed.process_setup import single_threaded_torch
from dm2_ray.files import write_atomically
from dm2_ray.learning.held_out_test import FEWEST_EPISODES
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.statistics import Estimate, wilson_interval
from dm2_ray.terminal import shorten_path
from dm2_ray.world.configured import ConfiguredWorld
from dm2_ray.world.maps.registry import world_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamSummary:
    """How well one side did; what is not known is None.

    Attributes:
        episodes: Number of battles.
        win_rate: Share of battles won.
        win_rate_low: Lower end of the win rate's 95 % Wilson interval.
        win_rate_high: Upper end of this interval.
        return_mean: Mean return of the team.
        episode_length_mean: Mean number of env steps per battle.
        steps_alive: [N] mean number of env steps per battle at which each agent is alive.
    """

    episodes: int
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    return_mean: float | None
    episode_length_mean: float
    steps_alive: list[float]

    @staticmethod
    def from_rollouts(visits: JointRollouts) -> TeamSummary:
        rate = None if visits.won is None else float(visits.won.mean())
        low, high = (None, None) if rate is None else wilson_interval(rate, visits.num_episodes)
        return TeamSummary(
            episodes=visits.num_episodes,
            win_rate=rate,
            win_rate_low=low,
            win_rate_high=high,
            return_mean=None if visits.returns is None else float(visits.returns.mean()),
            episode_length_mean=float(visits.episode_lengths.mean()),
            steps_alive=[float(own.alive.sum()) / visits.num_episodes for own in visits.agents],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitationReport:
    """The result of a comparison, and the battles that were compared.

    `same_engine` is whether both sides' battles were played by the same engine.
    """

    team_name: str
    experts_path: Path
    same_engine: bool
    world: WorldSettings
    team: JointRollouts
    experts: JointRollouts
    comparison: JointComparison

    def record(self) -> dict[str, Any]:
        """The report as a JSON object, with the names of metrics.jsonl where it has them; what is not known is null."""
        comparison = self.comparison
        return {
            "set": str(self.experts_path),
            "same_engine": self.same_engine,
            "team": asdict(TeamSummary.from_rollouts(self.team)),
            "experts": asdict(TeamSummary.from_rollouts(self.experts)),
            "agents": {
                f"agent_{index}": _divergence_record("divergence_", divergence)
                for index, divergence in enumerate(comparison.agents)
            },
            "joint": {
                **_divergence_record("marginals_", comparison.marginals),
                **_divergence_record("joint_", comparison.joint),
                **_estimate_record("excess", comparison.excess),
                **_divergence_record("team_dependence_", comparison.team_dependence),
                **_divergence_record("expert_dependence_", comparison.expert_dependence),
                "misses_marginals": comparison.misses_marginals,
                "misses_joint": comparison.joint_only_divergence,
            },
        }

    def text(self) -> str:
        """The report as a table for the terminal."""
        comparison, team, experts = (
            self.comparison,
            TeamSummary.from_rollouts(self.team),
            TeamSummary.from_rollouts(self.experts),
        )
        kinds = world_map(self.world.map, self.world.scenario).ally_kinds
        note = "" if self.same_engine else " (their battles were played by another engine than the team's)"
        lines = [
            f"against the experts of {self.experts_path}{note}:",
            f"  {'':<22}{'team':>22}{'experts':>22}",
            f"  {'battles':<22}{team.episodes:>22}{experts.episodes:>22}",
            f"  {'win rate':<22}{_rate(team):>22}{_rate(experts):>22}",
            f"  {'return, mean':<22}{_number(team.return_mean, 2):>22}{_number(experts.return_mean, 2):>22}",
            f"  {'steps a battle, mean':<22}{team.episode_length_mean:>22.1f}{experts.episode_length_mean:>22.1f}",
            "",
            f"  {'':<22}{'steps alive':>16}{'held-out':>22}{'JS divergence':>22}",
            f"  {'':<22}{'team':>8}{'experts':>8}{'accuracy':>22}{'nats, 0 to 0.69':>22}",
        ]
        for index, divergence in enumerate(comparison.agents):
            name = f"agent {index}, {kinds[index].replace('_', ' ')}"
            alive = f"{team.steps_alive[index]:>8.1f}{experts.steps_alive[index]:>8.1f}"
            lines.append(f"  {name:<22}{alive}{_divergence(divergence)}")
        measured: dict[str, Divergence | None] = {
            "all, one by one": comparison.marginals,
            "all, jointly": comparison.joint,
            "dependence, team": comparison.team_dependence,
            "dependence, experts": comparison.expert_dependence,
        }
        lines += [f"  {name:<22}{'':>16}{_divergence(one)}" for name, one in measured.items()]
        lines.append(f"  {'excess of jointly':<22}{'':>38}{_estimate(comparison.excess):>22}")
        return "\n".join([*lines, "", f"  {_verdict(comparison)}"])

    def write(self, directory: Path, agent: int | None = None) -> Path:
        """Writes visitation.json and visitation.png, which shows where the sides differ.

        Args:
            directory: Where to write; created if needed.
            agent: Draw only this agent.

        Returns:
            Path of the picture.

        Raises:
            ConfigError: The directory cannot be written to.
        """
        picture = directory / "visitation.png"
        spec = world_map(self.world.map, self.world.scenario)
        tables = build_tables(spec, SmacOptions.from_arguments(self.world.smac))
        comparison = self.comparison
        measured = {f"agent {index}": divergence for index, divergence in enumerate(comparison.agents)}
        measured |= {"all, one by one": comparison.marginals, "all, jointly": comparison.joint}
        try:
            write_atomically(directory / "visitation.json", json.dumps(self.record(), indent=2).encode() + b"\n")
            draw_differences(
                self.team,
                self.experts,
                picture,
                title=f"{spec.name}: where the team differs from the experts\n"
                f"team: {shorten_path(self.team_name)}, {_side(self.team)}\n"
                f"experts: {shorten_path(str(self.experts_path))}, {_side(self.experts)}",
                world=KnownWorld(spec=spec, tables=tables),
                divergences={name: one.js for name, one in measured.items()},
                agents=None if agent is None else [agent],
            )
        except OSError as error:
            raise ConfigError(f"--out {directory}: cannot be written ({error.strerror or error})") from None
        return picture


def load_experts(path: Path, world: WorldSettings, agent: int | None = None) -> JointTrajectories:
    """Opens a set to compare a team of this world with; the engine may differ.

    Args:
        path: Directory of the set.
        world: The team's world.
        agent: An agent that must exist.

    Raises:
        DemonstrationError: The set cannot be opened, or its map or sizes differ.
        ConfigError: There is no such agent.
    """
    demonstrations, here = JointTrajectories.open(path), ConfiguredWorld.from_settings(world)
    demonstrations.check_world(here.map_name, here.num_agents, here.obs_size, here.num_actions, here.scenario_hash)
    if agent is not None and agent >= here.num_agents:
        raise ConfigError(f"--agent {agent}: the team has agents 0 to {here.num_agents - 1}")
    return demonstrations


def visitation_report(
    team_name: str, team: JointRollouts, demonstrations: JointTrajectories, world: WorldSettings, seed: int
) -> VisitationReport:
    """Compares a team with as many episodes of its experts as the team has played, or with all if there are fewer.

    Args:
        team_name: Shown in the picture.
        team: Battles in `world`.
        demonstrations: Result of `load_experts`.
        world: The team's world.
        seed: Seed of the sampled episodes and the classifiers.

    Raises:
        ConfigError: One side has fewer than four different battles.
    """
    available = demonstrations.num_episodes
    sampled = np.random.default_rng(seed).choice(available, min(team.num_episodes, available), replace=False)
    experts = JointRollouts.from_demonstrations(demonstrations, np.sort(sampled))
    with single_threaded_torch():
        comparison = measure_joint_divergence(team, experts, seed)
    if comparison is None:
        raise ConfigError(
            f"a comparison needs {FEWEST_EPISODES} different battles of each side, got {team.num_episodes} of the "
            f"team and {experts.num_episodes} of the experts (some may be equal): increase --episodes, or record more"
        )
    manifest, here = demonstrations.manifest, ConfiguredWorld.from_settings(world)
    return VisitationReport(
        team_name=team_name,
        experts_path=demonstrations.path,
        same_engine=manifest.backend == here.backend and here.engine_version in (None, manifest.engine_version),
        world=world,
        team=team,
        experts=experts,
        comparison=comparison,
    )


def _verdict(comparison: JointComparison) -> str:
    if comparison.joint_only_divergence:
        if comparison.misses_marginals:
            alone = "some agents also differ from their own experts"
        else:
            alone = "although each agent alone matches its expert"
        return f"The joint distribution is missed: the agents do not act together as the experts do; {alone}."
    if comparison.misses_marginals:
        return "Agents differ from their experts; beyond that, these battles show no joint difference."
    return "These battles cannot tell the team from the experts, neither agent by agent nor jointly."


def _side(visits: JointRollouts) -> str:
    return f"{visits.num_episodes} battles, win rate {_number(TeamSummary.from_rollouts(visits).win_rate, 2)}"


def _rate(side: TeamSummary) -> str:
    if side.win_rate is None:
        return "not recorded"
    return f"{side.win_rate:.3f} [{side.win_rate_low:.3f}, {side.win_rate_high:.3f}]"


def _number(value: float | None, digits: int) -> str:
    return "not recorded" if value is None else f"{value:.{digits}f}"


def _estimate(estimate: Estimate) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    value, low, high = (round(number, 2) + 0.0 for number in (estimate.value, estimate.low, estimate.high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _divergence(divergence: Divergence | None) -> str:
    if divergence is None:
        return f"{'too few battles':>22}"
    return f"{_estimate(divergence.accuracy):>22}{_estimate(divergence.js):>22}"


def _divergence_record(prefix: str, divergence: Divergence | None) -> dict[str, float | None]:
    accuracy, js = (None, None) if divergence is None else (divergence.accuracy, divergence.js)
    return {**_estimate_record(f"{prefix}accuracy", accuracy), **_estimate_record(f"{prefix}js", js)}


def _estimate_record(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
