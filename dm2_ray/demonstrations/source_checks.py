"""Which demonstrations a run draws, and when: what can be said from its settings alone."""

from __future__ import annotations

from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations.episode_server import expert_names
from dm2_ray.demonstrations.manifest import DemonstrationError


def uses_demonstrations(experiment: Experiment) -> bool:
    """Whether anything is drawn in the course of a run."""
    return experiment.matching.coefficient > 0 or experiment.cloning.iterations > 0


def uses_demonstrations_at(experiment: Experiment, iteration: int) -> bool:
    """Whether an iteration has a draw: while agents are cloned, and then as long as matching pays."""
    return iteration < experiment.cloning.iterations or experiment.matching.at(iteration).coefficient > 0


def check_settings(experiment: Experiment, num_agents: int) -> None:
    """What can be said without looking at any file.

    Raises:
        DemonstrationError: The experts are not named as the source wants it, or the source cannot do what is asked.
    """
    settings = experiment.demonstrations
    if not uses_demonstrations(experiment):
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
