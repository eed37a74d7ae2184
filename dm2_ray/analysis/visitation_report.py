"""A team beside its experts: how they do, and where what their agents visit differs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dm2_ray.analysis.joint_divergence import Divergence, JointComparison, measure_joint_divergence
from dm2_ray.analysis.visitation_plots import Measured, World, draw_differences, shortened
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.distributed.process_setup import single_threaded_torch
from dm2_ray.files import write_atomically
from dm2_ray.learning.held_out_test import FEWEST_EPISODES
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.statistics import Estimate, wilson_interval
from dm2_ray.world.configured import ConfiguredWorld
from dm2_ray.world.maps.registry import world_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamSummary:
    """How one side did."""

    episodes: int
    win_rate: float | None
    """None where it is not known, as below."""
    win_rate_interval: tuple[float, float] | None
    """95 % Wilson interval."""
    return_mean: float | None
    episode_length_mean: float
    steps_alive: tuple[float, ...]
    """N, mean number of env steps that an agent lives in a battle."""

    @staticmethod
    def of(visits: JointRollouts) -> TeamSummary:
        rate = None if visits.won is None else float(visits.won.mean())
        return TeamSummary(
            episodes=visits.num_episodes,
            win_rate=rate,
            win_rate_interval=None if rate is None else wilson_interval(rate, visits.num_episodes),
            return_mean=None if visits.returns is None else float(visits.returns.mean()),
            episode_length_mean=float(visits.episode_lengths.mean()),
            steps_alive=tuple(float(own.alive.sum()) / visits.num_episodes for own in visits.agents),
        )

    def record(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.win_rate_interval or (None, None)
        return {
            "episodes": self.episodes,
            "win_rate": self.win_rate,
            "win_rate_low": low,
            "win_rate_high": high,
            "return_mean": self.return_mean,
            "episode_length_mean": self.episode_length_mean,
            "steps_alive": list(self.steps_alive),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitationReport:
    """What came of a comparison, and what it was made of."""

    team_name: str
    experts_path: Path
    same_engine: bool
    """Whether the experts' battles were played by the engine that plays the team's."""
    world: WorldSettings
    team: JointRollouts
    experts: JointRollouts
    comparison: JointComparison

    def record(self) -> dict[str, Any]:
        """For JSON: names of metrics.jsonl where it has them, null where something is not known."""
        comparison = self.comparison
        return {
            "set": str(self.experts_path),
            "same_engine": self.same_engine,
            "team": TeamSummary.of(self.team).record(),
            "experts": TeamSummary.of(self.experts).record(),
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
                "joint_only_divergence": comparison.joint_only_divergence,
            },
        }

    def text(self) -> str:
        """The same in lines to read."""
        comparison, team, experts = self.comparison, TeamSummary.of(self.team), TeamSummary.of(self.experts)
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
        """Writes visitation.json, and visitation.png that shows where the sides differ; returns the picture's path.

        Args:
            directory: is made if need be.
            agent: draw only this one.

        Raises:
            ConfigError: it cannot be written to.
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
                f"team: {shortened(self.team_name)}, {_side(self.team)}\n"
                f"experts: {shortened(str(self.experts_path))}, {_side(self.experts)}",
                world=World(spec=spec, tables=tables),
                divergences=[
                    Measured(name=name, value=one.js.value, low=one.js.low, high=one.js.high)
                    for name, one in measured.items()
                ],
                agents=None if agent is None else [agent],
            )
        except OSError as error:
            raise ConfigError(f"--out {directory}: cannot be written ({error.strerror or error})") from None
        return picture


def load_experts(path: Path, world: WorldSettings, agent: int | None = None) -> JointTrajectories:
    """Opens a set that a team of this world can be compared with; the engine may be another.

    Args:
        path: directory of the set.
        world: the team's.
        agent: one that is asked for.

    Raises:
        DemonstrationError: it cannot be opened, or is of another map or of other sizes.
        ConfigError: there is no such agent.
    """
    demonstrations, here = JointTrajectories.open(path), ConfiguredWorld.of(world)
    demonstrations.check_world(here.map_name, here.num_agents, here.obs_size, here.num_actions, here.scenario_hash)
    if agent is not None and agent >= here.num_agents:
        raise ConfigError(f"--agent {agent}: the team has agents 0 to {here.num_agents - 1}")
    return demonstrations


def visitation_report(
    team_name: str, team: JointRollouts, demonstrations: JointTrajectories, world: WorldSettings, seed: int
) -> VisitationReport:
    """Compares a team with as many episodes of its experts as it has played, or all there are.

    Args:
        team_name: for the picture.
        team: battles in `world`.
        demonstrations: from `load_experts`.
        world: the team's.
        seed: of everything that is drawn.

    Raises:
        ConfigError: fewer than four different battles on a side.
    """
    available = demonstrations.num_episodes
    drawn = np.random.default_rng(seed).choice(available, min(team.num_episodes, available), replace=False)
    experts = JointRollouts.from_demonstrations(demonstrations, np.sort(drawn))
    with single_threaded_torch():
        comparison = measure_joint_divergence(team, experts, seed)
    if comparison is None:
        raise ConfigError(
            f"a comparison needs {FEWEST_EPISODES} different battles of each side, got {team.num_episodes} of the "
            f"team and {experts.num_episodes} of the experts, some perhaps equal: give more --episodes, or record more"
        )
    manifest, here = demonstrations.manifest, ConfiguredWorld.of(world)
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
        also = "; agents differ from their experts, too" if comparison.misses_marginals else ", every agent alone fits"
        return f"The joint is missed: what the agents do together is not what the experts do together{also}."
    if comparison.misses_marginals:
        return "Agents differ from their experts; beyond that, the joint adds nothing that these battles show."
    return "These battles cannot tell the team from the experts, neither agent by agent nor jointly."


def _side(visits: JointRollouts) -> str:
    return f"{visits.num_episodes} battles, win rate {_number(TeamSummary.of(visits).win_rate, 2)}"


def _rate(side: TeamSummary) -> str:
    if side.win_rate is None or side.win_rate_interval is None:
        return "not recorded"
    return f"{side.win_rate:.3f} [{side.win_rate_interval[0]:.3f}, {side.win_rate_interval[1]:.3f}]"


def _number(value: float | None, digits: int) -> str:
    return "not recorded" if value is None else f"{value:.{digits}f}"


def _estimate(estimate: Estimate) -> str:
    # No minus before a 0.
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
