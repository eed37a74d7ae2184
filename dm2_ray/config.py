"""Typed experiment configuration: what a run is, key by key.

Every section is a frozen model. An unknown key, a wrong type or a value out of range is refused when the model is
built; `load_experiment` turns such a refusal into one line that names the file, the key and the nearest valid name.
This module is a leaf: it may be imported from every room and imports none of them except the map table.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no silent type coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WorldSettings(Section):
    """Which battles are fought."""

    map: str = "3m"
    backend: Literal["embedded", "starcraft"] = "embedded"
    smac: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments of SMAC's StarCraft2Env that differ from its defaults."""


class RolloutSettings(Section):
    """How experience is collected. Every rollout consists of whole battles."""

    env_runners: int = Field(1, ge=0)
    """Rollout processes; 0 steps the battles in the driver."""
    battles_per_env_runner: int = Field(64, ge=1)
    unit: Literal["env_steps", "episodes"] = "env_steps"
    env_steps: int = Field(4096, ge=1)
    """With unit env_steps: fewest env steps per iteration, over all runners (battles are finished, so a few more)."""
    episodes: int = Field(256, ge=1)
    """With unit episodes: battles per iteration, over all runners, exactly."""
    cpus_per_env_runner: float = Field(1.0, ge=0)
    timeout_s: float = Field(600.0, gt=0)


class PolicySettings(Section):
    """Networks of one agent: actor and critic are separate and of the same shape."""

    network: Literal["gru", "mlp"] = "gru"
    hidden_size: int = Field(64, ge=1)
    hidden_layers: int = Field(2, ge=1)
    observe_last_action: bool = True
    observe_agent_id: bool = True
    actor_gain: float = Field(0.01, gt=0)
    bptt_steps: int = Field(0, ge=0)
    """Length of back-propagation through time; 0 is the whole battle."""


class PPOSettings(Section):
    """PPO of one agent (PAPER.md's table)."""

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
    """Discriminator of one agent: a network on its own observation."""

    hidden_size: int = Field(64, ge=1)
    hidden_layers: int = Field(2, ge=1)
    lr: float = Field(1e-3, gt=0)
    updates: int = Field(120, ge=0)
    """Gradient steps per iteration."""
    minibatch_episodes: int = Field(64, ge=1)
    """Agent episodes and, as many, expert episodes behind one gradient step."""
    gradient_penalty: float = Field(10.0, ge=0)


class MatchingSettings(Section):
    """How the discriminator's logit becomes reward."""

    coefficient: float = Field(0.3, ge=0)
    """c of r = r_env + c * r_match; 0 is IPPO and builds no discriminator."""
    padding: Literal["absorbing", "masked", "paper"] = "masked"
    """What the discriminator sees after a battle's end."""


class DemonstrationSettings(Section):
    """Where demonstrations come from and who gets which."""

    path: str | None = None
    sampling: Literal["concurrent", "non_concurrent"] = "concurrent"
    episodes_per_draw: int = Field(256, ge=1)
    """Joint episodes drawn for one iteration."""
    expert_actors: int = Field(1, ge=0)
    """Serving processes; 0 reads the set in the driver."""
    cpus_per_expert_actor: float = Field(0.1, ge=0)


class LearnerSettings(Section):
    """Where the agents learn."""

    processes: Literal["per_agent", "driver"] = "per_agent"
    """One process per agent, or all learners in the driver (debugging, tests); nothing is shared either way."""
    cpus_per_learner: float = Field(0.2, ge=0)
    gpus_per_learner: float = Field(0.0, ge=0)
    restart_timeout_s: float = Field(120.0, gt=0)


class EvaluationSettings(Section):
    """Greedy battles on seeds of their own; they never touch the training battles."""

    every_env_steps: int = Field(50_000, ge=0)
    """0 evaluates only at the end."""
    episodes: int = Field(128, ge=1)
    env_runners: int = Field(1, ge=0)


class CheckpointSettings(Section):
    """What is kept on disk."""

    every_iterations: int = Field(10, ge=0)
    keep: int = Field(3, ge=0)
    """Newest checkpoints kept; 0 keeps all of them."""


class StopSettings(Section):
    """When a run ends: whichever is reached first; null is no limit."""

    env_steps: int | None = Field(None, ge=1)
    iterations: int | None = Field(None, ge=1)


class TrackingSettings(Section):
    """Who is told about the run. metrics.jsonl is always written."""

    wandb: Literal["online", "offline", "disabled"] = "disabled"
    project: str = "dm2-ray"
    group: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    tensorboard: bool = True


class Experiment(Section):
    """One run, whole."""

    seed: int = Field(0, ge=0)
    variant: str = "dm2"
    world: WorldSettings = WorldSettings()
    rollout: RolloutSettings = RolloutSettings()
    policy: PolicySettings = PolicySettings()
    ppo: PPOSettings = PPOSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    matching: MatchingSettings = MatchingSettings()
    demonstrations: DemonstrationSettings = DemonstrationSettings()
    learners: LearnerSettings = LearnerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    stop: StopSettings = StopSettings()
    tracking: TrackingSettings = TrackingSettings()
