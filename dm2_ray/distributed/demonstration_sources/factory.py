"""From `demonstrations.source` to whoever provides the demonstrations, and what is checked of them beforehand.

Each source is imported where it is asked for: checking a set waits for neither torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dm2_ray.config import DemonstrationSettings, Experiment
from dm2_ray.demonstrations.expert import expert_names, open_experts
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.run_world import RunWorld

if TYPE_CHECKING:
    from dm2_ray.actors.expert_pool import ExpertPool
    from dm2_ray.actors.expert_processes import ExpertPlacement


def needs_experts(experiment: Experiment) -> bool:
    """Whether anything is drawn in the course of a run."""
    return experiment.matching.coefficient > 0 or experiment.cloning.iterations > 0


def draws_at(experiment: Experiment, iteration: int) -> bool:
    """Whether an iteration has a draw: while agents are cloned, and then as long as matching pays."""
    return iteration < experiment.cloning.iterations or experiment.matching.at(iteration).coefficient > 0


def check_settings(experiment: Experiment, num_agents: int) -> None:
    """What can be said without looking at any file.

    Raises:
        DemonstrationError: The experts are not named as the source wants it, or the source cannot do what is asked.
    """
    settings = experiment.demonstrations
    if not needs_experts(experiment):
        return
    if settings.source != "self_imitation":
        expert_names(settings, num_agents)
        return
    if experiment.cloning.iterations:
        raise DemonstrationError("nothing can be cloned before the first battle: cloning needs a set or live experts")
    if settings.path is not None or settings.paths_per_agent:
        raise DemonstrationError("demonstrations.source self_imitation takes no demonstrations.path")
    if settings.sampling == "non_concurrent" and settings.store_episodes < num_agents:
        raise DemonstrationError(
            f"demonstrations.store_episodes is {settings.store_episodes}: sampling non_concurrent for {num_agents} "
            f"agents needs {num_agents} episodes or more"
        )


def check_experts(experiment: Experiment) -> None:
    """Opens everything that will be drawn from, and starts nothing.

    Raises:
        DemonstrationError: A set or team is missing, damaged, or does not fit the run.
    """
    if not needs_experts(experiment):
        return
    world = RunWorld.of(experiment.world)
    check_settings(experiment, world.num_agents)
    if experiment.demonstrations.source == "set":
        open_experts(experiment.demonstrations, world)
    elif experiment.demonstrations.source == "live":
        from dm2_ray.actors.live_expert import live_teams

        live_teams(experiment.demonstrations, world)


def start_experts(experiment: Experiment, *, where: ExpertPlacement | None = None) -> ExpertPool:
    """Starts whoever provides the run's demonstrations.

    Args:
        experiment: The run.
        where: The processes go, how long a lost one is waited for, and who is told of losses; None is anywhere.

    Raises:
        DemonstrationError: As `check_experts`.
    """
    from dm2_ray.actors.expert_processes import ExpertPlacement

    where = where or ExpertPlacement(timeout_s=experiment.faults.wait_for_resources_s)
    settings: DemonstrationSettings = experiment.demonstrations
    world = RunWorld.of(experiment.world)
    check_settings(experiment, world.num_agents)
    seed = experiment.seed
    if settings.source == "set":
        from dm2_ray.actors.expert_pool import StoredExperts

        open_experts(settings, world)
        return StoredExperts(settings, world, seed=seed, where=where)
    if settings.source == "live":
        from dm2_ray.actors.live_expert import LiveExperts, live_teams

        return LiveExperts(
            live_teams(settings, world),
            settings,
            experiment.world,
            seed=seed,
            num_agents=world.num_agents,
            where=where,
        )
    from dm2_ray.actors.self_imitation import SelfImitation

    return SelfImitation(
        settings,
        seed=seed,
        gamma=experiment.ppo.gamma,
        num_agents=world.num_agents,
        where=where,
    )
