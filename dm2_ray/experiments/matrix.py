"""An experiment as configs/experiments/*.yaml write it: experts, demonstration sets, rows of runs to compare.

    experts          who learns to demonstrate: one team, or one team per agent that never met
    sets             joint episodes recorded of an expert or a scripted team, or given
    rows             what is compared; every row is run with every seed

Every name becomes a directory. What the keys mean is said here, once; `matrix_file.load_matrix` reads the files.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dm2_ray.config.schema import Experiment, Section


class Expert(Section):
    """Who learns to demonstrate."""

    variant: str = "ippo"
    teams: Literal["one", "per_agent"] = "one"
    """per_agent: as many teams as the map has agents, trained apart with different seeds."""
    seed: int = Field(1000, ge=0)
    """Of the first team; the next ones count on from it."""
    env_steps: int | None = Field(None, ge=1)
    """Env steps of each team; null takes the map's."""
    settings: Experiment = Experiment()


class DemonstrationSet(Section):
    """Joint episodes; exactly one of `expert`, `scripted` and `paths`."""

    expert: str | None = None
    """Name of one of the experts; a set per team is recorded."""
    scripted: str | None = None
    """Name of a scripted team."""
    paths: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Sets that exist: one joint team's, or as many independent teams' as the map has agents."""
    win_rate: float | None = Field(None, ge=0, le=1)
    """The expert's checkpoint whose team wins a share of battles nearest to it, by measuring; null takes the last."""
    episodes: int = Field(1000, ge=1)
    greedy: bool = False
    """Most probable actions instead of sampled ones."""
    seed: int = Field(2000, ge=0)
    """Of the recorded battles; a second team's are the next ones."""


class Condition(Section):
    """What is compared; either a variant that learns or a scripted team that plays."""

    label: str | None = None
    """In tables and pictures, where {win_rate} is its demonstrations' own, measured; null takes the row's name."""
    variant: str | None = None
    scripted: str | None = None
    """Name of a scripted team, as a floor: it learns nothing, its battles are counted."""
    set: str | None = None
    """Name of the demonstration set; null is none."""
    experts: Literal["joint", "independent"] = "joint"
    """joint: all agents imitate one team of the set; independent: agent i imitates agent i of the set's i-th team."""
    team: Literal["by_seed"] | int = 0
    """With joint experts: which team of the set. by_seed: the k-th seed takes the k-th team, round and round, so that
    no team's luck decides."""
    settings: Experiment = Experiment()


class Matrix(Section):
    """One experiment, whole."""

    title: str
    paper: str | None = None
    """Which experiment of the paper it is, and what the paper found."""
    map: str
    maps: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """For the maps that have values of their own: keys of this file, laid over the others where the map is chosen."""
    # Not strict where a YAML list is how a tuple is written.
    seeds: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (0, 1, 2)
    env_steps: int | None = Field(None, ge=1)
    """Of every row's runs; null takes the map's."""
    thresholds: Annotated[tuple[float, ...], Field(strict=False)] = (0.3, 0.5, 0.8)
    """Win rates whose first reaching is reported."""
    settings: Experiment = Experiment()
    """Shared by all runs, the experts' included; what an expert or a row sets itself wins."""
    experts: dict[str, Expert] = Field(default_factory=dict)
    sets: dict[str, DemonstrationSet] = Field(default_factory=dict)
    rows: dict[str, Condition] = Field(min_length=1)

    def label(self, row: str, demonstrated: float | None = None) -> str:
        """A row's name in tables and pictures; `demonstrated` is its demonstrations' own win rate, if there are any."""
        label = self.rows[row].label or row.replace("_", " ")
        return label.replace("{win_rate}", "not recorded yet" if demonstrated is None else f"{demonstrated:.2f}")

    def num_teams(self, set_name: str, num_agents: int) -> int:
        """How many teams demonstrate in a set, on a map of so many agents."""
        demonstrations = self.sets[set_name]
        if demonstrations.paths:
            return len(demonstrations.paths)
        if demonstrations.expert is None:
            return 1
        return num_agents if self.experts[demonstrations.expert].teams == "per_agent" else 1
