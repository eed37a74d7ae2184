"""From `demonstrations.source` to whoever provides the demonstrations, and what is checked of them beforehand.

Each source is imported where it is asked for: checking a set waits for neither torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.config.schema import DemonstrationSettings, Experiment
from dm2_ray.demonstrations.source_checks import check_settings, open_sets, uses_demonstrations
from dm2_ray.world.configured import ConfiguredWorld

if TYPE_CHECKING:
    from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions
    from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource


def check_experts(experiment: Experiment) -> None:
    """Opens everything that will be drawn from, and starts nothing.

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
        from dm2_ray.distributed.demonstration_sources.live import parse_live_teams

        parse_live_teams(experiment.demonstrations, world)


def build_source(experiment: Experiment, *, options: ActorOptions | None = None) -> DemonstrationSource:
    """Starts whoever provides the run's demonstrations.

    Args:
        experiment: The run.
        options: Where the processes go, how long a lost one is waited for, and where losses are logged; None: any node.

    Raises:
        DemonstrationError: As `check_experts`.
    """
    from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions

    options = options or ActorOptions(timeout_s=experiment.faults.wait_for_resources_s)
    settings: DemonstrationSettings = experiment.demonstrations
    world = ConfiguredWorld.from_settings(experiment.world)
    check_settings(experiment, world.num_agents)
    seed = experiment.seed
    if settings.source == "set":
        from dm2_ray.distributed.demonstration_sources.sources import StoredDemonstrations

        open_sets(settings, world)
        return StoredDemonstrations(settings, world, seed=seed, options=options)
    if settings.source == "live":
        from dm2_ray.distributed.demonstration_sources.live import LiveDemonstrations, parse_live_teams

        return LiveDemonstrations(
            parse_live_teams(settings, world),
            settings,
            experiment.world,
            seed=seed,
            num_agents=world.num_agents,
            options=options,
        )
    from dm2_ray.distributed.demonstration_sources.self_imitation import SelfImitation

    return SelfImitation(
        settings,
        seed=seed,
        gamma=experiment.ppo.gamma,
        num_agents=world.num_agents,
        options=options,
    )
