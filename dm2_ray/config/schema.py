"""Typed settings of a run, section by section.

Every section is a frozen model that rejects unknown keys, wrong types and values out of range when it is built. Each
key is explained once, by the comment above it in configs/defaults.yaml; the defaults here equal the values there (a
test compares them). `dm2_ray.runs.experiment_loading` merges YAML files and command-line overrides into an
`Experiment`. This module imports no other of the package, so that any may import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

REWARD_FORM_NAMES = ("airl", "gail", "log_d", "fairl", "bounded")
"""The forms in dm2_ray.learning.rewards."""
DISCRIMINATOR_INPUT_NAMES = ("state", "state_action", "state_next_state")
"""The inputs in dm2_ray.learning.visitation."""

_FUNCTION_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _name_or_function(names: tuple[str, ...]) -> Callable[[str], str]:
    """A validator that accepts one of these names, or a text of the form package.module:function."""

    def check(value: str) -> str:
        if value in names or _FUNCTION_PATH.fullmatch(value):
            return value
        raise PydanticCustomError("name_or_function", "one of {expected}", {"expected": ", ".join(names)})

    return check


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no silent type coercion, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StarCraftSettings(Section):
    """The real game, for `world.backend` starcraft."""

    path: str | None = None
    max_games: int = Field(4, ge=1)
    launch_timeout_s: float = Field(180.0, gt=0)
    request_timeout_s: float = Field(60.0, gt=0)
    restart_after_episodes: int = Field(300, ge=0)
    memory_limit_gib: float = Field(4.0, ge=0)


class WorldSettings(Section):
    """Which battles are fought, and by which engine."""

    map: str = "3m"
    scenario: dict[str, Any] | None = None
    backend: Literal["embedded", "starcraft"] = "embedded"
    smac: dict[str, Any] = Field(default_factory=dict)
    engine: dict[str, Any] = Field(default_factory=dict)
    starcraft: StarCraftSettings = StarCraftSettings()


class RolloutSettings(Section):
    """How experience is collected. Every rollout consists of whole battles."""

    env_runners: int = Field(1, ge=0)
    max_env_runners: int | None = Field(None, ge=1)
    tasks: int | None = Field(None, ge=1)
    battles_per_env_runner: int = Field(64, ge=1)
    unit: Literal["env_steps", "episodes"] = "env_steps"
    env_steps: int = Field(4096, ge=1)
    episodes: int = Field(256, ge=1)
    cpus_per_env_runner: float = Field(1.0, ge=0)
    timeout_s: float = Field(600.0, gt=0)


class PolicySettings(Section):
    """Networks of one agent; actor and critic are separate and have the same architecture."""

    network: Literal["gru", "mlp"] = "gru"
    hidden_size: int = Field(64, ge=1)
    hidden_layers: int = Field(2, ge=1)
    observe_last_action: bool = True
    observe_agent_id: bool = True
    open_loop: bool = False
    actor_gain: float = Field(0.01, gt=0)
    bptt_steps: int = Field(0, ge=0)


class PPOSettings(Section):
    """PPO of one agent (Wang et al. 2023, arXiv 2206.00233, table of hyper-parameters)."""

    gamma: float = Field(0.99, ge=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)
    lr_actor: float = Field(5e-4, gt=0)
    lr_critic: float = Field(5e-4, gt=0)
    adam_eps: float = Field(1e-5, gt=0)
    epochs: int = Field(10, ge=1)
    minibatches: int = Field(1, ge=1)
    clip: float = Field(0.2, gt=0)
    entropy_coef: float = Field(0.01, ge=0)
    value_coef: float = Field(0.5, ge=0)
    huber_delta: float = Field(10.0, gt=0)
    clip_value_loss: bool = True
    max_grad_norm: float = Field(10.0, gt=0)
    value_normalisation: bool = True


class DiscriminatorSettings(Section):
    """Discriminator of one agent: a network whose input is what the agent itself saw and did."""

    input: Annotated[str, AfterValidator(_name_or_function(DISCRIMINATOR_INPUT_NAMES))] = "state"
    hidden_size: int = Field(64, ge=1)
    hidden_layers: int = Field(2, ge=1)
    lr: float = Field(1e-3, gt=0)
    updates: int = Field(120, ge=0)
    minibatch_episodes: int = Field(64, ge=1)
    gradient_penalty: float = Field(10.0, ge=0)
    penalty_rows: int = Field(128, ge=1)
    spectral_norm: bool = False
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    replay_iterations: int = Field(0, ge=0)
    stop_at_accuracy: float | None = Field(None, gt=0.5, lt=1)


class MatchingSettings(Section):
    """How the discriminator's logit becomes a reward, and how it is combined with the task's reward."""

    reward: Literal["both", "matching", "task"] = "both"
    form: Annotated[str, AfterValidator(_name_or_function(REWARD_FORM_NAMES))] = "airl"
    normalise: bool = False
    coefficient: float = Field(0.3, ge=0)
    anneal_iterations: int = Field(0, ge=0)
    padding: Literal["absorbing", "masked", "paper"] = "absorbing"

    def at(self, iteration: int) -> MatchingSettings:
        """The settings at an iteration, counted from 0: the coefficient falls linearly to 0 and stays there."""
        if self.anneal_iterations == 0:
            return self
        share = max(0.0, 1.0 - iteration / self.anneal_iterations)
        return self.model_copy(update={"coefficient": self.coefficient * share})


class DemonstrationSettings(Section):
    """Where demonstrations come from and which agent gets which."""

    source: Literal["set", "live", "self_imitation"] = "set"
    path: str | None = None
    # Not strict, because a file writes a tuple as a YAML list.
    paths_per_agent: Annotated[tuple[str, ...], Field(strict=False)] = ()
    other_engine: bool = False
    sampling: Literal["concurrent", "non_concurrent"] = "concurrent"
    episodes_per_draw: int = Field(256, ge=1)
    live_greedy: bool = False
    store_episodes: int = Field(1024, ge=1)
    expert_actors: int = Field(1, ge=0)
    cpus_per_expert_actor: float = Field(0.1, ge=0)


class CloningSettings(Section):
    """Behavior cloning of each agent's own expert, before any reinforcement learning."""

    iterations: int = Field(0, ge=0)
    epochs: int = Field(10, ge=1)
    minibatches: int = Field(1, ge=1)
    critic_iterations: int = Field(0, ge=0)

    def is_actor_frozen(self, iteration: int) -> bool:
        """Whether only the critic and the discriminator learn in this iteration; never without cloning."""
        return 0 < self.iterations <= iteration < self.iterations + self.critic_iterations


