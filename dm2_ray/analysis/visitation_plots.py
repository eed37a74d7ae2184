"""Two pictures of visitations: what a team's agents see and do, and where a team differs from its experts.

Shapes: E episodes, T time bins, A actions, C x C cells around an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm

from dm2_ray.analysis.visitation_figure import DARK, AgentPanels, HeaderPanel, Scale, TimeSeries, VisitationFigure
from dm2_ray.analysis.visitation_maps import (
    AgentVisits,
    NeighborHistogram,
    action_names,
    agent_visits,
    log_ratio,
    time_bins,
)
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.statistics import Estimate
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules_tables import RulesTables

TEAM_COLOR = "#c2410c"
EXPERT_COLOR = "#5b21b6"
_RUNNING_COLOR = "#e4e4e7"
_MIN_ACTIONS = 10
"""With fewer actions of the living agent in a time bin, their shares are not drawn."""
_TEAM_OVER_EXPERTS = LinearSegmentedColormap.from_list(
    "team over experts", (EXPERT_COLOR, "#a78bfa", "#fafafa", "#fb923c", TEAM_COLOR)
)

TeamColors = Sequence[tuple[JointRollouts, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownWorld:
    """What is known about the world in which the battles were played.

    Attributes:
        spec: The map, if it is known.
        tables: Tables of the world; None if the meaning of the observation features is not known.
    """

    spec: MapSpec | None
    tables: RulesTables | None

    def heading(self, agent: int) -> str:
        return f"agent {agent}" + (f", {self.spec.ally_kinds[agent].replace('_', ' ')}" if self.spec else "")

    def actions(self, agent: int, num_actions: int) -> list[str]:
        if self.spec is None:
            return [f"action {number}" for number in range(num_actions)]
        return action_names(self.spec, agent, num_actions)


def draw_team(
    visits: JointRollouts, path: Path, *, title: str, world: KnownWorld, agents: Sequence[int] | None = None
) -> None:
    """Draws what a team's battles contain, agent by agent.

    Args:
        visits: The battles.
        path: File to write; its suffix names the format.
        title: The first line is drawn large, the others small.
        world: What is known about the battles' world.
        agents: The agents to draw; None draws all.
    """
    shown = range(visits.num_agents) if agents is None else agents
    steps_per_bin, num_bins = time_bins(visits)
    drawn = [agent_visits(visits, agent, world.tables, steps_per_bin, num_bins) for agent in shown]
    panels = [
        AgentPanels(
            heading=world.heading(agent),
            enemies=None if one.enemies is None else one.enemies.density,
            allies=None if one.allies is None else one.allies.density,
            actions=_known_shares(one),
            action_names=world.actions(agent, visits.num_actions),
            survival=(
                TimeSeries(
                    values=one.running, label="share of battles still running", color=_RUNNING_COLOR, filled=True
                ),
                TimeSeries(values=one.alive, label="... with the agent alive", color=DARK),
            ),
        )
        for agent, one in zip(shown, drawn, strict=True)
    ]
    VisitationFigure(
        title=title,
        header=_team_panels([(visits, DARK)]),
        enemies=_density_scale([one.enemies for one in drawn], "Reds", "enemies in sight per unit of area"),
        allies=_density_scale([one.allies for one in drawn], "Blues", "allies in sight per unit of area"),
        actions=Scale(
            colors=colormaps["Greens"],
            norm=PowerNorm(0.5, 0.0, 1.0),
            label="share of the living agent's actions",
            ticks=(0, 0.1, 0.5, 1),
            tick_labels=("0", "0.1", "0.5", "1"),
        ),
        agents=panels,
        duration=steps_per_bin * num_bins,
    ).save(path)


def draw_differences(
    team: JointRollouts,
    experts: JointRollouts,
    path: Path,
    *,
    title: str,
    world: KnownWorld,
    divergences: dict[str, Estimate],
    agents: Sequence[int] | None = None,
) -> None:
    """Draws where a team's visitation differs from its experts'.

    Args:
        team: Battles of the team.
        experts: Battles of the experts in the same world.
        path: As for `draw_team`.
        title: As for `draw_team`.
        world: As for `draw_team`.
        divergences: Jensen-Shannon divergences in nats by name, from the first agent's to the joint one.
        agents: As for `draw_team`.
    """
    shown = range(team.num_agents) if agents is None else agents
    steps_per_bin, num_bins = time_bins(team, experts)
    pairs = [
        tuple(agent_visits(visits, agent, world.tables, steps_per_bin, num_bins) for visits in (team, experts))
        for agent in shown
    ]
    shares = [_known_shares(own) - _known_shares(expert) for own, expert in pairs]
    panels = [
        AgentPanels(
            heading=world.heading(agent),
            enemies=_ratio(own.enemies, expert.enemies),
            allies=_ratio(own.allies, expert.allies),
            actions=difference,
            action_names=world.actions(agent, team.num_actions),
            survival=(
                TimeSeries(
                    values=expert.running, label="experts' battles still running", color=EXPERT_COLOR, style=":"
                ),
                TimeSeries(values=own.running, label="team's battles still running", color=TEAM_COLOR, style=":"),
                TimeSeries(values=expert.alive, label="... with the experts' agent alive", color=EXPERT_COLOR),
                TimeSeries(values=own.alive, label="... with the team's agent alive", color=TEAM_COLOR),
            ),
        )
        for agent, (own, expert), difference in zip(shown, pairs, shares, strict=True)
    ]
    divergence = HeaderPanel(
        title="divergence from the experts", width=1.2, draw=partial(_draw_divergences, divergences=divergences)
    )
    VisitationFigure(
        title=title,
        header=[divergence, *_team_panels([(experts, EXPERT_COLOR), (team, TEAM_COLOR)])],
        enemies=_ratio_scale("enemies in sight: team / experts"),
        allies=_ratio_scale("allies in sight: team / experts"),
        actions=_difference_scale(shares),
        agents=panels,
        duration=steps_per_bin * num_bins,
    ).save(path)


def _known_shares(one: AgentVisits) -> npt.NDArray[np.float64]:
    """[T, A]"""
    return np.where(one.action_counts.sum(1, keepdims=True) < _MIN_ACTIONS, np.nan, one.action_shares)


def _ratio(own: NeighborHistogram | None, expert: NeighborHistogram | None) -> npt.NDArray[np.float64] | None:
    return None if own is None or expert is None else log_ratio(own, expert)


# Scales.


def _density_scale(found: Sequence[NeighborHistogram | None], colors: str, label: str) -> Scale:
    # A few cells, such as those of the starting formation, are far above all others.
    top = max((float(np.quantile(one.density, 0.995)) for one in found if one is not None), default=0.0)
    unit = 10.0 ** np.floor(np.log10(max(top, 1e-3)))
    top = float(np.ceil(top / unit) * unit) or unit
    ticks = (0.0, top / 16, top / 4, top)
    norm = PowerNorm(0.5, 0.0, top, clip=True)
    return Scale(
        colors=colormaps[colors], norm=norm, label=label, ticks=ticks, tick_labels=[f"{tick:.2g}" for tick in ticks]
    )


def _ratio_scale(label: str) -> Scale:
    """Scale of log2 ratios."""
    ticks, names = range(-3, 4), ("1/8", "1/4", "1/2", "1", "2", "4", "8")
    return Scale(colors=_TEAM_OVER_EXPERTS, norm=Normalize(-3, 3), label=label, ticks=ticks, tick_labels=names)


def _difference_scale(shares: Sequence[npt.NDArray[np.float64]]) -> Scale:
    known = np.abs(np.concatenate([share[np.isfinite(share)] for share in shares] + [np.zeros(1)]))
    top = min(1.0, max(0.1, float(np.ceil(10 * np.quantile(known, 0.99)) / 10)))
    ticks = [top * part for part in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    return Scale(
        colors=_TEAM_OVER_EXPERTS, norm=Normalize(-top, top),
        label="share of the living agent's actions: team - experts",
        ticks=ticks, tick_labels=[f"{tick:+.2g}" if tick else "0" for tick in ticks],
    )  # fmt: skip


# The header.


def _team_panels(teams: TeamColors) -> list[HeaderPanel]:
    returns = [(visits.returns, color) for visits, color in teams]
    lengths = [(visits.episode_lengths.astype(float), color) for visits, color in teams]
    return [
        HeaderPanel(title="returns", draw=partial(_draw_histogram, series=returns, label="undiscounted, of the team")),
        HeaderPanel(title="battle lengths", draw=partial(_draw_histogram, series=lengths, label="env steps")),
        HeaderPanel(title="agents alive, mean", draw=partial(_draw_living, teams=teams)),
    ]


def _draw_living(axes: Axes, teams: TeamColors) -> None:
    for visits, color in teams:
        counts = sum(np.bincount(visits.steps[own.alive], minlength=visits.steps.max() + 1) for own in visits.agents)
        axes.plot(counts / np.bincount(visits.steps), color=color, linewidth=1.8)
    axes.set_ylim(0, teams[0][0].num_agents * 1.05)
    axes.set_xlim(left=0)
    axes.set_xlabel("env step, over battles still running", size=8.5, color=DARK)


def _draw_histogram(axes: Axes, series: Sequence[tuple[npt.NDArray[np.float64] | None, str]], label: str) -> None:
    known = [(values, color) for values, color in series if values is not None]
    if not known:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", size=9, color=DARK, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xlabel(f"{label} (dashed: mean)", size=8.5, color=DARK)
    axes.set_ylabel("share of battles", size=8.5, color=DARK)
    together = np.concatenate([values for values, _ in known])
    low, high = float(together.min()), float(together.max())
    edges = np.linspace(low, high if high > low else low + 1.0, 31)
    for values, color in known:
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=color, alpha=0.3)
        axes.stairs(shares, edges, color=color, linewidth=1.2)
        axes.axvline(float(values.mean()), color=color, linestyle="--", linewidth=1.2)
    axes.set_ylim(bottom=0)


def _draw_divergences(axes: Axes, divergences: dict[str, Estimate]) -> None:
    places, estimates = np.arange(len(divergences)), divergences.values()
    reach = np.array([(one.value - one.low, one.high - one.value) for one in estimates]).T
    values = [one.value for one in estimates]
    axes.errorbar(values, places, xerr=reach, fmt="o", color=DARK, markersize=4, linewidth=1.2, capsize=2)
    axes.axvline(np.log(2), color=DARK, linestyle=":", linewidth=1)
    axes.set_yticks(places, labels=list(divergences), size=8 if len(places) < 14 else 6)
    axes.set(xlim=(-0.02, 0.75), ylim=(len(places) - 0.5, -0.5))
    axes.set_xlabel("JS divergence, nats (0: none, 0.69: all)", size=8.5, color=DARK)
