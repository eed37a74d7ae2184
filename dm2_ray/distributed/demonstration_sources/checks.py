"""Checks of a run's demonstrations before anything starts."""

from __future__ import annotations

from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations.source_checks import check_settings, open_sets, uses_demonstrations
from dm2_ray.world.configured import ConfiguredWorld


def check_experts(experiment: Experiment) -> None:
    """Opens every set or team that the run will draw from, and starts nothing.

    Raises:
        DemonstrationError: A set or team is missing, damaged, or does not fit the run.
    """
    if not uses_demonstrations(experiment):
        return
    world = ConfiguredWorld.from_settings(experiment.world)
    check_settings(experiment, world.num_agents)
    if experiment.demonstrations.source == "set":
        open_sets(experiment.demonstrations, world)
    elif experiment.demonstrations.source == "live":
        # Only live teams need torch and Ray: a wrong set is refused without the seconds that their import takes.
        from dm2_ray.distributed.demonstration_sources.live import parse_live_teams

        parse_live_teams(experiment.demonstrations, world)
