"""From `demonstrations.source` to the object that provides the demonstrations."""

from __future__ import annotations

from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations.source_checks import check_settings, open_sets
from dm2_ray.distributed.demonstration_sources.live import LiveDemonstrations, parse_live_teams
from dm2_ray.distributed.demonstration_sources.self_imitation import SelfImitation
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource, StoredDemonstrations
from dm2_ray.world.configured import ConfiguredWorld


def build_source(experiment: Experiment, *, options: ActorOptions | None = None) -> DemonstrationSource:
    """Starts the source of the run's demonstrations.

    Args:
        experiment: The run.
        options: Where the processes go, how long a lost one is waited for, and where losses are logged; None: any node.

    Raises:
        DemonstrationError: As `check_experts`.
    """
    options = options or ActorOptions(timeout_s=experiment.faults.wait_for_resources_s)
    settings, seed = experiment.demonstrations, experiment.seed
    world = ConfiguredWorld.from_settings(experiment.world)
    check_settings(experiment, world.num_agents)
    if settings.source == "set":
        open_sets(settings, world)
        return StoredDemonstrations(settings, world, seed=seed, options=options)
    num_agents = world.num_agents
    if settings.source == "live":
        teams = parse_live_teams(settings, world)
        return LiveDemonstrations(teams, settings, experiment.world, seed=seed, num_agents=num_agents, options=options)
    return SelfImitation(settings, seed=seed, gamma=experiment.ppo.gamma, num_agents=num_agents, options=options)
