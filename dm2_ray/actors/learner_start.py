"""How an agent's learner comes to be: its own specs, its own seed, its own place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from dm2_ray.actors.streams import Role, stream_seed

if TYPE_CHECKING:
    from dm2_ray.actors.dm2_config import DM2Config
    from dm2_ray.actors.placement import LearnerPlacement


def learner_factory(
    config: DM2Config, index: int, module_spec: MultiRLModuleSpec, placement: LearnerPlacement | None
) -> Callable[[], Any]:
    """What makes agent `index`'s learner, as often as it is called: a process, or an object of this one.

    Args:
        config: Of the run.
        index: Of the agent.
        module_spec: All agents' modules; the learner gets its own agent's.
        placement: Where learners go; None in Tune's placement group, or where it does not matter.
    """
    agent = config.agent_ids[index]
    own = {agent, config.discriminator_id(agent)}
    specs = {name: spec for name, spec in module_spec.rl_module_specs.items() if name in own}
    in_process = config.experiment.learners.processes == "per_agent"
    own_config = config.copy(copy_frozen=False)
    own_config.learner_placement = None
    own_config.num_learners = 1 if in_process else 0
    own_config.seed = stream_seed(config.experiment.seed, Role.AGENT_INITIALISATION, index) % 2**32
    arguments: dict[str, Any] = {"agent_index": index, "module_spec": MultiRLModuleSpec(rl_module_specs=specs)}
    if not in_process:
        return lambda: own_config.learner_class(config=own_config, **arguments)
    where: dict[str, Any] = {}
    if ray.util.get_current_placement_group() is not None:
        where = {"placement_group_bundle_index": config.learner_bundle_index(index)}
    elif placement is not None:
        where = placement.learner(index)
    settings = config.experiment.learners
    actor = ray.remote(own_config.learner_class).options(
        num_cpus=settings.cpus_per_learner,
        num_gpus=settings.gpus_per_learner,
        max_restarts=-1,
        max_task_retries=0,
        **where,
    )
    # Ray needs the constructor's arguments for as long as it may restart the actor.
    config_ref = ray.put(own_config)
    return lambda: actor.remote(config=config_ref, **arguments)
