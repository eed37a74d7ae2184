"""One agent's visitation as quantities that can be drawn: where other units are, what it does, how long it lives.

Shapes: S env steps of all battles laid end to end, T time bins, A actions, C x C cells around the agent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.world.envs.smac_features import observation_features
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.rules import FIRST_TARGET, SIGHT_RANGE
from dm2_ray.world.smac.rules_tables import RulesTables

CELLS = 24
"""C: number of cells across the sight range."""
MAX_TIME_BINS = 60

_PRIOR = 5.0
"""Number of sightings that are added to every cell of a ratio."""
_FIRST_ACTIONS = ("none (dead)", "stop", "north", "south", "east", "west")


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighborHistogram:
    """Where the living enemies (or allies) that the agent sees are, relative to the agent.

    Attributes:
        counts: [C, C] number of sightings in cells of equal size over [-9, 9] x [-9, 9]; x to the east, y to the north.
        living_steps: Number of env steps at which the agent was alive.
    """

    counts: npt.NDArray[np.float64]
    living_steps: int

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """[C, C] mean number of units per unit of area, over the steps of the living agent."""
        return self.counts / (max(1, self.living_steps) * cell_size() ** 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentVisits:
    """One agent's visitation over all battles.

    Attributes:
        enemies: Where enemies are; None if the meaning of the observation features is not known.
        allies: Where allies are; None also for an agent without allies.
        action_counts: [T, A] number of times that the living agent chose each action.
        alive: [T] share of all battles that are still running with the agent alive.
        running: [T] share of all battles that are still running.
        steps_per_bin: Number of env steps per time bin.
    """

    enemies: NeighborHistogram | None
    allies: NeighborHistogram | None
    action_counts: npt.NDArray[np.int64]
    alive: npt.NDArray[np.float64]
    running: npt.NDArray[np.float64]
    steps_per_bin: int

    @property
    def action_shares(self) -> npt.NDArray[np.float64]:
        """[T, A] shares of the living agent's actions; NaN where it was never alive."""
        total = self.action_counts.sum(1, keepdims=True)
        return np.divide(self.action_counts, total, out=np.full(self.action_counts.shape, np.nan), where=total > 0)


def cell_size() -> float:
    """Side length of a cell, in the game's units of length."""
    return 2 * SIGHT_RANGE / CELLS


def agent_visits(
    visits: JointRollouts, agent: int, tables: RulesTables | None, steps_per_bin: int, num_bins: int
) -> AgentVisits:
    """Computes the visitation of one agent.

    Args:
        visits: The team's battles.
        agent: Index of the agent.
        tables: Tables of the world, which give the meaning of the observation features; None if they are not known.
        steps_per_bin: Number of env steps per time bin, see `time_bins`.
        num_bins: Number of time bins.
    """
    own, bins = visits.agents[agent], visits.steps // steps_per_bin
    counts = np.zeros((num_bins, visits.num_actions), np.int64)
    np.add.at(counts, (bins[own.alive], own.actions[own.alive]), 1)
    enemies = allies = None
    if tables is not None:
        names = observation_features(tables, agent)
        living = own.observations[own.alive]
        enemies = _surroundings(living, names, "enemy")
        allies = _surroundings(living, names, "ally") if visits.num_agents > 1 else None
    whole = visits.num_episodes * steps_per_bin
    return AgentVisits(
        enemies=enemies,
        allies=allies,
        action_counts=counts,
        alive=np.bincount(bins[own.alive], minlength=num_bins) / whole,
        running=np.bincount(bins, minlength=num_bins) / whole,
        steps_per_bin=steps_per_bin,
    )


def time_bins(*teams: JointRollouts) -> tuple[int, int]:
    """Steps per bin and number of bins, at most MAX_TIME_BINS, that cover the longest battle of all teams."""
    longest = max(int(visits.episode_lengths.max()) for visits in teams)
    steps_per_bin = -(-longest // MAX_TIME_BINS)
    return steps_per_bin, -(-longest // steps_per_bin)


def log_ratio(own: NeighborHistogram, expert: NeighborHistogram) -> npt.NDArray[np.float64]:
    """[C, C] log2 of the own density over the expert's.

    `_PRIOR` sightings are added to every cell of both sides, scaled as if both had equally many steps: so a cell that
    is empty on both sides is 0, and a few sightings do not give a large ratio.
    """
    steps = max(1, own.living_steps), max(1, expert.living_steps)
    prior = _PRIOR / min(steps)
    return np.asarray(np.log2((own.counts / steps[0] + prior) / (expert.counts / steps[1] + prior)))


def action_names(spec: MapSpec, agent: int, num_actions: int) -> list[str]:
    """[A] names of the agent's actions."""
    if spec.map_type == "MMM" and spec.ally_kinds[agent] == "medivac":
        verb, kinds = "heal", spec.ally_kinds
    else:
        verb, kinds = "attack", spec.enemy_kinds
    # The kind is named only where there are several.
    known = [f"{kind.replace('_', ' ')} " if len(set(kinds)) > 1 else "" for kind in kinds]
    targets = [f"{verb} {kind}{number}" for number, kind in enumerate(known)]
    more = [f"action {number}" for number in range(FIRST_TARGET + len(targets), num_actions)]
    return [*_FIRST_ACTIONS, *targets, *more][:num_actions]


def _surroundings(living: npt.NDArray[np.float32], names: list[str], side: str) -> NeighborHistogram:
    """Histogram of the units called `side` in the observations [S, O] of a living agent."""
    column = {name: place for place, name in enumerate(names)}
    numbers = [name.rsplit("_", 1)[1] for name in names if name.startswith(f"{side}_distance_")]
    distance, x, y = (
        living[:, [column[f"{side}_{what}_{number}"] for number in numbers]]
        for what in ("distance", "relative_x", "relative_y")
    )
    # A unit that is dead or out of sight has zeros only; two living units are never at the same point.
    seen = distance > 0
    edges = np.linspace(-1.0, 1.0, CELLS + 1)
    counts, _, _ = np.histogram2d(x[seen], y[seen], bins=(edges, edges))
    return NeighborHistogram(counts=counts, living_steps=len(living))
