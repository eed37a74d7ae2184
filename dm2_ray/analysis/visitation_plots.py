"""Two pictures of visitations: what a team's agents see and do, and where a team differs from its experts.

Shapes: E episodes, T time bins, A actions, C x C cells around an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dm2_ray.analysis.visitation_figure import DARK, AgentPanels, Line, Scale, VisitationFigure
from dm2_ray.analysis.visitation_maps import (
    AgentVisits,
    NeighborHistogram,
    action_names,
    agent_visits,
    log_ratio,
    time_bins,
)
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules_tables import RulesTables

TEAM_COLOUR = "#c2410c"
EXPERT_COLOUR = "#5b21b6"
_RUNNING_COLOUR = "#e4e4e7"
_NO_LINE = np.zeros(0)
_FEWEST_ACTIONS = 10
"""Actions of a living agent in a time bin, below which shares say nothing."""
_NOTE = (
    "Maps: where living enemies and allies stand around the agent (+), in the game's units of length, at the steps in "
    "which it lives; circles: sight (9) and shooting range (6). Gray: too few steps."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What names and positions are taken from."""

    spec: MapSpec | None
    """None where the map is not known."""
    tables: RulesTables | None
    """None where it is not known which observation feature means what."""

    def heading(self, agent: int) -> str:
        return f"agent {agent}" + (f", {self.spec.ally_kinds[agent].replace('_', ' ')}" if self.spec else "")

    def actions(self, agent: int, num_actions: int) -> list[str]:
        if self.spec is None:
            return [f"action {number}" for number in range(num_actions)]
        return action_names(self.spec, agent, num_actions)


