"""An experiment as configs/experiments/*.yaml define it: experts, demonstration sets and conditions to compare.

    experts          teams that are trained to demonstrate: one team, or one team per agent, trained separately
    sets             joint episodes recorded from an expert, an existing team or a scripted one, or existing sets
    rows             conditions to compare; every condition is run with every seed

Every name becomes a directory. The keys are documented here; `matrix_file.load_matrix` reads the files.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dm2_ray.config.schema import Experiment, Section


class Expert(Section):
    """A team, or one team per agent, that is trained to demonstrate."""

    variant: str = "ippo"
    teams: Literal["one", "per_agent"] = "one"
    """per_agent: as many teams as the map has agents, trained separately with different seeds."""
    seed: int = Field(1000, ge=0)
    """Seed of the first team; the others take the next numbers."""
    env_steps: int | None = Field(None, ge=1)
    """Env steps of each team; null takes the map's."""
    settings: Experiment = Experiment()


class DemonstrationSet(Section):
    """Joint episodes; exactly one of `expert`, `checkpoint`, `scripted` and `paths`."""

    expert: str | None = None
    """Name of one of the experts; a set per team is recorded."""
    checkpoint: str | None = None
    """An existing team, of which one set is recorded: zoo:MAP/NAME, or a checkpoint or run directory."""
    scripted: str | None = None
    """Name of a scripted team."""
    paths: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Existing sets: one of a joint team, or one of each of as many independent teams as the map has agents."""
    win_rate: float | None = Field(None, ge=0, le=1)
    """Takes the expert's checkpoint whose measured win rate is closest to this; null takes the last checkpoint."""
    episodes: int = Field(1000, ge=1)
    greedy: bool = False
    """Most probable actions instead of sampled ones."""
    seed: int = Field(2000, ge=0)
    """Seed of the recorded battles of the first team; the others take the next numbers."""


class Condition(Section):
    """A condition to compare: either a variant that learns or a scripted team."""

    label: str | None = None
    """Name in tables and pictures; {win_rate} becomes the measured win rate of its demonstrations."""
    variant: str | None = None
    scripted: str | None = None
    """Name of a scripted team, as a lower bound: it does not learn, only its win rate is measured."""
    set: str | None = None
    """Name of the demonstration set; null is none."""
    experts: Literal["joint", "independent"] = "joint"
    """joint: all agents imitate one team of the set; independent: agent i imitates agent i of the set's i-th team."""
    team: Literal["by_seed"] | int = 0
    """With joint experts: which team of the set. by_seed: the k-th seed takes the k-th team (modulo their number), so
    that the result does not depend on one team."""
    settings: Experiment = Experiment()


class Matrix(Section):
    """One experiment."""

    title: str
    paper: str | None = None
    """Which experiment of the paper this is, and what the paper found."""
    map: str
    maps: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Per map: keys of this file that override the others when that map is chosen."""
    # Not strict, because in YAML a tuple is written as a list.
    seeds: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (0, 1, 2)
    env_steps: int | None = Field(None, ge=1)
    """Env steps of every condition's runs; null takes the map's."""
    thresholds: Annotated[tuple[float, ...], Field(strict=False)] = (0.3, 0.5, 0.8)
    """Win rates for which the report says when they are first reached."""
    settings: Experiment = Experiment()
    """Shared by all runs, including the experts'; settings of an expert or a condition override them."""
    experts: dict[str, Expert] = Field(default_factory=dict)
    sets: dict[str, DemonstrationSet] = Field(default_factory=dict)
    rows: dict[str, Condition] = Field(min_length=1)

    def label(self, row: str, demonstrated: float | None = None) -> str:
        """A condition's name in tables and pictures; `demonstrated` is the win rate of its demonstrations, if any."""
        label = self.rows[row].label or row.replace("_", " ")
        return label.replace("{win_rate}", "not recorded yet" if demonstrated is None else f"{demonstrated:.2f}")

    def num_teams(self, set_name: str, num_agents: int) -> int:
        """Number of teams that demonstrate in a set, on a map with `num_agents` agents."""
        demonstrations = self.sets[set_name]
        if demonstrations.paths:
            return len(demonstrations.paths)
        if demonstrations.expert is None:
            return 1
        return num_agents if self.experts[demonstrations.expert].teams == "per_agent" else 1
