"""RunResources: what a run starts and what each process asks for, as a list and in words."""

from __future__ import annotations

from dataclasses import dataclass

from dm2_ray.config import Experiment

Bundle = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResources:
    """Resources of a run's processes: driver, rollout workers, evaluation workers, learners, expert actors."""

    experiment: Experiment
    num_learners: int
    """Processes of their own; 0 where agents learn in the driver."""
    num_expert_actors: int

    @property
    def learner(self) -> Bundle:
        """Of each learner."""
        settings = self.experiment.learners
        return {"CPU": settings.cpus_per_learner, "GPU": settings.gpus_per_learner}

    def bundles(self) -> list[Bundle]:
        """Of each process but the driver's, which runs already."""
        settings = self.experiment
        players = settings.rollout.env_runners + settings.evaluation.env_runners
        return [
            *[{"CPU": settings.rollout.cpus_per_env_runner}] * players,
            *[self.learner] * self.num_learners,
            *[{"CPU": settings.demonstrations.cpus_per_expert_actor}] * self.num_expert_actors,
        ]

    # Places in Tune's placement group, where the driver's bundle comes first.

    @property
    def first_rollout_worker(self) -> int:
        return 1

    @property
    def first_evaluation_worker(self) -> int:
        return self.first_rollout_worker + self.experiment.rollout.env_runners

    @property
    def first_learner(self) -> int:
        return self.first_evaluation_worker + self.experiment.evaluation.env_runners

    @property
    def first_expert_actor(self) -> int:
        return self.first_learner + self.num_learners

    def arithmetic(self) -> str:
        """The same in words."""
        settings = self.experiment
        cpus = f"x {settings.rollout.cpus_per_env_runner:g} CPU"
        parts = [f"{settings.rollout.env_runners} rollout workers {cpus}"]
        if (settings.rollout.max_env_runners or 0) > settings.rollout.env_runners:
            parts[0] += f" (up to {settings.rollout.max_env_runners})"
        if settings.evaluation.env_runners:
            parts.append(f"{settings.evaluation.env_runners} evaluation workers {cpus}")
        if self.num_learners:
            gpus = f" + {settings.learners.gpus_per_learner:g} GPU" if settings.learners.gpus_per_learner else ""
            parts.append(f"{self.num_learners} learners x {settings.learners.cpus_per_learner:g} CPU{gpus}")
        if self.num_expert_actors:
            per_expert = settings.demonstrations.cpus_per_expert_actor
            parts.append(f"{self.num_expert_actors} expert actors x {per_expert:g} CPU")
        return ", ".join(parts)