def shortened(name: str) -> str:
    """A name that fits a line of a title: of a long path the end."""
    return name if len(name) <= 70 else "..." + name[-67:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One point with its interval."""

    name: str
    value: float
    low: float
    high: float


def draw_set(
    visits: JointRollouts, path: Path, *, title: str, world: World, agents: Sequence[int] | None = None
) -> None:
    """What a team's battles contain, agent by agent.

    Args:
        visits: the battles.
        path: the picture; its suffix names the format.
        title: first line large, the others small.
        world: says what there is to see.
        agents: which ones; None is all.
    """
    shown = range(visits.num_agents) if agents is None else agents
    steps_per_bin, num_bins = time_bins(visits)
    sheet = VisitationFigure(title, len(shown), steps_per_bin * num_bins)
    header = sheet.header(("returns", "battle lengths", "agents alive, mean"), (1, 1, 1))
    _draw_team(header, [(visits, DARK)])
    drawn = [agent_visits(visits, agent, world.tables, steps_per_bin, num_bins) for agent in shown]
    enemies = _density_scale([one.enemies for one in drawn], "Reds", "enemies in sight per unit of area")
    allies = _density_scale([one.allies for one in drawn], "Blues", "allies in sight per unit of area")
    actions = _share_scale()
    running = Line(values=_NO_LINE, color=_RUNNING_COLOUR, filled=True)
    alive = Line(values=_NO_LINE, color=DARK)
    sheet.strip(enemies, allies, actions, [(running, "share of battles going on"), (alive, "... with the agent alive")],
                _NOTE)  # fmt: skip
    for agent, one in zip(shown, drawn, strict=True):
        panels = AgentPanels(
            heading=world.heading(agent),
            enemies=None if one.enemies is None else one.enemies.density,
            allies=None if one.allies is None else one.allies.density,
            actions=_known_shares(one),
            action_names=world.actions(agent, visits.num_actions),
            lines=(
                Line(values=one.running, color=_RUNNING_COLOUR, filled=True),
                Line(values=one.alive, color=DARK),
            ),
        )
        sheet.agent(panels, enemies, allies, actions)
    sheet.save(path)


def draw_differences(
    team: JointRollouts,
    experts: JointRollouts,
    path: Path,
    *,
    title: str,
    world: World,
    divergences: Sequence[Measured],
    agents: Sequence[int] | None = None,
) -> None:
    """Where a team's visitation differs from its experts'.

    Args:
        team, experts: battles of the same world.
        path, title, world, agents: as of `draw_set`.
        divergences: Jensen-Shannon divergences in nats, from the first agent's to the joint one.
    """
    shown = range(team.num_agents) if agents is None else agents
    steps_per_bin, num_bins = time_bins(team, experts)
    sheet = VisitationFigure(title, len(shown), steps_per_bin * num_bins)
    divergence, *header = sheet.header(
        ("divergence from the experts", "returns", "battle lengths", "agents alive, mean"), (1.2, 1, 1, 1), names=0.85
    )
    _draw_divergences(divergence, divergences)
    _draw_team(header, [(experts, EXPERT_COLOUR), (team, TEAM_COLOUR)])
    pairs = [
        tuple(agent_visits(visits, agent, world.tables, steps_per_bin, num_bins) for visits in (team, experts))
        for agent in shown
    ]
    shares = [_known_shares(own) - _known_shares(expert) for own, expert in pairs]
    enemies, allies = _ratio_scale("enemies in sight: team / experts"), _ratio_scale("allies in sight: team / experts")
    actions = _difference_scale(shares)
    sheet.strip(
        enemies, allies, actions,
        [
            (Line(values=_NO_LINE, color=DARK, style=":"), "share of battles going on"),
            (Line(values=_NO_LINE, color=TEAM_COLOUR), "... with the team's agent alive"),
            (Line(values=_NO_LINE, color=EXPERT_COLOUR), "... with the experts' agent alive"),
        ],
        _NOTE,
    )  # fmt: skip
    for agent, (own, expert), difference in zip(shown, pairs, shares, strict=True):
        panels = AgentPanels(
            heading=world.heading(agent),
            enemies=_ratio(own.enemies, expert.enemies),
            allies=_ratio(own.allies, expert.allies),
            actions=difference,
            action_names=world.actions(agent, team.num_actions),
            lines=(
                Line(values=expert.running, color=EXPERT_COLOUR, style=":"),
                Line(values=own.running, color=TEAM_COLOUR, style=":"),
                Line(values=expert.alive, color=EXPERT_COLOUR),
                Line(values=own.alive, color=TEAM_COLOUR),
            ),
        )
        sheet.agent(panels, enemies, allies, actions)
    sheet.save(path)


def _known_shares(one: AgentVisits) -> npt.NDArray[np.float64]:
    """[T, A]"""
    return np.where(one.action_counts.sum(1, keepdims=True) < _FEWEST_ACTIONS, np.nan, one.action_shares)


def _ratio(own: NeighborHistogram | None, expert: NeighborHistogram | None) -> npt.NDArray[np.float64] | None:
    return None if own is None or expert is None else log_ratio(own, expert)


# Scales.


def _density_scale(found: Sequence[NeighborHistogram | None], colors: str, label: str) -> Scale:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    # A few cells, such as the starting formation's, are far above all others.
    top = max((float(np.quantile(one.density, 0.995)) for one in found if one is not None), default=0.0)
    unit = 10.0 ** np.floor(np.log10(max(top, 1e-3)))
    top = float(np.ceil(top / unit) * unit) or unit
    ticks = (0.0, top / 16, top / 4, top)
    return Scale(
        colors=colormaps[colors], norm=PowerNorm(0.5, 0.0, top, clip=True), label=label,
        ticks=ticks, tick_labels=[f"{tick:.2g}" for tick in ticks],
    )  # fmt: skip


def _share_scale() -> Scale:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    return Scale(
        colors=colormaps["Greens"], norm=PowerNorm(0.5, 0.0, 1.0), label="share of the living agent's actions",
        ticks=(0, 0.1, 0.5, 1), tick_labels=("0", "0.1", "0.5", "1"),
    )  # fmt: skip


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "team and experts", (EXPERT_COLOUR, "#a78bfa", "#fafafa", "#fb923c", TEAM_COLOUR)
    )


def _ratio_scale(label: str) -> Scale:
    from matplotlib.colors import Normalize

    return Scale(
        colors=_diverging(), norm=Normalize(-3, 3), label=label,
        ticks=(-3, -2, -1, 0, 1, 2, 3), tick_labels=("1/8", "1/4", "1/2", "1", "2", "4", "8"),
    )  # fmt: skip


def _difference_scale(shares: Sequence[npt.NDArray[np.float64]]) -> Scale:
    from matplotlib.colors import Normalize

    known = np.abs(np.concatenate([share[np.isfinite(share)] for share in shares] + [np.zeros(1)]))
    top = min(1.0, max(0.1, float(np.ceil(10 * np.quantile(known, 0.99)) / 10)))
    ticks = [top * part for part in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    return Scale(
        colors=_diverging(), norm=Normalize(-top, top), label="share of the living agent's actions: team - experts",
        ticks=ticks, tick_labels=[f"{tick:+.2g}" if tick else "0" for tick in ticks],
    )  # fmt: skip


# The header.


def _draw_team(axes: Sequence[Any], teams: Sequence[tuple[JointRollouts, str]]) -> None:
    returns, lengths, living = axes
    _histogram(returns, [(visits.returns, color) for visits, color in teams], "undiscounted, of the team")
    _histogram(lengths, [(visits.episode_lengths.astype(float), color) for visits, color in teams], "env steps")
    for visits, color in teams:
        counts = sum(np.bincount(visits.steps[own.alive], minlength=visits.steps.max() + 1) for own in visits.agents)
        living.plot(counts / np.bincount(visits.steps), color=color, linewidth=1.8)
    living.set_ylim(0, teams[0][0].num_agents * 1.05)
    living.set_xlim(left=0)
    living.set_xlabel("env step, over battles going on", fontsize=8.5, color=DARK)


def _histogram(axes: Any, series: Sequence[tuple[npt.NDArray[np.float64] | None, str]], label: str) -> None:
    known = [(values, color) for values, color in series if values is not None]
    if not known:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", fontsize=9, color=DARK, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xlabel(f"{label} (dashed: mean)", fontsize=8.5, color=DARK)
    axes.set_ylabel("share of battles", fontsize=8.5, color=DARK)
    together = np.concatenate([values for values, _ in known])
    low, high = float(together.min()), float(together.max())
    edges = np.linspace(low, high if high > low else low + 1.0, 31)
    for values, color in known:
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, fill=True, color=color, alpha=0.3)
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, color=color, linewidth=1.2)
        axes.axvline(float(values.mean()), color=color, linestyle="--", linewidth=1.2)
    axes.set_ylim(bottom=0)


def _draw_divergences(axes: Any, divergences: Sequence[Measured]) -> None:
    places = np.arange(len(divergences))
    values = np.array([one.value for one in divergences])
    reach = np.array([(one.value - one.low, one.high - one.value) for one in divergences]).T
    axes.errorbar(values, places, xerr=reach, fmt="o", color=DARK, markersize=4, linewidth=1.2, capsize=2)
    axes.axvline(np.log(2), color=DARK, linestyle=":", linewidth=1)
    axes.set_yticks(places, labels=[one.name for one in divergences], fontsize=8 if len(places) < 14 else 6)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(-0.02, 0.75)
    axes.set_xlabel("JS divergence, nats (0: none, 0.69: all)", fontsize=8.5, color=DARK)
