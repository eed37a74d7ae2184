"""Checks of a run's demonstrations: of its settings alone, and of the sets on disk.

The checks of settings read no file, so the loader of a configuration uses them, too, and adds where a value came from.
"""

from __future__ import annotations

from dataclasses import asdict

from dm2_ray.config.schema import DemonstrationSettings, Experiment
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.world.configured import ConfiguredWorld


class DemonstrationSettingsError(DemonstrationError):
    """Settings that contradict each other.

    Args:
        key: Path of the setting to change, from the root of the configuration.
        message: What is wrong and what to do, in one line.
    """

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...], str]]:
        # Ray sends exceptions between processes.
        return type(self), (self.key, str(self))


def uses_demonstrations(experiment: Experiment) -> bool:
    """Returns whether any iteration of the run draws demonstrations."""
    return experiment.matching.coefficient > 0 or experiment.cloning.iterations > 0


def uses_demonstrations_at(experiment: Experiment, iteration: int) -> bool:
    """Returns whether an iteration draws: during cloning, and then as long as the matching coefficient is positive."""
    return iteration < experiment.cloning.iterations or experiment.matching.at(iteration).coefficient > 0


def check_settings(experiment: Experiment, num_agents: int | None = None) -> None:
    """Checks the settings of the source of demonstrations without reading any file.

    Args:
        experiment: The run.
        num_agents: N of its map; None skips the checks that depend on it.

    Raises:
        DemonstrationSettingsError: Settings contradict each other, or demonstrations are needed but not configured.
    """
    settings = experiment.demonstrations
    if settings.source != "self_imitation":
        needed_by = None
        if experiment.matching.coefficient > 0:
            needed_by = ("matching", "coefficient")
        elif experiment.cloning.iterations > 0:
            needed_by = ("cloning", "iterations")
        _check_teams(settings, num_agents, needed_by)
        return
    source = ("demonstrations", "source")
    if experiment.cloning.iterations > 0:
        raise DemonstrationSettingsError(
            source,
            "cloning comes before the first battle, when there is nothing to imitate yet: it needs "
            "demonstrations.source set or live",
        )
    if settings.path is not None or settings.paths_per_agent:
        raise DemonstrationSettingsError(
            source,
            "demonstrations.source self_imitation does not use demonstrations.path or demonstrations.paths_per_agent: "
            "remove them",
        )
    is_disjoint = settings.sampling == "non_concurrent" and uses_demonstrations(experiment)
    if is_disjoint and num_agents is not None and settings.store_episodes < num_agents:
        raise DemonstrationSettingsError(
            ("demonstrations", "store_episodes"),
            f"demonstrations.store_episodes is {settings.store_episodes}: sampling non_concurrent for {num_agents} "
            f"agents needs {num_agents} episodes or more",
        )


def team_names(settings: DemonstrationSettings, num_agents: int) -> tuple[str, ...]:
    """Returns the configured names of sets or live teams: one joint team, or one team per agent.

    Raises:
        DemonstrationSettingsError: No team is named, both kinds are, or there are not as many teams as agents.
    """
    _check_teams(settings, num_agents, ("matching", "coefficient"))
    return settings.paths_per_agent if settings.path is None else (settings.path,)


def open_sets(settings: DemonstrationSettings, world: ConfiguredWorld) -> list[JointTrajectories]:
    """Opens the demonstration sets: one, or one per agent.

    Raises:
        DemonstrationError: A set is missing, damaged or of another world, or has too few episodes for a draw.
    """
    names = team_names(settings, world.num_agents)
    # A set that several agents use is opened once.
    opened = {name: JointTrajectories.open(name) for name in dict.fromkeys(names)}
    for demonstrations in opened.values():
        demonstrations.check_world(**asdict(world), other_engine=settings.other_engine)
        try:
            # One draw from each set, so that an error names the set and is raised before anything starts.
            draw_episodes(
                demonstrations.num_episodes, world.num_agents, settings.episodes_per_draw, 0, 0, settings.sampling
            )
        except ValueError as error:
            raise DemonstrationError(f"demonstration set {demonstrations.path}: {error}") from None
    return [opened[name] for name in names]


def _check_teams(settings: DemonstrationSettings, num_agents: int | None, needed_by: tuple[str, ...] | None) -> None:
    """Checks the names of sets or live teams; `needed_by` is the setting that makes the run draw, if there is one."""
    per_agent = ("demonstrations", "paths_per_agent")
    if settings.path is not None and settings.paths_per_agent:
        raise DemonstrationSettingsError(
            per_agent,
            "demonstrations.path (one joint team) and demonstrations.paths_per_agent (independent teams) are both "
            "given: set the other to null or []",
        )
    if needed_by is None:
        return
    if settings.path is None and not settings.paths_per_agent:
        key = ".".join(needed_by)
        raise DemonstrationSettingsError(
            needed_by,
            f"{key} above 0 needs demonstrations, but demonstrations.path is not set: name a set with --demos SET "
            f"(`dm2 demos record` makes one), or set {key} to 0",
        )
    if settings.path is None and num_agents is not None and len(settings.paths_per_agent) != num_agents:
        raise DemonstrationSettingsError(
            per_agent,
            f"demonstrations.paths_per_agent names {len(settings.paths_per_agent)} teams, this run has {num_agents} "
            "agents: name one per agent, or one joint team as demonstrations.path",
        )
