"""Annotates a recorded battle with the outputs of the team's networks.

Shapes: T env steps, N agents, O observation size, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.checkpoints import Checkpoint, CheckpointError, TrainedTeam
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.learning.policy import UNAVAILABLE_LOGIT
from dm2_ray.learning.rewards import matching_reward
from dm2_ray.learning.visitation import discriminator_inputs
from dm2_ray.world.viewing.battle_recording import BattleRecording


@torch.no_grad()
def annotate_agents(
    team: TrainedTeam, recording: BattleRecording, observations: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Computes series [T, N] for a recorded battle, each from the agent's own networks.

    Args:
        team: The team that played: a checkpoint, or a packed team, which has only actors.
        recording: The battle.
        observations: [T, N, O] what each agent saw before each step.

    Returns:
        `matching_reward` if the team has discriminators: the reward of every step in the run's form, before
        normalization and coefficient and without the reward for padding; `action_probability` of the action taken;
        `value`, the critic's estimate, if there is a critic that sees no more than the agent.

    Raises:
        CheckpointError: The agents' parameters do not fit the team's configuration.
    """
    experiment = team.experiment()
    run_spec = RunSpec.from_experiment(experiment)
    specs = run_spec.module_specs()
    is_complete = isinstance(team, Checkpoint)
    has_own_critic = is_complete and experiment.algorithm != "mappo"
    steps, agents = recording.actions.shape
    last_actions = np.concatenate([np.full((1, agents), -1), recording.actions[:-1]])
    series: dict[str, list[torch.Tensor]] = {"matching_reward": [], "action_probability": [], "value": []}
    for index in range(agents):
        modules = team.agent_state(index)["modules"]
        agent = f"agent_{index}"
        specs[agent].inference_only = not has_own_critic
        policy = _build(specs[agent], modules, agent, team)
        batch = {
            Columns.OBS: torch.from_numpy(observations[:, index].copy()),
            "last_actions": torch.from_numpy(last_actions[:, index].copy()),
            "action_mask": torch.from_numpy(recording.available[:, index].copy()),
            "batch_sizes": torch.ones(steps, dtype=torch.int64),
        }
        logits, _ = policy.actor(policy.network_inputs(batch), batch["batch_sizes"])
        log_probabilities = torch.log_softmax(logits.masked_fill(~batch["action_mask"], UNAVAILABLE_LOGIT), -1)
        chosen = torch.from_numpy(recording.actions[:, index].copy()).unsqueeze(-1)
        series["action_probability"].append(log_probabilities.gather(-1, chosen).squeeze(-1).exp())
        if has_own_critic:
            series["value"].append(policy.compute_values(batch))
        name = run_spec.discriminator_id(agent)
        if is_complete and name in specs:
            discriminator = _build(specs[name], modules, name, team)
            visited = discriminator_inputs(
                observations[:, index],
                np.array([steps]),
                experiment.matching.padding,
                steps,
                kind=experiment.discriminator.input,
                actions=recording.actions[:, index],
                num_actions=run_spec.num_actions,
            )
            logits = discriminator.forward_train({Columns.OBS: visited.rows})["logits"]
            series["matching_reward"].append(matching_reward(logits[:steps], experiment.matching.form))
    return {name: torch.stack(rows, 1).numpy().astype(np.float32) for name, rows in series.items() if rows}


def _build(spec: RLModuleSpec, modules: Mapping[str, Any], name: str, team: TrainedTeam) -> Any:
    try:
        module = spec.build()
        module.load_state_dict(modules[name])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{team.name}: {name} does not fit its own configuration ({error})") from error
    return module