class DiagnosticsSettings(Section):
    """Measurements of the agents besides their losses."""

    divergence_every: int = Field(10, ge=0)


class LearnerSettings(Section):
    """Where the agents learn. In either case they share nothing."""

    processes: Literal["per_agent", "driver"] = "per_agent"
    cpus_per_learner: float = Field(0.2, ge=0)
    gpus_per_learner: float = Field(0.0, ge=0)
    timeout_s: float = Field(1800.0, gt=0)


class EvaluationSettings(Section):
    """Greedy battles with separate seeds, which never influence the training battles."""

    every_env_steps: int = Field(50_000, ge=0)
    episodes: int = Field(128, ge=1)
    env_runners: int = Field(0, ge=0)


class CheckpointSettings(Section):
    """What is saved, kept and copied."""

    every_iterations: int = Field(10, ge=0)
    keep: int = Field(3, ge=0)
    keep_best: int = Field(1, ge=0)
    uri: str | None = None


class FaultSettings(Section):
    """How long a run waits for lost processes and after SIGTERM."""

    wait_for_resources_s: float = Field(600.0, gt=0)
    stop_grace_s: float = Field(30.0, gt=0)


class StopSettings(Section):
    """When a run ends: at the limit reached first."""

    env_steps: int | None = Field(None, ge=1)
    iterations: int | None = Field(None, ge=1)


class TrackingSettings(Section):
    """Where metrics go besides metrics.jsonl, which is always written."""

    wandb: Literal["online", "offline", "disabled"] = "disabled"
    project: str = "dm2-ray"
    group: str | None = None
    name: str | None = None
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tensorboard: bool = True


class Experiment(Section):
    """All settings of one run."""

    seed: int = Field(0, ge=0)
    variant: str = "dm2"
    algorithm: Literal["dm2", "mappo"] = "dm2"
    world: WorldSettings = WorldSettings()
    rollout: RolloutSettings = RolloutSettings()
    policy: PolicySettings = PolicySettings()
    ppo: PPOSettings = PPOSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    matching: MatchingSettings = MatchingSettings()
    demonstrations: DemonstrationSettings = DemonstrationSettings()
    cloning: CloningSettings = CloningSettings()
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    learners: LearnerSettings = LearnerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    faults: FaultSettings = FaultSettings()
    stop: StopSettings = StopSettings()
    tracking: TrackingSettings = TrackingSettings()
